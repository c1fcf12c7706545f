// Models in ONNX's own text syntax (onnxtxt) as wire bytes: what onnx.parser reads, and all that onnx.printer and
// ONNXTextPrinter write. https://github.com/onnx/onnx/blob/main/docs/Syntax.md

import ApusTensor

/// Parses one text.
struct ONNXTextParser {
  var cursor: TextCursor
  var builder: MessageBuilder
  let limits: LoadLimits

  typealias Text = Span<UInt8>

  /// The bytes of the model that `text` describes.
  static func parse(_ text: Span<UInt8>, limits: LoadLimits) throws(LoadError) -> [UInt8] {
    var parser = ONNXTextParser(
      cursor: TextCursor(text, hasComments: true), builder: MessageBuilder(limits: limits), limits: limits)
    try parser.model(text)
    return parser.builder.finish()
  }

  // MARK: Fields

  /// The position of a field of the innermost message.
  func field(_ name: String) -> Int {
    guard let index = builder.schema.index(of: name) else {
      preconditionFailure("\(builder.schema.name) has no field \(name)")
    }
    return index
  }

  mutating func open(_ name: String, _ text: Text) throws(LoadError) {
    if builder.depth >= min(limits.maximumNesting, TextCursor.maximumDepth) { throw cursor.tooDeep(text, limits) }
    try builder.open(field(name))
  }

  mutating func put(_ name: String, _ value: Int64) throws(LoadError) {
    try builder.varint(field(name), UInt64(bitPattern: value))
  }

  mutating func put(_ name: String, _ value: [UInt8]) throws(LoadError) { try builder.data(field(name), value) }

  mutating func put(_ name: String, _ type: TypeProto) throws(LoadError) {
    var writer = WireWriter()
    type.write(to: &writer)
    try put(name, writer.bytes)
  }

  // MARK: Tokens

  func nextIs(_ character: Unicode.Scalar, _ text: Text) -> Bool {
    var cursor = cursor
    return cursor.next(text) == UInt8(ascii: character)
  }

  mutating func take(_ character: Unicode.Scalar, _ text: Text) -> Bool {
    cursor.take(UInt8(ascii: character), text)
  }

  mutating func expect(_ character: Unicode.Scalar, _ text: Text) throws(LoadError) {
    try cursor.expect(character, text)
  }

  /// The identifier that comes next, without moving past it.
  func peekWord(_ text: Text) -> String {
    var cursor = cursor
    let range = cursor.identifier(text)
    return range.count > 64 ? "" : cursor.string(text, range)
  }

  mutating func word(_ text: Text, _ expected: String) throws(LoadError) -> String {
    let range = cursor.identifier(text)
    if range.isEmpty { throw cursor.error(text, expected: expected) }
    return cursor.string(text, range)
  }

  /// An identifier or a string; nil if there is neither.
  mutating func optionalName(_ text: Text) throws(LoadError) -> [UInt8]? {
    if cursor.next(text) == 0x22 { return try string(text, "") }
    let range = cursor.identifier(text)
    if range.isEmpty { return nil }
    return range.map { text[$0] }
  }

  mutating func name(_ text: Text, _ expected: String) throws(LoadError) -> [UInt8] {
    guard let name = try optionalName(text) else { throw cursor.error(text, expected: expected) }
    return name
  }

  /// A string between quotes, in which a backslash stands before quotes and backslashes.
  mutating func string(_ text: Text, _ expected: String) throws(LoadError) -> [UInt8] {
    guard cursor.next(text) == 0x22 else { throw cursor.error(text, expected: expected) }
    let start = cursor.position
    var position = start + 1
    var result: [UInt8] = []
    while position < text.count, text[position] != 0x22 {
      if text[position] == 0x5C { position += 1 }
      if position < text.count { result.append(text[position]) }
      position += 1
    }
    guard position < text.count else { throw cursor.error(text, "the string has no end", at: start) }
    cursor.position = position + 1
    return result
  }

  /// An integer with its sign, as 64 bits.
  mutating func integer(_ text: Text, _ expected: String) throws(LoadError) -> Int64 {
    let isNegative = take("-", text)
    _ = cursor.next(text)
    let start = cursor.position
    let range = cursor.number(text)
    guard let value = DecimalText.unsigned(text, range), value <= UInt64(Int64.max) + (isNegative ? 1 : 0) else {
      cursor.position = start
      throw cursor.error(text, expected: expected)
    }
    return isNegative ? Int64(bitPattern: 0 &- value) : Int64(value)
  }

