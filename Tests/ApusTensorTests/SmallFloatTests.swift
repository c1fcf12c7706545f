// Small floats: every code there and back, ties, saturation; packed elements of every width.

import ApusTensor
import Testing

@Suite struct SmallFloatTests {
  private static let types: [DataType] = [
    .float8e4m3fn, .float8e4m3fnuz, .float8e5m2, .float8e5m2fnuz, .float6e2m3, .float6e3m2, .float4e2m1,
  ]

  @Test(arguments: types) func codesRoundTrip(_ type: DataType) throws {
    let format = try #require(SmallFloat(type))
    for code in 0..<(1 << type.bits) {
      let value = format.decode(UInt8(code))
      if value.isNaN { continue }
      #expect(format.encode(value, saturate: false) == UInt8(code), "\(type) \(code) \(value)")
    }
  }

  /// Between neighbouring codes: the nearer one, and from the middle the even one.
  @Test(arguments: types) func rounding(_ type: DataType) throws {
    let format = try #require(SmallFloat(type))
    for code in 0..<format.largestCode {
      let (low, high) = (format.decode(code), format.decode(code + 1))
      let middle = low + (high - low) / 2
      #expect(format.encode(middle) == code + code % 2)
      #expect(format.encode(middle.nextDown) == code)
      #expect(format.encode(middle.nextUp) == code + 1)
      if code > 0 { #expect(format.encode(-middle.nextUp) == (code + 1) | format.signCode) }
    }
  }

  @Test func limits() {
    #expect(SmallFloat.e4m3fn.largest == 448)
    #expect(SmallFloat.e4m3fnuz.largest == 240)
    #expect(SmallFloat.e5m2.largest == 57344)
    #expect(SmallFloat.e5m2fnuz.largest == 57344)
    #expect(SmallFloat.e2m3.largest == 7.5)
    #expect(SmallFloat.e3m2.largest == 28)
    #expect(SmallFloat.e2m1.largest == 6)
  }

  @Test func overflowAndSpecials() {
    #expect(SmallFloat.e4m3fn.encode(.infinity) == 0x7E)
    #expect(SmallFloat.e4m3fn.encode(-.infinity, saturate: false) == 0xFF)
    #expect(SmallFloat.e4m3fn.encode(464, saturate: false) == 0x7E)
    #expect(SmallFloat.e4m3fn.encode(Float(464).nextUp, saturate: false) == 0x7F)
    #expect(SmallFloat.e5m2.encode(1e6, saturate: false) == 0x7C)
    #expect(SmallFloat.e5m2.encode(-1e6) == 0xFB)
    #expect(SmallFloat.e5m2.encode(.nan) == 0x7E)
    #expect(SmallFloat.e4m3fnuz.encode(-0.0) == 0)
    #expect(SmallFloat.e4m3fnuz.encode(.nan) == 0x80)
    #expect(SmallFloat.e5m2fnuz.encode(-1e9, saturate: false) == 0x80)
    #expect(SmallFloat.e2m1.encode(1e9, saturate: false) == 7)
    #expect(SmallFloat.e5m2.decode(0xFC) == -.infinity)
  }

  @Test func powersOfTwo() {
    for code in 0..<255 { #expect(PowerOfTwoFloat.encode(PowerOfTwoFloat.decode(UInt8(code))) == UInt8(code)) }
    #expect(PowerOfTwoFloat.decode(255).isNaN)
    #expect(PowerOfTwoFloat.encode(1.1) == 128)
    #expect(PowerOfTwoFloat.encode(1.1, rounding: .down) == 127)
    #expect(PowerOfTwoFloat.encode(1.5, rounding: .nearest) == 128)
    #expect(PowerOfTwoFloat.encode(Float(1.5).nextDown, rounding: .nearest) == 127)
    #expect(PowerOfTwoFloat.encode(0) == 0)
    #expect(PowerOfTwoFloat.encode(0, saturate: false) == 255)
    #expect(PowerOfTwoFloat.encode(.infinity) == 254)
    #expect(PowerOfTwoFloat.encode(.greatestFiniteMagnitude) == 254)
    #expect(PowerOfTwoFloat.encode(.greatestFiniteMagnitude, saturate: false) == 255)
    #expect(PowerOfTwoFloat.encode(0x1.8p-127, rounding: .nearest) == 1)
    #expect(PowerOfTwoFloat.encode(0x1.4p-127, rounding: .nearest) == 0)
    #expect(PowerOfTwoFloat.encode(0x1.4p-127, rounding: .up) == 1)
  }

  @Test(arguments: [2, 4, 6]) func packedElements(_ bits: Int) {
    let codes = (0..<23).map { UInt8(truncatingIfNeeded: $0 &* 37) & (1 << UInt8(bits) - 1) }
    var bytes = [UInt8](repeating: 0xFF, count: (23 * bits + 7) / 8 + 1)
    bytes.withUnsafeMutableBytes { PackedElements.pack(codes, 23, bits: bits, $0.baseAddress!, at: 0) }
    #expect(bytes.last == 0xFF)
    bytes.withUnsafeMutableBytes { buffer in
      let base = buffer.baseAddress!
      for (index, code) in codes.enumerated() { #expect(PackedElements.load(base, bits: bits, at: index) == code) }
      for start in 0..<9 {
        var out = [UInt8](repeating: 0, count: 14)
        PackedElements.unpack(base, bits: bits, from: start, &out, 14)
        #expect(out == Array(codes[start..<start + 14]))
      }
      PackedElements.store(1, base, bits: bits, at: 5)
      #expect(PackedElements.load(base, bits: bits, at: 5) == 1)
      #expect(PackedElements.load(base, bits: bits, at: 4) == codes[4])
      #expect(PackedElements.load(base, bits: bits, at: 6) == codes[6])
    }
    #expect(PackedElements.integer(UInt8(1 << bits - 1), bits: bits, isSigned: true) == -1)
  }
}
