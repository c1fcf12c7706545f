// What a JSON value is, for those who read files of a known form.

extension JSONValue {
  package var isNull: Bool { if case .null = self { true } else { false } }
  package var flag: Bool? { if case .bool(let flag) = self { flag } else { nil } }
  package var text: String? { if case .string(let text) = self { text } else { nil } }
  package var elements: [JSONValue]? { if case .array(let elements) = self { elements } else { nil } }
  package var members: [(key: String, value: JSONValue)]? {
    if case .object(let members) = self { members } else { nil }
  }

  /// A number that is written as an integer.
  package var integer: Int? { if case .number(let text) = self { Int(text) } else { nil } }

  package subscript(key: String) -> JSONValue? { members?.first { $0.key == key }?.value }
}
