// What a person wants to see of a value: its range, its first elements, the largest ones.

import Apus
import ApusFormats
import ApusTensor

/// The range and the beginning of a tensor.
struct ValueSummary: CustomStringConvertible {
  private(set) var minimum: Double?
  private(set) var maximum: Double?
  private(set) var mean: Double?
  private(set) var notANumber = 0
  private(set) var infinite = 0
  private(set) var first: [String] = []
  private let isWhole: Bool

  /// Elements to show.
  private static let limit = 6

  init(_ tensor: Tensor) {
    isWhole = tensor.count <= ValueSummary.limit
    if let strings = tensor.strings {
      first = strings.prefix(ValueSummary.limit).map { "\"\($0.printable(limit: 60))\"" }
      return
    }
    switch tensor.dataType {
    case .float32: add(tensor, Float.self)
    case .float64: add(tensor, Double.self)
    case .float16: add(tensor, Float16.self)
    case .int64: add(tensor, Int64.self)
    case .int32: add(tensor, Int32.self)
    case .int8: add(tensor, Int8.self)
    case .uint8: add(tensor, UInt8.self)
    case .uint64: add(tensor, UInt64.self)
    default: add(tensor.doubles) { $0 }
    }
  }

  private mutating func add<Element: TensorElement & BinaryInteger>(_ tensor: Tensor, _: Element.Type) {
    add(tensor.elements(as: Element.self) ?? []) { Double($0) }
  }

  private mutating func add<Element: TensorElement & BinaryFloatingPoint>(_ tensor: Tensor, _: Element.Type) {
    add(tensor.elements(as: Element.self) ?? []) { Double($0) }
  }

  @inline(__always)
  private mutating func add<Element>(_ elements: [Element], _ number: (Element) -> Double) {
    var (least, most, sum, finite, nan) = (Double.infinity, -Double.infinity, 0.0, 0, 0)
    for element in elements {
      let value = number(element)
      if value.isFinite {
        (least, most, sum, finite) = (min(least, value), max(most, value), sum + value, finite + 1)
      } else if value.isNaN {
        nan += 1
      }
    }
    if finite > 0 { (minimum, maximum, mean) = (least, most, sum / Double(finite)) }
    (notANumber, infinite) = (nan, elements.count - finite - nan)
    first = elements.prefix(ValueSummary.limit).map { ValueText.format(number($0)) }
  }

  var description: String {
    var text = ""
    if let minimum, let maximum, let mean {
      text = "min \(ValueText.format(minimum)), max \(ValueText.format(maximum)), mean \(ValueText.format(mean))  "
    }
    if notANumber > 0 { text += "\(notANumber) NaN  " }
    if infinite > 0 { text += "\(infinite) infinite  " }
    return text + "[" + first.joined(separator: ", ") + (isWhole ? "]" : "…]")
  }

  /// The figures; what there is none of is left out.
  func write(to writer: inout JSONWriter) throws {
    writer.beginObject()
    if infinite > 0 {
      writer.key("infinite")
      writer.number(infinite)
    }
    for (key, value) in [("maximum", maximum), ("mean", mean), ("minimum", minimum)] {
      guard let value else { continue }
      writer.key(key)
      writer.number(value)
    }
    if notANumber > 0 {
      writer.key("not_a_number")
      writer.number(notANumber)
    }
    try writer.endObject()
  }
}

/// One of the largest elements of a row.
struct TopElement: CustomStringConvertible {
  var index: Int
  var score: Double
  var label: String?

  var description: String { "\(index)  \(ValueText.format(score))" + (label.map { "  \($0.printable())" } ?? "") }

  /// Rows to look at.
  private static let maximumRows = 16

  /// The largest elements of each row along the last axis, of a float tensor; nil for others. Equal ones stand in their
  /// order, what is no number comes last. At most 16 rows.
  static func rows(of tensor: Tensor, count: Int, labels: [String]) -> [[TopElement]]? {
    guard tensor.dataType.isFloat, tensor.rank > 0, let width = tensor.shape.last, width > 0 else { return nil }
    let numbers = tensor.doubles
    return (0..<min(numbers.count / width, maximumRows)).map { row in
      let elements = numbers[row * width..<(row + 1) * width].map { $0.isNaN ? -Double.infinity : $0 }
      let order = elements.indices.sorted { elements[$0] == elements[$1] ? $0 < $1 : elements[$0] > elements[$1] }
      return order.prefix(count).map { index in
        TopElement(index: index, score: numbers[row * width + index], label: index < labels.count ? labels[index] : nil)
      }
    }
  }

  /// A list for each row.
  static func write(_ rows: [[TopElement]], to writer: inout JSONWriter) throws {
    writer.beginArray()
    for row in rows {
      writer.element()
      writer.beginArray()
      for element in row {
        writer.element()
        writer.beginObject()
        writer.key("index")
        writer.number(element.index)
        if let label = element.label {
          writer.key("label")
          writer.string(label)
        }
        writer.key("score")
        writer.number(element.score)
        try writer.endObject()
      }
      try writer.endArray()
    }
    try writer.endArray()
  }
}

enum ValueText {
  /// Six significant digits, without a needless fraction.
  static func format(_ number: Double) -> String {
    if number == number.rounded(), abs(number) < 1e15 { return String(Int(number)) }
    guard number.isFinite else { return "\(number)" }
    let magnitude = abs(number)
    if magnitude >= 1e6 || magnitude < 1e-4 {
      return Float(number).isFinite ? Float(number).description : number.description
    }
    var digits = 6
    var scale = magnitude
    while scale >= 1, digits > 1 {
      scale /= 10
      digits -= 1
    }
    let power = (0..<digits).reduce(1.0) { result, _ in result * 10 }
    let rounded = (number * power).rounded() / power
    return "\(Float(rounded))"
  }

  /// A container in one line.
  static func describe(_ value: Value) -> String {
    switch value {
    case .tensor(let tensor): return "\(tensor.dataType)\(tensor.shape) \(ValueSummary(tensor))"
    case .sequence(let elements, _):
      return "[" + elements.prefix(4).map(describe).joined(separator: "; ") + (elements.count > 4 ? "; …]" : "]")
    case .optional(let content, _): return content.map(describe) ?? "empty"
    case .map(let map):
      let keys = map.keys.strings ?? map.keys.integers?.map(String.init) ?? []
      let entries = zip(keys, map.values).prefix(8).map { key, value in
        let number = value.tensor.flatMap { $0.doubles.first.map(format) }
        return "\(key.printable(limit: 60)): \(number ?? describe(value))"
      }
      return "{" + entries.joined(separator: ", ") + (keys.count > 8 ? ", …}" : "}")
    }
  }
}
