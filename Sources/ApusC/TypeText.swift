// Types of values in the spelling that onnxruntime made common: "seq(tensor(float))".

import Apus
import CApus

enum TypeText {
  /// Containers in containers beyond this depth are refused.
  private static let maximumDepth = 16

  /// The type, without shapes.
  static func text(of type: ValueType) -> String {
    switch type {
    case .tensor(let dataType, _): "tensor(\(name(of: dataType)))"
    case .sequence(let element): "seq(\(text(of: element)))"
    case .optional(let element): "optional(\(text(of: element)))"
    case .map(let key, let value): "map(\(name(of: key)),\(text(of: value)))"
    }
  }

  /// The type that `text` spells.
  static func type(of text: String) throws(ArgumentError) -> ValueType {
    guard let type = parse(text.filter { $0 != " " }, depth: 0) else {
      throw ArgumentError(
        "'\(text)' is no type; expected one as in tensor(float), seq(tensor(int64)), map(string,tensor(float))")
    }
    return type
  }

  private static func name(of type: DataType) -> String {
    switch type {
    case .float32: "float"
    case .float64: "double"
    default: type.description
    }
  }

  private static func dataType(named name: String) -> DataType? {
    switch name {
    case "float": .float32
    case "double": .float64
    default: DataType(name: name)
    }
  }

  private static func parse(_ text: String, depth: Int) -> ValueType? {
    guard depth < maximumDepth, text.hasSuffix(")"), let open = text.firstIndex(of: "(") else { return nil }
    let content = String(text[text.index(after: open)...].dropLast())
    switch text[..<open] {
    case "tensor": return dataType(named: content).map { .tensor($0, nil) }
    case "seq": return parse(content, depth: depth + 1).map { .sequence($0) }
    case "optional": return parse(content, depth: depth + 1).map { .optional($0) }
    case "map":
      guard let comma = content.firstIndex(of: ","), let key = dataType(named: String(content[..<comma])),
        let value = parse(String(content[content.index(after: comma)...]), depth: depth + 1)
      else { return nil }
      return .map(key: key, value: value)
    default: return nil
    }
  }
}

/// The kind of a value that C knows; of none, APUS_UNKNOWN.
func kind(of type: ValueType?) -> Int32 {
  let kind =
    switch type {
    case nil: APUS_UNKNOWN
    case .tensor: APUS_TENSOR
    case .sequence: APUS_SEQUENCE
    case .map: APUS_MAP
    case .optional: APUS_OPTIONAL
    }
  return Int32(kind)
}