  /// The items between two characters, with commas between them.
  mutating func list(
    _ open: Unicode.Scalar, _ close: Unicode.Scalar, _ text: Text,
    _ item: (inout ONNXTextParser) throws(LoadError) -> Void
  ) throws(LoadError) {
    try expect(open, text)
    if take(close, text) { return }
    repeat { try item(&self) } while take(",", text)
    if !take(close, text) { throw cursor.error(text, expected: "',' or '\(close)'") }
  }

  // MARK: Models

  private mutating func model(_ text: Text) throws(LoadError) {
    if take("<", text) {
      var seen: Set<String> = []
      repeat { try modelEntry(text, &seen) } while take(",", text)
      try expect(">", text)
    }
    try open("graph", text)
    try graph(text)
    builder.close()
    while cursor.next(text) != nil {
      try open("functions", text)
      try function(text)
      builder.close()
    }
  }

  private mutating func modelEntry(_ text: Text, _ seen: inout Set<String>) throws(LoadError) {
    _ = cursor.next(text)
    let start = cursor.position
    let expected = "one of " + ONNXTextNames.headerWords.joined(separator: ", ")
    let key = try word(text, expected)
    if !seen.insert(key).inserted { throw cursor.error(text, "'\(key)' stands twice", at: start) }
    try expect(":", text)
    switch key {
    case "ir_version", "model_version": try put(key, integer(text, "an integer for '\(key)'"))
    case "producer_name", "producer_version", "domain", "doc_string":
      try put(key, string(text, "a string for '\(key)'"))
    case "opset_import": try opsets(text)
    case "metadata_props": try entries("metadata_props", text)
    default: throw cursor.error(text, "\(expected) was expected; found '\(key)'", at: start)
    }
  }

  private mutating func opsets(_ text: Text) throws(LoadError) {
    try list("[", "]", text) { (parser) throws(LoadError) in
      try parser.open("opset_import", text)
      try parser.put("domain", parser.string(text, "the domain of an operator set, as a string,"))
      try parser.expect(":", text)
      try parser.put("version", parser.integer(text, "the version of an operator set"))
      parser.builder.close()
    }
  }

  /// Keys and values as strings.
  mutating func entries(_ name: String, _ text: Text) throws(LoadError) {
    try list("[", "]", text) { (parser) throws(LoadError) in
      try parser.open(name, text)
      try parser.put("key", parser.string(text, "a key, as a string,"))
      try parser.expect(":", text)
      try parser.put("value", parser.string(text, "a value, as a string,"))
      parser.builder.close()
    }
  }

  // MARK: Functions

  private mutating func function(_ text: Text) throws(LoadError) {
    if take("<", text) {
      var seen: Set<String> = []
      repeat { try functionEntry(text, &seen) } while take(",", text)
      try expect(">", text)
    }
    try put("name", name(text, "the name of a function"))
    if nextIs("<", text) {
      try list("<", ">", text) { (parser) throws(LoadError) in try parser.functionAttribute(text) }
    }
    try formal("input", text)
    try arrow(text)
    try formal("output", text)
    if nextIs("<", text) {
      try list("<", ">", text) { (parser) throws(LoadError) in
        let type = try parser.optionalType(text)
        try parser.info("value_info", type, parser.name(text, "the name of a value"), text)
      }
    }
    try nodes(text)
  }

  private mutating func functionEntry(_ text: Text, _ seen: inout Set<String>) throws(LoadError) {
    _ = cursor.next(text)
    let start = cursor.position
    let expected = "domain, overload, doc_string or opset_import"
    let key = try word(text, expected)
    if !seen.insert(key).inserted { throw cursor.error(text, "'\(key)' stands twice", at: start) }
    try expect(":", text)
    switch key {
    case "domain", "overload", "doc_string": try put(key, string(text, "a string for '\(key)'"))
    case "opset_import": try opsets(text)
    default: throw cursor.error(text, "\(expected) was expected; found '\(key)'", at: start)
    }
  }

