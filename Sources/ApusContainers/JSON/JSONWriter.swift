// JSON (RFC 8259), written as it is produced: members on lines of their own, indented by two spaces.

/// Writes one JSON value. Between `begin…` and `end…` a container gets its members in the order of the calls.
package struct JSONWriter {
  /// Takes the text, a part at a time.
  package typealias Sink = ([UInt8]) throws(LoadError) -> Void

  private let sink: Sink
  private var pending: [UInt8] = []
  /// The number of members so far of each container that is open, the outermost first.
  private var counts: [Int] = []
  private static let partBytes = 1 << 16
  /// Deeper lines are not indented further.
  private static let maximumIndentation = 64

  package init(to sink: @escaping Sink) { self.sink = sink }

  /// Ends the text with a line end and hands over what is left of it.
  package mutating func finish() throws(LoadError) {
    pending.append(UInt8(ascii: "\n"))
    try sink(pending)
    pending = []
  }

  package mutating func beginObject() { begin("{") }
  package mutating func beginArray() { begin("[") }
  package mutating func endObject() throws(LoadError) { try end("}") }
  package mutating func endArray() throws(LoadError) { try end("]") }

  private mutating func begin(_ bracket: Unicode.Scalar) {
    pending.append(UInt8(ascii: bracket))
    counts.append(0)
  }

  private mutating func end(_ bracket: Unicode.Scalar) throws(LoadError) {
    let count = counts.popLast() ?? 0
    if count > 0 { newLine() }
    pending.append(UInt8(ascii: bracket))
    try handOver()
  }

  private mutating func handOver() throws(LoadError) {
    if pending.count < Self.partBytes { return }
    try sink(pending)
    pending.removeAll(keepingCapacity: true)
  }

  /// Begins the next member of an array; its value follows.
  package mutating func element() {
    guard let last = counts.indices.last else { return }
    if counts[last] > 0 { pending.append(UInt8(ascii: ",")) }
    counts[last] += 1
    newLine()
  }

  /// Begins the next member of an object; its value follows.
  package mutating func key(_ name: String) {
    element()
    string(name)
    pending += " : ".utf8
  }

  private mutating func newLine() {
    pending.append(UInt8(ascii: "\n"))
    pending.append(contentsOf: repeatElement(UInt8(ascii: " "), count: min(counts.count * 2, Self.maximumIndentation)))
  }

  /// A value that is valid JSON already.
  package mutating func raw(_ text: String) { pending += text.utf8 }

  package mutating func number(_ value: Int) { raw(String(value)) }

  package mutating func number(_ value: Double) { value.appendJSON(to: &pending) }

  /// A short array of numbers, on one line.
  package mutating func numbers(_ values: [Int]) { raw("[" + values.map(String.init).joined(separator: ", ") + "]") }

  package mutating func string(_ text: String) { text.appendJSON(to: &pending) }

  /// The members of an array, all on one line.
  mutating func row<Element: JSONElement>(_ elements: ArraySlice<Element>) throws(LoadError) {
    pending.append(UInt8(ascii: "["))
    var isFirst = true
    for element in elements {
      if !isFirst { pending += ", ".utf8 }
      isFirst = false
      element.appendJSON(to: &pending)
      try handOver()
    }
    pending.append(UInt8(ascii: "]"))
  }

  mutating func scalar(_ element: some JSONElement) { element.appendJSON(to: &pending) }
}

/// What can be an element of a tensor in JSON.
protocol JSONElement {
  func appendJSON(to text: inout [UInt8])
}

extension JSONElement where Self: FixedWidthInteger {
  func appendJSON(to text: inout [UInt8]) { text += description.utf8 }
}

extension JSONElement where Self: BinaryFloatingPoint & CustomStringConvertible {
  /// The shortest decimal that reads back as the same number; what is no number is one of three strings.
  func appendJSON(to text: inout [UInt8]) {
    if isFinite {
      text += description.utf8
    } else {
      text += (isNaN ? "\"NaN\"" : self > 0 ? "\"Infinity\"" : "\"-Infinity\"").utf8
    }
  }
}

extension Int8: JSONElement {}
extension Int16: JSONElement {}
extension Int32: JSONElement {}
extension Int64: JSONElement {}
extension UInt8: JSONElement {}
extension UInt16: JSONElement {}
extension UInt32: JSONElement {}
extension UInt64: JSONElement {}
extension Float16: JSONElement {}
extension Float: JSONElement {}
extension Double: JSONElement {}

extension Bool: JSONElement {
  func appendJSON(to text: inout [UInt8]) { text += (self ? "true" : "false").utf8 }
}

extension String: JSONElement {
  func appendJSON(to text: inout [UInt8]) {
    text.append(UInt8(ascii: "\""))
    for byte in utf8 {
      switch byte {
      case UInt8(ascii: "\""): text += "\\\"".utf8
      case UInt8(ascii: "\\"): text += "\\\\".utf8
      case UInt8(ascii: "\n"): text += "\\n".utf8
      case UInt8(ascii: "\r"): text += "\\r".utf8
      case UInt8(ascii: "\t"): text += "\\t".utf8
      case 0..<0x20, 0x7F:
        let digits = String(byte, radix: 16)
        text += ("\\u" + String(repeating: "0", count: 4 - digits.utf8.count) + digits).utf8
      default: text.append(byte)
      }
    }
    text.append(UInt8(ascii: "\""))
  }
}
