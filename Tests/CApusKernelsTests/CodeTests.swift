// Codes of 8 bits and less: packing and unpacking against the bits, small floats against the nearest of all their
// numbers.

import CApusKernels
import Testing

@Suite struct CodeTests {
  private static let counts = Array(0...70) + [127, 128, 129, 511, 1003]

  private func code(_ bytes: Buffer<UInt8>, bits: Int, at index: Int) -> UInt8 {
    (0..<bits).reduce(0) { code, bit in
      let place = index * bits + bit
      return code | (bytes[place / 8] >> UInt8(place % 8) & 1) << UInt8(bit)
    }
  }

  @Test(arguments: levels.indices) func unpacking(level: Int) {
    let k = levels[level]
    var numbers = Numbers(61)
    for bits in [2, 4, 6] {
      for n in Self.counts {
        let x = Buffer<UInt8>((n * bits + 7) / 8) { _ in UInt8(truncatingIfNeeded: numbers.next()) }
        let y = Buffer<UInt8>(n, repeating: 0xaa)
        k.unpack_codes(n, x.base, Int32(bits), false, y.base)
        #expect(y.array == (0..<n).map { code(x, bits: bits, at: $0) }, "\(k.label) \(bits) \(n)")
        k.unpack_codes(n, x.base, Int32(bits), true, y.base)
        let signed = (0..<n).map { index -> UInt8 in
          let code = code(x, bits: bits, at: index)
          return code >> UInt8(bits - 1) == 0 ? code : code | ~UInt8(1 << bits - 1)
        }
        #expect(y.array == signed, "\(k.label) \(bits) \(n) with sign")
      }
    }
  }

  @Test(arguments: levels.indices) func packing(level: Int) {
    let k = levels[level]
    var numbers = Numbers(62)
    for bits in [2, 4, 6] {
      for n in Self.counts {
        let x = Buffer<UInt8>(n) { _ in UInt8(truncatingIfNeeded: numbers.next()) }
        let y = Buffer<UInt8>((n * bits + 7) / 8, repeating: 0xaa)
        let mask = UInt8(1 << bits - 1)
        for form in [APUS_CODE_LOW_BITS, APUS_CODE_UNSIGNED, APUS_CODE_SIGNED] {
          k.pack_codes(n, x.base, Int32(bits), form, y.base)
          let expected = x.array.map { byte -> UInt8 in
            switch form {
            case APUS_CODE_UNSIGNED: min(byte, mask)
            case APUS_CODE_SIGNED:
              UInt8(bitPattern: max(-1 << (bits - 1), min(1 << (bits - 1) - 1, Int8(bitPattern: byte)))) & mask
            default: byte & mask
            }
          }
          #expect((0..<n).map { code(y, bits: bits, at: $0) } == expected, "\(k.label) \(bits) \(n) \(form)")
          // What lies behind the last code.
          if n * bits % 8 != 0 { #expect(y[y.count - 1] >> UInt8(n * bits % 8) == 0) }
        }
      }
    }
  }

  @Test(arguments: levels.indices) func tables(level: Int) {
    let k = levels[level]
    var numbers = Numbers(63)
    let table = numbers.floats(256)
    for n in Self.counts {
      let x = Buffer<UInt8>(n) { _ in UInt8(truncatingIfNeeded: numbers.next()) }
      let y = Buffer<Float>(n, repeating: 0)
      k.codes_to_f32(n, x.base, table.base, y.base)
      #expect(y.array == x.array.map { table[Int($0)] }, "\(k.label) \(n)")
    }
  }

  /// sign, four bits of exponent with a bias of 7, three of fraction; 0x7f is NaN, and what is too large.
  private static let format = apus_small_float(
    dropped: 20, offset: 120 << 3, least_normal: 121 << 23, subnormals: 0x1p9, largest: 0x7e, sign: 0x80,
    beyond_keeps: 0x80, beyond: 0x7f, nan_keeps: 0x80, nan: 0x7f, zero_keeps: 0x80)

  private static let positives: [Double] = (0..<0x7f).map { code in
    let (exponent, fraction) = (code >> 3, Double(code & 7))
    let unit = Double(sign: .plus, exponent: max(exponent, 1) - 10, significand: 1)
    return (exponent == 0 ? fraction : fraction + 8) * unit
  }

  /// The nearest number by comparing with all; half way between two the even one.
  private func nearest(_ x: Float) -> UInt8 {
    let sign: UInt8 = x.sign == .minus ? 0x80 : 0
    if x.isNaN { return sign | 0x7f }
    let magnitude = Double(x.magnitude)
    // As if there were a next number, 480, which means NaN here.
    if magnitude > 464 { return sign | 0x7f }
    var best = 0
    for code in Self.positives.indices {
      let (distance, least) = (abs(Self.positives[code] - magnitude), abs(Self.positives[best] - magnitude))
      if distance < least || (distance == least && code % 2 == 0) { best = code }
    }
    return sign | UInt8(best)
  }

  @Test(arguments: levels.indices) func smallFloats(level: Int) {
    let k = levels[level]
    var numbers = Numbers(64)
    var format = Self.format
    let edges: [Float] =
      Self.positives.flatMap { [Float($0), Float($0).nextUp, Float($0).nextDown] }
      + zip(Self.positives, Self.positives.dropFirst()).flatMap { a, b -> [Float] in
        let half = Float((a + b) / 2)
        return [half, half.nextUp, half.nextDown]
      } + [.nan, .infinity, 464, Float(464).nextUp, 448, 1e30, 1e-40, .leastNonzeroMagnitude]
    let all = edges + edges.map { -$0 } + (0..<1000).map { _ in numbers.float() * 600 }
    for n in Self.counts + [all.count] where n <= all.count {
      let x = Buffer<Float>(n) { all[n == all.count ? $0 : numbers.below(all.count)] }
      let y = Buffer<UInt8>(n, repeating: 0)
      k.f32_to_codes(n, x.base, y.base, &format)
      let wrong = (0..<n).first { y[$0] != nearest(x[$0]) }
      #expect(wrong == nil, "\(k.label) \(n): \(wrong.map { "\(x[$0]) gives \(y[$0])" } ?? "")")
    }
  }

  /// What is too large, NaN and zeros in formats that have none of these.
  @Test(arguments: levels.indices) func specialCodes(level: Int) {
    let k = levels[level]
    var format = Self.format
    (format.beyond, format.nan_keeps, format.nan, format.zero_keeps) = (0x7e, 0, 0x80, 0)
    let x = Buffer<Float>(6) { [-0.0, .nan, -.infinity, 1e9, -1e-9, -1][$0] }
    let y = Buffer<UInt8>(6, repeating: 0)
    k.f32_to_codes(6, x.base, y.base, &format)
    #expect(y.array == [0, 0x80, 0xfe, 0x7e, 0, 0xb8])
  }
}
