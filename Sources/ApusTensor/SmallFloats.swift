// The floats of a byte or less: one code to float32 and back, with the rounding and saturation of ONNX's Cast.
// OCP 8-bit Floating Point (OFP8), OCP Microscaling Formats 1.0 (E8M0, E2M3, E3M2, E2M1), arXiv 2206.02915 (the FNUZ
// forms).

/// One of the float formats of 8, 6 or 4 bits with a sign: sign, exponent, fraction, from the highest bit down.
package struct SmallFloat: Sendable, Hashable {
  /// What the highest codes stand for.
  package enum Special: Sendable {
    /// The last exponent holds infinity and NaN, as in IEEE 754.
    case infinityAndNaN
    /// Only the last code of each sign is NaN; there is no infinity.
    case lastCodeIsNaN
    /// The code of negative zero is NaN; there is neither infinity nor negative zero.
    case negativeZeroIsNaN
    /// Every code is a finite number.
    case none
  }

  package let exponentBits: Int
  package let fractionBits: Int
  package let bias: Int
  package let special: Special

  package static let e4m3fn = SmallFloat(exponentBits: 4, fractionBits: 3, bias: 7, special: .lastCodeIsNaN)
  package static let e4m3fnuz = SmallFloat(exponentBits: 4, fractionBits: 3, bias: 8, special: .negativeZeroIsNaN)
  package static let e5m2 = SmallFloat(exponentBits: 5, fractionBits: 2, bias: 15, special: .infinityAndNaN)
  package static let e5m2fnuz = SmallFloat(exponentBits: 5, fractionBits: 2, bias: 16, special: .negativeZeroIsNaN)
  package static let e2m3 = SmallFloat(exponentBits: 2, fractionBits: 3, bias: 1, special: .none)
  package static let e3m2 = SmallFloat(exponentBits: 3, fractionBits: 2, bias: 3, special: .none)
  package static let e2m1 = SmallFloat(exponentBits: 2, fractionBits: 1, bias: 1, special: .none)

  /// The format of an element type; nil for every other type and for float8e8m0, which has no sign.
  package init?(_ type: DataType) {
    switch type {
    case .float8e4m3fn: self = .e4m3fn
    case .float8e4m3fnuz: self = .e4m3fnuz
    case .float8e5m2: self = .e5m2
    case .float8e5m2fnuz: self = .e5m2fnuz
    case .float6e2m3: self = .e2m3
    case .float6e3m2: self = .e3m2
    case .float4e2m1: self = .e2m1
    default: return nil
    }
  }

  private init(exponentBits: Int, fractionBits: Int, bias: Int, special: Special) {
    self.exponentBits = exponentBits
    self.fractionBits = fractionBits
    self.bias = bias
    self.special = special
  }

  /// The bit of the sign.
  package var signCode: UInt8 { 1 << UInt8(exponentBits + fractionBits) }

  /// The code of the largest finite number.
  package var largestCode: UInt8 {
    switch special {
    case .infinityAndNaN: signCode - UInt8(1 << fractionBits) - 1
    case .lastCodeIsNaN: signCode - 2
    case .negativeZeroIsNaN, .none: signCode - 1
    }
  }

  /// The largest finite number.
  package var largest: Float { decode(largestCode) }

  /// The value of a code; NaN keeps its sign. Bits above the format are ignored.
  package func decode(_ code: UInt8) -> Float {
    let magnitude = Int(code & (signCode - 1))
    let isNegative = code & signCode != 0
    switch special {
    case .infinityAndNaN where magnitude > Int(largestCode):
      if magnitude > Int(largestCode) + 1 { return isNegative ? -Float.nan : .nan }
      return isNegative ? -.infinity : .infinity
    case .lastCodeIsNaN where magnitude > Int(largestCode): return isNegative ? -Float.nan : .nan
    case .negativeZeroIsNaN where isNegative && magnitude == 0: return -Float.nan
    default: break
    }
    let exponent = magnitude >> fractionBits
    let fraction = Float(magnitude & ((1 << fractionBits) - 1))
    let unit = Float(sign: .plus, exponent: max(exponent, 1) - bias - fractionBits, significand: 1)
    let value = (exponent == 0 ? fraction : fraction + Float(1 << fractionBits)) * unit
    return isNegative ? -value : value
  }

  /// The code nearest to `value`, ties to even. What is too large becomes the largest number if `saturate` is set, else
  /// infinity or NaN, as far as the format has one. NaN in a format without NaN is a zero.
  package func encode(_ value: Float, saturate: Bool = true) -> UInt8 {
    let bits = value.bitPattern
    let sign = bits >> 31 == 0 ? 0 : signCode
    let magnitude = bits & 0x7FFF_FFFF
    if magnitude > 0x7F80_0000 {
      switch special {
      case .infinityAndNaN: return sign | (largestCode + 3)
      case .lastCodeIsNaN: return sign | (largestCode + 1)
      case .negativeZeroIsNaN: return signCode
      case .none: return sign ^ signCode
      }
    }
    var code: UInt32
    if magnitude < UInt32(128 - bias) << 23 {
      // Below the smallest normal number the codes are equidistant. Adding 2^23 rounds to an integer in the low bits.
      let scaled = Float(bitPattern: magnitude) * Float(sign: .plus, exponent: bias - 1 + fractionBits, significand: 1)
      code = (scaled + 8_388_608).bitPattern & 0x3F_FFFF
    } else {
      let shift = UInt32(23 - fractionBits)
      let odd = (magnitude >> shift) & 1
      code = ((magnitude + (1 << (shift - 1)) - 1 + odd) >> shift) - UInt32(127 - bias) << UInt32(fractionBits)
    }
    if code > UInt32(largestCode) {
      if saturate || special == .none { return sign | largestCode }
      return special == .negativeZeroIsNaN ? signCode : sign | (largestCode + 1)
    }
    if code == 0 && special == .negativeZeroIsNaN { return 0 }
    return sign | UInt8(truncatingIfNeeded: code)
  }
}

