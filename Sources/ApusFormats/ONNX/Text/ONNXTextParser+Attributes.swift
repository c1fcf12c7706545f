// Attributes in ONNX's text syntax: their types are written, or told from their values.

import ApusTensor

/// The types of attributes: a single value has one, a list of such values another.
private enum AttributeForm: Int, CaseIterable {
  case float = 1
  case int, string, tensor, graph
  case sparseTensor = 11
  case type = 13

  /// The fields for one value and for several.
  var fields: (single: String, list: String) {
    switch self {
    case .float: ("f", "floats")
    case .int: ("i", "ints")
    case .string: ("s", "strings")
    case .tensor: ("t", "tensors")
    case .graph: ("g", "graphs")
    case .sparseTensor: ("sparse_tensor", "sparse_tensors")
    case .type: ("tp", "type_protos")
    }
  }

  /// The number of the type of lists.
  var listType: Int {
    switch self {
    case .float, .int, .string, .tensor, .graph: rawValue + 5
    case .sparseTensor, .type: rawValue + 1
    }
  }
}

extension ONNXTextParser {
  /// What follows the name of an attribute, which is the innermost message: `: ints = [1, 2]`, `= "a"`, `= @b`.
  mutating func attribute(_ name: [UInt8], _ text: Text) throws(LoadError) {
    try put("name", name)
    var type = 0
    if take(":", text) {
      _ = cursor.next(text)
      let start = cursor.position
      let word = try word(text, "the type of the attribute")
      guard let number = ONNXTextNames.attributeTypes.firstIndex(of: word) else {
        throw cursor.error(
          text, "the type of an attribute was expected; found '\(word)'", at: start,
          remedy: "Types are " + ONNXTextNames.attributeTypes.dropFirst().joined(separator: ", "))
      }
      type = number
    }
    try expect("=", text)
    if take("@", text) {
      try put("ref_attr_name", self.name(text, "the name of an attribute of the function"))
    } else if nextIs("[", text) {
      type = try values(type, text)
    } else {
      let form = try form(of: type, text)
      try value(form, form.fields.single, text)
      type = form.rawValue
    }
    if type != 0 { try put("type", Int64(type)) }
  }

  /// A list. Returns the type of the attribute.
  private mutating func values(_ type: Int, _ text: Text) throws(LoadError) -> Int {
    let start = cursor.position
    var form = AttributeForm.allCases.first { $0.listType == type }
    if type != 0, form == nil {
      throw cursor.error(
        text, "the attribute is of the type \(ONNXTextNames.attributeTypes[type]); found a list", at: start)
    }
    try list("[", "]", text) { (parser) throws(LoadError) in
      if form == nil { form = try parser.inferred(text) }
      if let form { try parser.value(form, form.fields.list, text) }
    }
    guard let form else {
      throw cursor.error(text, "an empty list needs a type, as in 'axes: ints = []'", at: start)
    }
    return form.listType
  }

  /// The type of a single value: the one that is written, or the one that the value looks like.
  private func form(of type: Int, _ text: Text) throws(LoadError) -> AttributeForm {
    if type == 0 { return try inferred(text) }
    guard let form = AttributeForm(rawValue: type) else {
      throw cursor.error(text, expected: "a list of the type \(ONNXTextNames.attributeTypes[type])")
    }
    return form
  }

  private func inferred(_ text: Text) throws(LoadError) -> AttributeForm {
    if nextIs("\"", text) { return .string }
    let word = peekWord(text)
    if word == "sparse_tensor" {
      var ahead = self
      _ = try ahead.word(text, "")
      return ahead.nextIs("[", text) ? .sparseTensor : .type
    }
    if ONNXTextNames.elementType(word) != nil || ONNXTextNames.typeWords.contains(word) {
      // A type, or a tensor that begins with its type. A copy looks ahead; it ends at the type.
      var ahead = TypeReader(cursor: cursor, limits: limits)
      _ = try ahead.type(text, depth: 0)
      let next = ahead.cursor.next(text)
      let isTensor =
        next.map { $0.isWord || $0 == 0x22 || [UInt8(ascii: "{"), UInt8(ascii: "="), UInt8(ascii: "[")].contains($0) }
      return isTensor == true ? .tensor : .type
    }
    if ["inf", "infinity", "nan"].contains(word.lowercased()) { return .float }
    if !word.isEmpty { return .graph }
    return try isFloat(text) ? .float : .int
  }

  /// True if the number that comes next has a point, an exponent or a name.
  private func isFloat(_ text: Text) throws(LoadError) -> Bool {
    var cursor = cursor
    _ = cursor.take(UInt8(ascii: "-"), text)
    _ = cursor.next(text)
    let range = cursor.number(text)
    if range.isEmpty { throw cursor.error(text, expected: "the value of an attribute") }
    return !range.allSatisfy { text[$0].isDigit }
  }

  private mutating func value(_ form: AttributeForm, _ name: String, _ text: Text) throws(LoadError) {
    switch form {
    case .float: try builder.float(field(name), float(text))
    case .int: try put(name, integer(text, "an integer of 64 bits"))
    case .string: try put(name, string(text, "a string"))
    case .type: try put(name, type(text))
    case .graph:
      try open(name, text)
      try graph(text)
      builder.close()
    case .tensor:
      try open(name, text)
      try namedTensor(text)
      builder.close()
    case .sparseTensor:
      try open(name, text)
      try sparseTensor(text)
      builder.close()
    }
  }

  /// A type, a name if there is one, and elements.
  private mutating func namedTensor(_ text: Text) throws(LoadError) {
    _ = cursor.next(text)
    let start = cursor.position
    let type = try type(text)
    if let name = try optionalName(text) { try put("name", name) }
    _ = take("=", text)
    try tensor(type, text, at: start)
  }

  private mutating func sparseTensor(_ text: Text) throws(LoadError) {
    if try word(text, "'sparse_tensor'") != "sparse_tensor" { throw cursor.error(text, expected: "'sparse_tensor'") }
    try list("[", "]", text) { (parser) throws(LoadError) in
      try parser.put("dims", parser.integer(text, "an extent"))
    }
    var parts = ["values", "indices"][...]
    try list("(", ")", text) { (parser) throws(LoadError) in
      guard let part = parts.popFirst() else { throw parser.cursor.error(text, expected: "')'") }
      try parser.open(part, text)
      try parser.namedTensor(text)
      parser.builder.close()
    }
  }

  /// A number, an infinity or NaN.
  mutating func float(_ text: Text) throws(LoadError) -> Float {
    try number(text, { Float($0) }, DecimalText.float)
  }

  mutating func double(_ text: Text) throws(LoadError) -> Double {
    try number(text, { $0 }, DecimalText.double)
  }

  private mutating func number<Value: BinaryFloatingPoint>(
    _ text: Text, _ convert: (Double) -> Value, _ parse: (Text, Range<Int>) -> Value?
  ) throws(LoadError) -> Value {
    let isNegative = take("-", text)
    _ = cursor.next(text)
    let start = cursor.position
    let range = cursor.number(text)
    var value = parse(text, range)
    if value == nil {
      if cursor.isWord(text, range, "nan") { value = convert(.nan) }
      if cursor.isWord(text, range, "inf") || cursor.isWord(text, range, "infinity") { value = convert(.infinity) }
    }
    guard let value else {
      cursor.position = start
      throw cursor.error(text, expected: "a number")
    }
    return isNegative ? -value : value
  }
}
