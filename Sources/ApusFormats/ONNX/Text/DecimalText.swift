// Decimal texts as numbers, rounded correctly: a short way for those whose digits and power of ten are exact as
// float64, else the way of the standard library.

/// The number in a range of a text, which has no sign: `12`, `1.5e-3`.
enum DecimalText {
  /// Powers of ten that float64 holds exactly.
  private static let powers: [Double] = (0...22).map { exponent in
    (0..<exponent).reduce(1.0) { value, _ in value * 10 }
  }

  static func float(_ text: Span<UInt8>, _ range: Range<Int>) -> Float? {
    if let value = short(text, range) {
      // A float64 between two float32 may have been rounded from either side of the middle; small ones lose bits.
      let isMiddle = value.bitPattern & 0x1FFF_FFFF == 0x1000_0000
      if !isMiddle, value == 0 || value >= Double(Float.leastNormalMagnitude), value < 1e38 { return Float(value) }
    }
    return isPlain(text, range) ? Float(string(text, range)) : nil
  }

  static func double(_ text: Span<UInt8>, _ range: Range<Int>) -> Double? {
    short(text, range) ?? (isPlain(text, range) ? Double(string(text, range)) : nil)
  }

  static func unsigned(_ text: Span<UInt8>, _ range: Range<Int>) -> UInt64? {
    if range.isEmpty { return nil }
    var value: UInt64 = 0
    for index in range {
      guard text[index].isDigit else { return nil }
      let (product, overflow) = value.multipliedReportingOverflow(by: 10)
      let (sum, carry) = product.addingReportingOverflow(UInt64(text[index] - 0x30))
      if overflow || carry { return nil }
      value = sum
    }
    return value
  }

  /// Digits with at most one point, and an exponent; nil for anything else, and for what must be rounded.
  private static func short(_ text: Span<UInt8>, _ range: Range<Int>) -> Double? {
    var mantissa: UInt64 = 0
    var (digits, fraction, exponent) = (0, 0, 0)
    var (hasPoint, hasDigit) = (false, false)
    var position = range.lowerBound
    while position < range.upperBound, text[position] | 0x20 != UInt8(ascii: "e") {
      let byte = text[position]
      position += 1
      if byte == UInt8(ascii: "."), !hasPoint {
        hasPoint = true
        continue
      }
      guard byte.isDigit else { return nil }
      hasDigit = true
      mantissa = mantissa * 10 + UInt64(byte - 0x30)
      if mantissa > 0 { digits += 1 }
      if digits > 17 { return nil }
      if hasPoint { fraction += 1 }
    }
    if position < range.upperBound {
      guard let written = self.exponent(text, position + 1..<range.upperBound) else { return nil }
      exponent = written
    }
    let power = exponent - fraction
    guard hasDigit, mantissa <= 1 << 53, power >= -22, power <= 22 else { return nil }
    return power < 0 ? Double(mantissa) / powers[-power] : Double(mantissa) * powers[power]
  }

  private static func exponent(_ text: Span<UInt8>, _ range: Range<Int>) -> Int? {
    var range = range
    var isNegative = false
    if let first = range.first, text[first] == UInt8(ascii: "+") || text[first] == UInt8(ascii: "-") {
      isNegative = text[first] == UInt8(ascii: "-")
      range = first + 1..<range.upperBound
    }
    guard range.count <= 4, let value = unsigned(text, range) else { return nil }
    return isNegative ? -Int(value) : Int(value)
  }

  /// True for decimal digits, points, signs and exponents; the standard library also reads hexadecimal and words.
  private static func isPlain(_ text: Span<UInt8>, _ range: Range<Int>) -> Bool {
    guard let first = range.first, text[first].isDigit || text[first] == UInt8(ascii: ".") else { return false }
    for index in range {
      let byte = text[index]
      guard byte.isDigit || byte | 0x20 == UInt8(ascii: "e") || [0x2B, 0x2D, 0x2E].contains(byte) else { return false }
    }
    return true
  }

  private static func string(_ text: Span<UInt8>, _ range: Range<Int>) -> String {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(range.count)
    for index in range { bytes.append(text[index]) }
    return String(decoding: bytes, as: UTF8.self)
  }
}
