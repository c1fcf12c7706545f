// Types and the elements of tensors in ONNX's text syntax.

import ApusTensor

/// Reads types, and nothing else: so a copy of it can look ahead at little cost.
struct TypeReader {
  var cursor: TextCursor
  let limits: LoadLimits

  /// `float[N,3]`, `float` (no axes), `float[]` (unknown rank), `seq(…)`, `map(int64, …)`, `optional(…)`,
  /// `sparse_tensor(float[3])`, `opaque(domain, name)`.
  mutating func type(_ text: Span<UInt8>, depth: Int) throws(LoadError) -> TypeProto {
    if depth >= min(limits.maximumNesting, TextCursor.maximumDepth) { throw cursor.tooDeep(text, limits) }
    _ = cursor.next(text)
    let start = cursor.position
    let range = cursor.identifier(text)
    let word = range.count > 64 ? "" : cursor.string(text, range)
    if let number = elementType(word) { return .tensor(elementType: number, shape: try shape(text)) }
    guard ONNXTextNames.typeWords.contains(word) else {
      cursor.position = start
      throw cursor.error(text, expected: "a type, as 'float[2,N]',")
    }
    try cursor.expect("(", text)
    let result: TypeProto
    switch word {
    case "seq": result = .sequence(try optional(text, depth))
    case "optional": result = .optional(try optional(text, depth))
    case "map":
      let key = try keyType(text)
      try cursor.expect(",", text)
      result = .map(keyType: key, value: try optional(text, depth))
    case "sparse_tensor":
      let element = try keyType(text)
      result = .sparseTensor(elementType: element, shape: try shape(text))
    default: result = try opaque(text)
    }
    try cursor.expect(")", text)
    return result
  }

  private func elementType(_ word: String) -> Int32? { word == "undefined" ? 0 : ONNXTextNames.elementType(word) }

  /// The type before ')', which may be missing.
  private mutating func optional(_ text: Span<UInt8>, _ depth: Int) throws(LoadError) -> TypeProto? {
    cursor.next(text) == UInt8(ascii: ")") ? nil : try type(text, depth: depth + 1)
  }

  private mutating func keyType(_ text: Span<UInt8>) throws(LoadError) -> Int32 {
    let start = cursor.position
    let range = cursor.identifier(text)
    guard range.count <= 64, let number = elementType(cursor.string(text, range)) else {
      cursor.position = start
      throw cursor.error(text, expected: "the name of an element type, as 'int64',")
    }
    return number
  }

  private mutating func opaque(_ text: Span<UInt8>) throws(LoadError) -> TypeProto {
    var parts = [""]
    while cursor.next(text) != UInt8(ascii: ")") {
      let range = cursor.identifier(text)
      if !range.isEmpty {
        parts[parts.count - 1] += cursor.string(text, range)
      } else if cursor.take(UInt8(ascii: "."), text) {
        parts[parts.count - 1] += "."
      } else if parts.count == 1, cursor.take(UInt8(ascii: ","), text) {
        parts.append("")
      } else {
        throw cursor.error(text, expected: "')'")
      }
    }
    return parts.count == 1 ? .opaque(domain: "", name: parts[0]) : .opaque(domain: parts[0], name: parts[1])
  }

  /// The shape of a tensor; nil for `[]`.
  private mutating func shape(_ text: Span<UInt8>) throws(LoadError) -> [TypeProto.Dimension]? {
    if cursor.next(text) != UInt8(ascii: "[") || isEntries(text) { return [] }
    cursor.position += 1
    if cursor.take(UInt8(ascii: "]"), text) { return nil }
    var dims: [TypeProto.Dimension] = []
    repeat { dims.append(try dimension(text)) } while cursor.take(UInt8(ascii: ","), text)
    if !cursor.take(UInt8(ascii: "]"), text) { throw cursor.error(text, expected: "',' or ']' in a shape") }
    return dims
  }

  /// True if `[` begins keys and values, as of external data behind a tensor without axes.
  private func isEntries(_ text: Span<UInt8>) -> Bool {
    var ahead = cursor
    ahead.position += 1
    guard ahead.next(text) == 0x22 else { return false }
    guard let end = endOfString(text, ahead.position) else { return false }
    ahead.position = end
    return ahead.next(text) == UInt8(ascii: ":")
  }

  private func endOfString(_ text: Span<UInt8>, _ start: Int) -> Int? {
    var position = start + 1
    while position < text.count {
      if text[position] == 0x22 { return position + 1 }
      position += text[position] == 0x5C ? 2 : 1
    }
    return nil
  }