  /// The name of an attribute, or one with its default.
  private mutating func functionAttribute(_ text: Text) throws(LoadError) {
    let name = try name(text, "the name of an attribute")
    guard nextIs(":", text) || nextIs("=", text) else { return try put("attribute", name) }
    try open("attribute_proto", text)
    try attribute(name, text)
    builder.close()
  }

  /// Names of inputs or outputs, perhaps with their types.
  private mutating func formal(_ field: String, _ text: Text) throws(LoadError) {
    try list("(", ")", text) { (parser) throws(LoadError) in
      let type = try parser.optionalType(text)
      let name = try parser.name(text, "the name of a value")
      try parser.put(field, name)
      if let type { try parser.info("value_info", type, name, text) }
    }
  }

  private mutating func arrow(_ text: Text) throws(LoadError) {
    guard take("=", text), cursor.position < text.count, text[cursor.position] == UInt8(ascii: ">") else {
      throw cursor.error(text, expected: "'=>'")
    }
    cursor.position += 1
  }

  // MARK: Graphs

  /// The content of a graph, which is the innermost message.
  mutating func graph(_ text: Text) throws(LoadError) {
    try put("name", name(text, "the name of a graph"))
    try list("(", ")", text) { (parser) throws(LoadError) in
      try parser.valueOrInitializer("input", text)
    }
    try arrow(text)
    try list("(", ")", text) { (parser) throws(LoadError) in
      let type = try parser.optionalType(text)
      try parser.info("output", type, parser.name(text, "the name of an output"), text)
    }
    if nextIs("<", text) {
      try list("<", ">", text) { (parser) throws(LoadError) in
        try parser.valueOrInitializer("value_info", text)
      }
    }
    try nodes(text)
  }

  /// A value, or a tensor with its elements: an initializer, and where inputs stand an input too.
  private mutating func valueOrInitializer(_ field: String, _ text: Text) throws(LoadError) {
    _ = cursor.next(text)
    let start = cursor.position
    let type = try optionalType(text)
    let name = try name(text, "the name of a value")
    let isInitializer = take("=", text)
    if !isInitializer || field == "input" { try info(field, type, name, text) }
    guard isInitializer else { return }
    guard let type else {
      let name = String(decoding: name, as: UTF8.self)
      throw cursor.error(text, "the type of the initializer '\(name)' was expected", at: start)
    }
    try open("initializer", text)
    try put("name", name)
    try tensor(type, text, at: start)
    builder.close()
  }

  private mutating func info(_ field: String, _ type: TypeProto?, _ name: [UInt8], _ text: Text) throws(LoadError) {
    try open(field, text)
    try put("name", name)
    if let type { try put("type", type) }
    builder.close()
  }

  private mutating func nodes(_ text: Text) throws(LoadError) {
    try expect("{", text)
    while !take("}", text) {
      if cursor.next(text) == nil { throw cursor.error(text, expected: "a node or '}'") }
      try open("node", text)
      try node(text)
      builder.close()
    }
  }

  private mutating func node(_ text: Text) throws(LoadError) {
    if take("[", text) {
      if let name = try optionalName(text) { try put("name", name) }
      try expect("]", text)
    }
    try names("output", text)
    try expect("=", text)
    var parts = [try name(text, "the operator of a node")]
    while take(".", text) { parts.append(try name(text, "the operator of a node")) }
    try put("op_type", parts.removeLast())
    if !parts.isEmpty { try put("domain", Array(parts.joined(separator: [UInt8(ascii: ".")]))) }
    if take(":", text) { try put("overload", name(text, "the overload of a function")) }
    let isBefore = nextIs("<", text)
    if isBefore { try attributes(text) }
    try expect("(", text)
    try names("input", text)
    try expect(")", text)
    if !isBefore, nextIs("<", text) { try attributes(text) }
  }

  /// Names with commas between them. Some may be missing, but for the last.
  private mutating func names(_ field: String, _ text: Text) throws(LoadError) {
    repeat {
      if let name = try optionalName(text) {
        try put(field, name)
      } else if nextIs(",", text) {
        try put(field, [])
      } else {
        return
      }
    } while take(",", text)
  }

  private mutating func attributes(_ text: Text) throws(LoadError) {
    try list("<", ">", text) { (parser) throws(LoadError) in
      try parser.open("attribute", text)
      try parser.attribute(parser.name(text, "the name of an attribute"), text)
      parser.builder.close()
    }
  }
}
