// The expressions that extents have in exported programs, as sympy prints them: `2*s0 + 1`, or
// `Add(Integer(1), Mul(Integer(2), Symbol('s0', positive=True, integer=True)))`.

import ApusContainers
import ApusGraph

/// Reads an expression as an extent. What it cannot express is unknown, which says nothing wrong.
struct TorchExpression {
  private let text: [UInt8]
  private var position = 0
  private var depth = 0

  private static let maximumDepth = 64
  private static let maximumBytes = 1 << 16

  private init(_ text: String) { self.text = Array(text.utf8) }

  static func dim(_ text: String) -> Dim {
    if text.utf8.count > maximumBytes { return .unknown }
    var reader = TorchExpression(text)
    guard let value = reader.sum(), reader.next() == nil else { return .unknown }
    return value
  }

  private mutating func next() -> UInt8? {
    while position < text.count, text[position] == UInt8(ascii: " ") { position += 1 }
    return position < text.count ? text[position] : nil
  }

  private mutating func take(_ character: Character) -> Bool {
    guard let byte = next(), byte == character.asciiValue else { return false }
    position += 1
    return true
  }

  private mutating func sum() -> Dim? {
    depth += 1
    defer { depth -= 1 }
    if depth > Self.maximumDepth { return nil }
    guard var total = product() else { return nil }
    while true {
      if take("+") {
        guard let term = product() else { return nil }
        total = total + term
      } else if take("-") {
        guard let term = product() else { return nil }
        total = total - term
      } else {
        return total
      }
    }
  }

  private mutating func product() -> Dim? {
    guard var total = power() else { return nil }
    while next() == UInt8(ascii: "*") || next() == UInt8(ascii: "/") {
      let isProduct = take("*")
      if !isProduct {
        position += 1
        guard take("/") else { return nil }  // a true quotient is no extent
      }
      guard let factor = power() else { return nil }
      total = isProduct ? total * factor : total.dividedRoundingDown(by: factor)
    }
    return total
  }

  private mutating func power() -> Dim? {
    guard let base = atom() else { return nil }
    guard position + 1 < text.count, text[position] == UInt8(ascii: "*"), text[position + 1] == UInt8(ascii: "*") else {
      return base
    }
    position += 2
    guard let exponent = atom()?.known, (0...8).contains(exponent) else { return nil }
    return (0..<exponent).reduce(Dim(1)) { value, _ in value * base }
  }

  private mutating func atom() -> Dim? {
    if take("-") {
      depth += 1
      defer { depth -= 1 }
      if depth > Self.maximumDepth { return nil }
      return atom().map { Dim(0) - $0 }
    }
    if take("(") {
      guard let value = sum(), take(")") else { return nil }
      return value
    }
    guard let first = next() else { return nil }
    if first >= UInt8(ascii: "0"), first <= UInt8(ascii: "9") { return number().map { Dim($0) } }
    guard let name = word() else { return nil }
    return take("(") ? call(name) : .symbol(name)
  }

  private mutating func number() -> Int? {
    let start = position
    while position < text.count, text[position] >= UInt8(ascii: "0"), text[position] <= UInt8(ascii: "9") {
      position += 1
    }
    return Int(String(decoding: text[start..<position], as: UTF8.self))
  }

  private mutating func word() -> String? {
    let start = position
    while position < text.count, isWord(text[position]) { position += 1 }
    return position > start ? String(decoding: text[start..<position], as: UTF8.self) : nil
  }

  private func isWord(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "."):
      true
    default: false
    }
  }

  /// What a function makes of its arguments; the parenthesis is read.
  private mutating func call(_ name: String) -> Dim? {
    if name == "Symbol" { return symbol() }
    if name == "Integer", next() == UInt8(ascii: "-") {
      position += 1
      guard let value = number(), take(")") else { return nil }
      return Dim(-value)
    }
    var arguments: [Dim] = []
    while !take(")") {
      if !arguments.isEmpty, !take(",") { return nil }
      guard let value = sum() else { return nil }
      arguments.append(value)
    }
    guard let first = arguments.first else { return nil }
    switch (name.split(separator: ".").last.map(String.init) ?? name, arguments.count) {
    case ("Integer", 1), ("ToFloat", 1), ("TruncToInt", 1), ("Identity", 1): return first
    case ("Add", _): return arguments.dropFirst().reduce(first, +)
    case ("Mul", _): return arguments.dropFirst().reduce(first, *)
    case ("Max", _): return arguments.dropFirst().reduce(first) { .max($0, $1) }
    case ("Min", _): return arguments.dropFirst().reduce(first) { .min($0, $1) }
    case ("FloorDiv", 2), ("CleanDiv", 2): return first.dividedRoundingDown(by: arguments[1])
    case ("CeilDiv", 2): return first.dividedRoundingUp(by: arguments[1])
    case ("Mod", 2), ("PythonMod", 2):
      return first - first.dividedRoundingDown(by: arguments[1]) * arguments[1]
    case ("Pow", 2):
      guard let exponent = arguments[1].known, (0...8).contains(exponent) else { return nil }
      return (0..<exponent).reduce(Dim(1)) { value, _ in value * first }
    default: return nil
    }
  }

  /// `'s0', positive=True, integer=True)`.
  private mutating func symbol() -> Dim? {
    guard take("'"), let name = word(), take("'") else { return nil }
    while position < text.count, text[position] != UInt8(ascii: ")") { position += 1 }
    return take(")") ? .symbol(name) : nil
  }
}