/// float8e8m0: a power of two from 2^-127 to 2^127, or NaN; no sign, no zero.
package enum PowerOfTwoFloat {
  package enum Rounding: String, Sendable, CaseIterable { case nearest, up, down }

  package static let largestCode: UInt8 = 254
  package static let nan: UInt8 = 255

  package static func decode(_ code: UInt8) -> Float {
    if code == nan { return .nan }
    return code == 0 ? Float(bitPattern: 0x40_0000) : Float(bitPattern: UInt32(code) << 23)
  }

  /// The power of two for |value|, rounded as stated (`nearest`: ties up). What lies outside the range, zero and
  /// infinity included, becomes the end of the range if `saturate` is set, else NaN.
  package static func encode(_ value: Float, saturate: Bool = true, rounding: Rounding = .up) -> UInt8 {
    let magnitude = value.bitPattern & 0x7FFF_FFFF
    if magnitude > 0x7F80_0000 { return nan }
    if magnitude == 0x7F80_0000 { return saturate ? largestCode : nan }
    if magnitude < 0x40_0000 { return saturate ? 0 : nan }
    // As a normal number of twice the size, so that the smallest power of two is no special case.
    let isSubnormal = magnitude < 0x80_0000
    let bits = isSubnormal ? (Float(bitPattern: magnitude) * 2).bitPattern : magnitude
    let fraction = bits & 0x7F_FFFF
    var exponent = Int(bits >> 23) - (isSubnormal ? 1 : 0)
    switch rounding {
    case .up: exponent += fraction > 0 ? 1 : 0
    case .nearest: exponent += fraction >= 0x40_0000 ? 1 : 0
    case .down: break
    }
    if exponent > Int(largestCode) { return saturate ? largestCode : nan }
    return UInt8(exponent)
  }
}

/// The values of all codes of a float type of 8 bits or less, for loops that look them up.
package struct SmallFloatTable: @unchecked Sendable {
  // `@unchecked Sendable`: the memory is written here once, never freed, and only read afterwards.
  package let values: UnsafePointer<Float>

  private init(_ decode: (UInt8) -> Float) {
    let table = UnsafeMutablePointer<Float>.allocate(capacity: 256)
    for code in 0..<256 { (table + code).initialize(to: decode(UInt8(code))) }
    values = UnsafePointer(table)
  }

  private static let e4m3fn = SmallFloatTable(SmallFloat.e4m3fn.decode)
  private static let e4m3fnuz = SmallFloatTable(SmallFloat.e4m3fnuz.decode)
  private static let e5m2 = SmallFloatTable(SmallFloat.e5m2.decode)
  private static let e5m2fnuz = SmallFloatTable(SmallFloat.e5m2fnuz.decode)
  private static let e2m3 = SmallFloatTable(SmallFloat.e2m3.decode)
  private static let e3m2 = SmallFloatTable(SmallFloat.e3m2.decode)
  private static let e2m1 = SmallFloatTable(SmallFloat.e2m1.decode)
  private static let e8m0 = SmallFloatTable(PowerOfTwoFloat.decode)

  /// The table of an element type; nil if it is none of 8, 6 or 4 bits. Codes are extended by zero bits.
  package static func table(of type: DataType) -> SmallFloatTable? {
    switch type {
    case .float8e4m3fn: e4m3fn
    case .float8e4m3fnuz: e4m3fnuz
    case .float8e5m2: e5m2
    case .float8e5m2fnuz: e5m2fnuz
    case .float6e2m3: e2m3
    case .float6e3m2: e3m2
    case .float4e2m1: e2m1
    case .float8e8m0: e8m0
    default: nil
    }
  }
}