  private mutating func dimension(_ text: Span<UInt8>) throws(LoadError) -> TypeProto.Dimension {
    guard let first = cursor.next(text) else { throw cursor.error(text, expected: "an extent") }
    if first == UInt8(ascii: "?") {
      cursor.position += 1
      return .unknown
    }
    if first == 0x22 {
      guard let end = endOfString(text, cursor.position) else {
        throw cursor.error(text, "the string has no end", at: cursor.position)
      }
      var name: [UInt8] = []
      var position = cursor.position + 1
      while position < end - 1 {
        if text[position] == 0x5C { position += 1 }
        name.append(text[position])
        position += 1
      }
      cursor.position = end
      return .parameter(String(decoding: name, as: UTF8.self))
    }
    let name = cursor.identifier(text)
    if !name.isEmpty { return .parameter(cursor.string(text, name)) }
    let isNegative = cursor.take(UInt8(ascii: "-"), text)
    let start = cursor.position
    guard let value = DecimalText.unsigned(text, cursor.number(text)), value <= UInt64(Int64.max) else {
      cursor.position = start
      throw cursor.error(text, expected: "an extent: a number, a name or '?',")
    }
    return .value(isNegative ? -Int(value) : Int(value))
  }
}

extension ONNXTextParser {
  mutating func type(_ text: Text) throws(LoadError) -> TypeProto {
    var reader = TypeReader(cursor: cursor, limits: limits)
    let type = try reader.type(text, depth: 0)
    cursor = reader.cursor
    return type
  }

  /// The type before a name, if there is one. A name may be a word of types: then nothing follows it that a type needs.
  mutating func optionalType(_ text: Text) throws(LoadError) -> TypeProto? {
    let word = peekWord(text)
    guard ONNXTextNames.elementType(word) != nil || ONNXTextNames.typeWords.contains(word) || word == "undefined" else {
      return nil
    }
    return try type(text)
  }

  /// The elements of a tensor, which is the innermost message: `{1, 2}`, or where they lie: `["location": "a"]`.
  mutating func tensor(_ type: TypeProto, _ text: Text, at start: Int) throws(LoadError) {
    guard case .tensor(let number, let shape?) = type, let dataType = DataType(rawValue: number) else {
      throw cursor.error(text, "the type of a tensor with all its extents was expected", at: start)
    }
    for dim in shape {
      guard case .value(let extent) = dim else {
        throw cursor.error(text, "a shape of numbers was expected; the tensor has \(dim)", at: start)
      }
      try put("dims", Int64(extent))
    }
    try put("data_type", Int64(number))
    if nextIs("[", text) {
      try entries("external_data", text)
      return try put("data_location", 1)
    }
    if !nextIs("{", text) { throw cursor.error(text, expected: "'{' before the elements of a tensor") }
    let elements = TextElements(dataType)
    let field = field(elements.field)
    var count = 0
    try expect("{", text)
    if !take("}", text) {
      repeat {
        try element(elements.form, field, text)
        count += 1
      } while take(",", text)
      if !take("}", text) { throw cursor.error(text, expected: "',' or '}' in the elements of a tensor") }
    }
    let extents = Shape(shape.map { if case .value(let extent) = $0 { extent } else { 0 } })
    guard let all = extents.checkedElementCount, let expected = TextElements.count(dataType, elements: all),
      count == expected
    else {
      throw cursor.error(
        text, "the tensor of the shape \(extents) has \(count) number\(count == 1 ? "" : "s"), which do not fit it",
        at: start)
    }
  }

  private mutating func element(_ form: TextElements.Form, _ field: Int, _ text: Text) throws(LoadError) {
    switch form {
    case .float: try builder.float(field, float(text))
    case .double: try builder.double(field, double(text))
    case .string: try builder.data(field, string(text, "a string"))
    case .int64: try builder.varint(field, UInt64(bitPattern: integer(text, "an integer of 64 bits")))
    case .uint64:
      _ = cursor.next(text)
      let start = cursor.position
      guard let value = DecimalText.unsigned(text, cursor.number(text)) else {
        cursor.position = start
        throw cursor.error(text, expected: "an integer from 0 to 2^64 - 1")
      }
      try builder.varint(field, value)
    case .int32:
      let start = cursor.position
      let value = try integer(text, "an integer of 32 bits")
      if Int32(exactly: value) == nil {
        throw cursor.error(text, "an integer of 32 bits was expected; found \(value)", at: start)
      }
      try builder.varint(field, UInt64(bitPattern: value))
    }
  }
}
