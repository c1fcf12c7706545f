// Numbers to strings and back, as Cast does it: the shortest digits that identify a number, "inf", "nan". Floats are
// plain decimal numbers with at least one digit behind the point, never with an exponent.

import ApusGraph
import ApusTensor

/// A kernel that writes numbers as strings.
func castToStrings() -> PreparedKernel {
  .eager { inputs, context throws(OperatorError) in
    let input = try inputs.tensor(0)
    try context.check(allocating: input.count, of: MemoryLayout<String>.stride)
    return [.tensor(try context.tensor(strings: try numberStrings(input), shape: input.shape))]
  }
}

/// The elements of a tensor of any type as strings.
func numberStrings(_ tensor: Tensor) throws(OperatorError) -> [String] {
  if let strings = tensor.strings { return strings }
  switch tensor.dataType {
  case .bool: return (tensor.integers ?? []).map { $0 == 0 ? "False" : "True" }
  case .uint64: return (tensor.elements(as: UInt64.self) ?? []).map { "\($0)" }
  case .float64: return (tensor.elements(as: Double.self) ?? []).map { plainDecimal("\($0)") }
  case .float16: return (tensor.elements(as: Float16.self) ?? []).map { plainDecimal("\($0)") }
  default: break
  }
  guard let lane = Lane(tensor.dataType), let load = Lane.load(tensor.dataType) else {
    throw .unsupported("\(tensor.dataType) cannot become strings")
  }
  let count = tensor.count
  if lane == .float32 {
    let numbers = [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
      if let base = buffer.baseAddress { load(tensor.base, 0, base, count) }
      initialized = count
    }
    return numbers.map { plainDecimal("\($0)") }
  }
  let numbers = [Int64](unsafeUninitializedCapacity: count) { buffer, initialized in
    if let base = buffer.baseAddress { load(tensor.base, 0, base, count) }
    initialized = count
  }
  return numbers.map { "\($0)" }
}

/// The number in `description` (Swift's: the shortest digits, perhaps with an exponent) without an exponent.
private func plainDecimal(_ description: String) -> String {
  let isNegative = description.hasPrefix("-")
  let parts = description.drop { $0 == "-" }.split(separator: "e")
  let mantissa = parts[0].split(separator: ".", omittingEmptySubsequences: false)
  // "inf" and "nan" have neither a point nor an exponent; that of a NaN with a payload is left out.
  if mantissa[0].hasPrefix("nan") || mantissa[0].hasPrefix("snan") { return "nan" }
  guard parts.count > 1, let exponent = Int(parts[1]) else { return description }
  let digits = mantissa.joined()
  // The value is 0.d1d2… times ten to the power of `point`.
  let point = mantissa[0].count + exponent
  let sign = isNegative ? "-" : ""
  if point <= 0 { return sign + "0." + String(repeating: "0", count: -point) + trimmedZeros(digits) }
  if point >= digits.count { return sign + digits + String(repeating: "0", count: point - digits.count) + ".0" }
  return sign + digits.prefix(point) + "." + trimmedZeros(String(digits.dropFirst(point)))
}

/// Digits without the zeros at their end; one zero stays.
private func trimmedZeros(_ digits: String) -> String {
  var rest = digits[...]
  while rest.count > 1 && rest.last == "0" { rest.removeLast() }
  return String(rest)
}

/// A kernel that reads strings as numbers of type `to`.
func castFromStrings(to: DataType, _ rounding: CastRounding) -> PreparedKernel {
  .eager { inputs, context throws(OperatorError) in
    let input = try inputs.tensor(0)
    let strings = input.strings ?? []
    let result = try context.allocate(to, input.shape)
    let target = result.storage.base
    if to == .bool {
      // As in NumPy: what is not empty is true.
      for (index, text) in strings.enumerated() {
        target.storeBytes(of: text.isEmpty ? 0 : 1, toByteOffset: index, as: UInt8.self)
      }
    } else if to.isInteger {
      let numbers = try parse(strings, to) { parseInteger($0, to) }
      write(numbers, with: Lane.int64.store(to), target)
    } else {
      let numbers = try parse(strings, to, parseFloat)
      write(numbers, with: Lane.float64.store(to, rounding), target)
    }
    return [.tensor(result)]
  }
}

private func write<Number>(_ numbers: [Number], with store: LaneStore?, _ target: UnsafeMutableRawPointer) {
  numbers.withUnsafeBytes { bytes in
    if let base = bytes.baseAddress { store?(base, target, 0, numbers.count) }
  }
}

private func parse<Number>(
  _ strings: [String], _ type: DataType, _ convert: (Substring) -> Number?
) throws(OperatorError) -> [Number] {
  var numbers: [Number] = []
  numbers.reserveCapacity(strings.count)
  for (index, text) in strings.enumerated() {
    guard let number = convert(trimmed(text)) else {
      throw .mismatch("element \(index) is '\(text.prefix(64))'; expected a number of type \(type)")
    }
    numbers.append(number)
  }
  return numbers
}

private func trimmed(_ text: String) -> Substring {
  var rest = text[...]
  while let first = rest.first, first.isWhitespace { rest.removeFirst() }
  while let last = rest.last, last.isWhitespace { rest.removeLast() }
  return rest
}

/// A decimal number with or without exponent, or infinity or NaN in any case of letters.
private func parseFloat(_ text: Substring) -> Double? {
  let allowed = text.utf8.allSatisfy { byte in
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."),
      UInt8(ascii: "e"), UInt8(ascii: "E"):
      true
    default: false
    }
  }
  if allowed { return Double(text) }
  let name = text.lowercased()
  let unsigned = name.hasPrefix("+") || name.hasPrefix("-") ? String(name.dropFirst()) : name
  switch unsigned {
  case "inf", "infinity": return name.hasPrefix("-") ? -.infinity : .infinity
  case "nan": return .nan
  default: return nil
  }
}

/// The bits of an integer that fits `type`. Of a number with a fraction, the integer part.
private func parseInteger(_ text: Substring, _ type: DataType) -> UInt64? {
  if type == .uint64 {
    if let number = UInt64(text) { return number }
  } else if let number = Int64(text) {
    let (low, high): (Int64, Int64) =
      type.isSignedInteger
      ? (Int64.min >> Int64(64 - type.bits), Int64.max >> Int64(64 - type.bits))
      : (0, 1 << Int64(type.bits) - 1)
    return number >= low && number <= high ? UInt64(bitPattern: number) : nil
  }
  guard let number = parseFloat(text), number.magnitude < 9e15 else { return nil }
  let whole = number.rounded(.towardZero)
  let isPlainInteger = !text.contains(".") && !text.lowercased().contains("e")
  return isPlainInteger ? nil : parseInteger("\(Int64(whole))", type)
}
