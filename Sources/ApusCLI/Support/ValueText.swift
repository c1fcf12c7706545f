// What a person wants to see of a value: its range, its first elements, the largest ones.

import Apus
import ApusTensor

/// The range and the beginning of a tensor.
struct ValueSummary: Encodable, CustomStringConvertible {
  var minimum: Double?
  var maximum: Double?
  var mean: Double?
  var notANumber: Int?
  var infinite: Int?
  var first: [String]

  init(_ tensor: Tensor) {
    let limit = 6
    if let strings = tensor.strings {
      first = strings.prefix(limit).map { "\"\($0)\"" }
      return
    }
    let numbers = ValueText.doubles(tensor)
    first = numbers.prefix(limit).map(ValueText.format)
    let finite = numbers.filter(\.isFinite)
    minimum = finite.min()
    maximum = finite.max()
    mean = finite.isEmpty ? nil : finite.reduce(0, +) / Double(finite.count)
    let nan = numbers.count { $0.isNaN }
    let infinite = numbers.count { $0.isInfinite }
    if nan > 0 { notANumber = nan }
    if infinite > 0 { self.infinite = infinite }
  }

  var description: String {
    var text = ""
    if let minimum, let maximum, let mean {
      text = "min \(ValueText.format(minimum)), max \(ValueText.format(maximum)), mean \(ValueText.format(mean))  "
    }
    if let notANumber { text += "\(notANumber) NaN  " }
    if let infinite { text += "\(infinite) infinite  " }
    return text + "[" + first.joined(separator: ", ") + "…]"
  }
}

/// One of the largest elements of a row.
struct TopElement: Encodable, CustomStringConvertible {
  var index: Int
  var score: Double
  var label: String?

  var description: String { "\(index)  \(ValueText.format(score))" + (label.map { "  \($0)" } ?? "") }

  /// The largest elements of each row along the last axis, of a float tensor; nil for others. At most 16 rows.
  static func rows(of tensor: Tensor, count: Int, labels: [String]) -> [[TopElement]]? {
    guard tensor.dataType.isFloat, tensor.rank > 0, let width = tensor.shape.last, width > 0 else { return nil }
    let numbers = ValueText.doubles(tensor)
    return (0..<min(tensor.count / width, 16)).map { row in
      let elements = numbers[row * width..<(row + 1) * width]
      let order = elements.indices.sorted { elements[$0] == elements[$1] ? $0 < $1 : elements[$0] > elements[$1] }
      return order.prefix(count).map { position in
        let index = position - row * width
        return TopElement(index: index, score: numbers[position], label: index < labels.count ? labels[index] : nil)
      }
    }
  }
}

enum ValueText {
  /// Six significant digits, without a needless fraction.
  static func format(_ number: Double) -> String {
    if number == number.rounded(), abs(number) < 1e15 { return String(Int(number)) }
    guard number.isFinite else { return "\(number)" }
    let magnitude = abs(number)
    if magnitude >= 1e6 || magnitude < 1e-4 { return Float(number).description }
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

  /// The elements as Double. Integers beyond 2^53 lose their last digits.
  static func doubles(_ tensor: Tensor) -> [Double] {
    switch tensor.dataType {
    case .float32: tensor.elements(as: Float.self)?.map(Double.init) ?? []
    case .float64: tensor.elements(as: Double.self) ?? []
    case .float16: tensor.elements(as: Float16.self)?.map(Double.init) ?? []
    case .bfloat16: tensor.elements(as: BFloat16.self)?.map { Double($0.float) } ?? []
    default: tensor.integers?.map(Double.init) ?? []
    }
  }

  /// A container in one line.
  static func describe(_ value: Value) -> String {
    switch value {
    case .tensor(let tensor): return "\(tensor.dataType)\(tensor.shape) \(ValueSummary(tensor))"
    case .sequence(let elements, _): return "[" + elements.prefix(4).map(describe).joined(separator: "; ") + (elements.count > 4 ? "; …]" : "]")
    case .optional(let content, _): return content.map(describe) ?? "empty"
    case .map(let map):
      let keys = map.keys.strings ?? map.keys.integers?.map(String.init) ?? []
      return "{" + zip(keys, map.values).prefix(8).map { key, value in
        "\(key): \(value.tensor.map { ValueText.doubles($0).first.map(format) ?? describe(value) } ?? describe(value))"
      }.joined(separator: ", ") + "}"
    }
  }
}
