// Models in ONNX's own text syntax (onnxtxt), as onnx.printer writes them and onnx.parser reads them; what it writes
// and does not read is written in a way that it reads, where there is one.
// https://github.com/onnx/onnx/blob/main/docs/Syntax.md

import ApusTensor

/// Prints messages in wire bytes.
struct ONNXTextPrinter: ~Copyable {
  var sink: TextSink
  /// What the syntax has no place for, by message and field, and how often it was there.
  var lost: [String: Int] = [:]
  private var unknown: Set<String> = []
  private var indentation = 3

  typealias Bytes = Span<UInt8>

  private init(_ sink: consuming TextSink) { self.sink = sink }

  /// Prints the model in `bytes`. Returns what was left out: fields that are none of ONNX, and those that the syntax
  /// has no place for, as `NodeProto.doc_string (12)`.
  static func print(
    _ bytes: Span<UInt8>, to flush: @escaping (borrowing Span<UInt8>) throws(LoadError) -> Void
  ) throws(LoadError) -> Set<String> {
    var printer = ONNXTextPrinter(TextSink(flush))
    let model = try printer.view(bytes, 0..<bytes.count, schema: ProtoSchema.model)
    try printer.model(model, bytes)
    try printer.sink.end()
    return printer.unknown.union(printer.lost.map { "\($0.key) (\($0.value))" })
  }

  // MARK: Views

  func schemaIndex(_ view: MessageView, _ field: MessageView.Field) -> Int {
    guard case .message(let index) = view.schema.fields[field.index].kind else {
      preconditionFailure("\(view.schema.name) has no message in this field")
    }
    return index
  }

  mutating func view(_ bytes: Bytes, _ range: Range<Int>, schema: Int) throws(LoadError) -> MessageView {
    try MessageView(bytes, range, schema: schema, unknown: &unknown)
  }

  /// The messages in the field of that name.
  mutating func views(_ view: MessageView, _ name: String, _ bytes: Bytes) throws(LoadError) -> [MessageView] {
    var result: [MessageView] = []
    for field in view.all(name) {
      result.append(try self.view(bytes, field.range, schema: schemaIndex(view, field)))
    }
    return result
  }

  /// Counts the fields of `view` that the syntax has no place for.
  mutating func lose(_ view: MessageView, _ names: [String]) {
    for name in names where view.has(name) { lost["\(view.schema.name).\(name)", default: 0] += 1 }
  }

  // MARK: Words

  /// An identifier, or a name between quotes.
  mutating func name(_ bytes: Bytes, _ range: Range<Int>) {
    let isIdentifier = range.first.map { !bytes[$0].isDigit } ?? false
    if isIdentifier, range.allSatisfy({ bytes[$0].isWord }) {
      sink.append(bytes, range)
    } else {
      quote(bytes, range)
    }
  }

  /// The name of a value, between quotes too where it is a word for types.
  private mutating func valueName(_ bytes: Bytes, _ range: Range<Int>) {
    let word = range.count <= 16 ? String(bytes, range) : ""
    let isType = ONNXTextNames.elementType(word) != nil || ONNXTextNames.typeWords.contains(word)
    if isType || word == "undefined" { quote(bytes, range) } else { name(bytes, range) }
  }

  /// The bytes between quotes. The syntax escapes quotes and backslashes and nothing else.
  mutating func quote(_ bytes: Bytes, _ range: Range<Int>) {
    sink.append(byte: 0x22)
    for index in range {
      if bytes[index] == 0x22 || bytes[index] == 0x5C { sink.append(byte: 0x5C) }
      sink.append(byte: bytes[index])
    }
    sink.append(byte: 0x22)
  }

  private mutating func names(_ view: MessageView, _ field: String, _ bytes: Bytes) {
    for (position, field) in view.all(field).enumerated() {
      if position > 0 { sink.append(", ") }
      valueName(bytes, field.range)
    }
  }

  private mutating func spaces(_ count: Int) {
    for _ in 0..<count { sink.append(byte: 0x20) }
  }

  // MARK: Models and functions

  private mutating func model(_ model: MessageView, _ bytes: Bytes) throws(LoadError) {
    sink.append("<\n   ir_version: ")
    sink.append(try model.integer("ir_version", bytes))
    sink.append(",\n   opset_import: ")
    try opsets(model, bytes)
    for word in ["producer_name", "producer_version", "domain"] where model.has(word) {
      header(word)
      quote(bytes, model.range(word))
    }
    if model.has("model_version") {
      header("model_version")
      sink.append(try model.integer("model_version", bytes))
    }
    if model.has("doc_string") {
      header("doc_string")
      quote(bytes, model.range("doc_string"))
    }
    if model.has("metadata_props") {
      header("metadata_props")
      try entries(model, "metadata_props", bytes)
    }
    sink.append("\n>\n")
    lose(model, ["training_info", "configuration"])
    guard let graph = try views(model, "graph", bytes).first else {
      throw LoadError(.wrongFormat, "the model has no graph", remedy: "Is this an ONNX file?")
    }
    try self.graph(graph, bytes, depth: 0)
    sink.append(byte: 0x0A)
    for function in model.all("functions") {
      let view = try view(bytes, function.range, schema: schemaIndex(model, function))
      sink.append(byte: 0x0A)
      try self.function(view, bytes)
    }
  }

  private mutating func header(_ word: String) {
    sink.append(",\n   ")
    sink.append(word)
    sink.append(": ")
  }

  private mutating func opsets(_ view: MessageView, _ bytes: Bytes) throws(LoadError) {
    sink.append(byte: UInt8(ascii: "["))
    for (position, opset) in try views(view, "opset_import", bytes).enumerated() {
      if position > 0 { sink.append(", ") }
      quote(bytes, opset.range("domain"))
      sink.append(" : ")
      sink.append(try opset.integer("version", bytes))
    }
    sink.append(byte: UInt8(ascii: "]"))
  }

  /// Keys and values.
  mutating func entries(_ view: MessageView, _ name: String, _ bytes: Bytes) throws(LoadError) {
    sink.append(byte: UInt8(ascii: "["))
    for (position, entry) in try views(view, name, bytes).enumerated() {
      if position > 0 { sink.append(", ") }
      quote(bytes, entry.range("key"))
      sink.append(": ")
      quote(bytes, entry.range("value"))
    }
    sink.append(byte: UInt8(ascii: "]"))
  }

  private mutating func function(_ function: MessageView, _ bytes: Bytes) throws(LoadError) {
    sink.append("<\n  domain: ")
    quote(bytes, function.range("domain"))
    for word in ["overload", "doc_string"] where !function.range(word).isEmpty {
      sink.append(",\n  ")
      sink.append(word)
      sink.append(": ")
      quote(bytes, function.range(word))
    }
    sink.append(",\n  opset_import: ")
    try opsets(function, bytes)
    sink.append("\n>\n")
    lose(function, ["metadata_props"])
    name(bytes, function.range("name"))
    sink.append(byte: 0x20)
    if function.has("attribute") || function.has("attribute_proto") {
      sink.append(byte: UInt8(ascii: "<"))
      names(function, "attribute", bytes)
      for (position, attribute) in try views(function, "attribute_proto", bytes).enumerated() {
        if position > 0 || function.has("attribute") { sink.append(", ") }
        try self.attribute(attribute, bytes, depth: 0)
      }
      sink.append("> ")
    }
    sink.append(byte: UInt8(ascii: "("))
    names(function, "input", bytes)
    sink.append(") => (")
    names(function, "output", bytes)
    sink.append(")\n")
    if function.has("value_info") {
      sink.append(byte: UInt8(ascii: "<"))
      try infos(function, "value_info", bytes)
      sink.append(">\n")
    }
    try nodes(function, bytes, depth: 0)
    sink.append(byte: 0x0A)
  }

  // MARK: Graphs and nodes

  mutating func graph(_ graph: MessageView, _ bytes: Bytes, depth: Int) throws(LoadError) {
    if depth > TextCursor.maximumDepth { throw MessageView.tooDeep(at: 0) }
    lose(graph, ["doc_string", "quantization_annotation", "sparse_initializer", "metadata_props"])
    name(bytes, graph.range("name"))
    sink.append(" (")
    try infos(graph, "input", bytes)
    sink.append(") => (")
    try infos(graph, "output", bytes)
    sink.append(") ")
    if graph.has("initializer") || graph.has("value_info") {
      sink.append(byte: 0x0A)
      spaces(indentation)
      sink.append(byte: UInt8(ascii: "<"))
      for (position, field) in graph.all("initializer").enumerated() {
        if position > 0 { sink.append(", ") }
        let tensor = try view(bytes, field.range, schema: schemaIndex(graph, field))
        try self.tensor(tensor, bytes, isInitializer: true)
        try sink.settle()
      }
      if graph.has("initializer"), graph.has("value_info") { sink.append(", ") }
      try infos(graph, "value_info", bytes)
      sink.append(">\n")
    }
    try nodes(graph, bytes, depth: depth)
  }

  /// Types and names.
  private mutating func infos(_ view: MessageView, _ name: String, _ bytes: Bytes) throws(LoadError) {
    for (position, field) in view.all(name).enumerated() {
      if position > 0 { sink.append(", ") }
      let info = try self.view(bytes, field.range, schema: schemaIndex(view, field))
      lose(info, ["doc_string", "metadata_props"])
      if let type = try views(info, "type", bytes).first, try self.type(type, bytes, depth: 0) {
        sink.append(byte: 0x20)
      }
      valueName(bytes, info.range("name"))
    }
  }

  private mutating func nodes(_ view: MessageView, _ bytes: Bytes, depth: Int) throws(LoadError) {
    sink.append("{\n")
    for field in view.all("node") {
      let node = try self.view(bytes, field.range, schema: schemaIndex(view, field))
      try self.node(node, bytes, depth: depth)
      try sink.settle()
    }
    if indentation > 3 { spaces(indentation - 3) }
    sink.append(byte: UInt8(ascii: "}"))
  }

  private mutating func node(_ node: MessageView, _ bytes: Bytes, depth: Int) throws(LoadError) {
    lose(node, ["doc_string", "metadata_props", "device_configurations"])
    spaces(indentation)
    if !node.range("name").isEmpty {
      sink.append(byte: UInt8(ascii: "["))
      name(bytes, node.range("name"))
      sink.append("] ")
    }
    names(node, "output", bytes)
    sink.append(" = ")
    let domain = node.range("domain")
    if !domain.isEmpty {
      if isDotted(bytes, domain) { sink.append(bytes, domain) } else { quote(bytes, domain) }
      sink.append(byte: UInt8(ascii: "."))
    }
    name(bytes, node.range("op_type"))
    if !node.range("overload").isEmpty {
      sink.append(byte: UInt8(ascii: ":"))
      name(bytes, node.range("overload"))
    }
    let attributes = try views(node, "attribute", bytes)
    let hasGraph = attributes.contains { $0.has("g") || $0.has("graphs") }
    if !hasGraph { try self.attributes(attributes, bytes, depth: depth) }
    sink.append(" (")
    names(node, "input", bytes)
    sink.append(byte: UInt8(ascii: ")"))
    if hasGraph { try self.attributes(attributes, bytes, depth: depth) }
    sink.append(byte: 0x0A)
  }

  /// True for identifiers with points between them, as domains are written.
  private func isDotted(_ bytes: Bytes, _ range: Range<Int>) -> Bool {
    var isStart = true
    for index in range {
      let byte = bytes[index]
      if byte == UInt8(ascii: "."), !isStart {
        isStart = true
      } else if byte.isWord, !isStart || !byte.isDigit {
        isStart = false
      } else {
        return false
      }
    }
    return !isStart
  }

  // MARK: Attributes

  private mutating func attributes(_ attributes: [MessageView], _ bytes: Bytes, depth: Int) throws(LoadError) {
    if attributes.isEmpty { return }
    sink.append(" <")
    for (position, attribute) in attributes.enumerated() {
      if position > 0 { sink.append(", ") }
      try self.attribute(attribute, bytes, depth: depth)
    }
    sink.append(byte: UInt8(ascii: ">"))
  }

  private mutating func attribute(_ attribute: MessageView, _ bytes: Bytes, depth: Int) throws(LoadError) {
    lose(attribute, ["doc_string"])
    name(bytes, attribute.range("name"))
    let type = try attributeType(attribute, bytes)
    sink.append(": ")
    sink.append(ONNXTextNames.attributeTypes[type])
    sink.append(" = ")
    if !attribute.range("ref_attr_name").isEmpty {
      sink.append(byte: UInt8(ascii: "@"))
      return name(bytes, attribute.range("ref_attr_name"))
    }
    switch type {
    case 1: sink.append(try attribute.float("f", bytes))
    case 2: sink.append(try attribute.integer("i", bytes))
    case 3: quote(bytes, attribute.range("s"))
    case 4: try message(attribute, "t", bytes, depth)
    case 5: try message(attribute, "g", bytes, depth)
    case 11: try message(attribute, "sparse_tensor", bytes, depth)
    case 13: try message(attribute, "tp", bytes, depth)
    case 6: try numbers(attribute, "floats", bytes)
    case 7: try numbers(attribute, "ints", bytes)
    case 8: try numbers(attribute, "strings", bytes)
    case 9: try messages(attribute, "tensors", bytes, depth)
    case 10: try messages(attribute, "graphs", bytes, depth)
    case 12: try messages(attribute, "sparse_tensors", bytes, depth)
    case 14: try messages(attribute, "type_protos", bytes, depth)
    default:
      throw LoadError(
        .unsupported, "an attribute without a value has no text", path: String(bytes, attribute.range("name")))
    }
  }

  /// The type that the attribute says, or that its value has.
  private func attributeType(_ attribute: MessageView, _ bytes: Bytes) throws(LoadError) -> Int {
    let type = Int(try attribute.integer("type", bytes))
    if ONNXTextNames.attributeTypes.indices.contains(type), type > 0 { return type }
    let fields = [
      ("f", 1), ("i", 2), ("s", 3), ("t", 4), ("g", 5), ("floats", 6), ("ints", 7), ("strings", 8), ("tensors", 9),
      ("graphs", 10), ("sparse_tensor", 11), ("sparse_tensors", 12), ("tp", 13), ("type_protos", 14),
    ]
    return fields.first { attribute.has($0.0) }?.1 ?? 0
  }

  private mutating func numbers(_ attribute: MessageView, _ name: String, _ bytes: Bytes) throws(LoadError) {
    sink.append(byte: UInt8(ascii: "["))
    var isFirst = true
    for field in attribute.all(name) {
      try attribute.forEachScalar(of: field, bytes) { (reader) throws(LoadError) in
        if !isFirst { sink.append(", ") }
        isFirst = false
        switch attribute.schema.fields[field.index].kind {
        case .float: sink.append(try reader.float(bytes))
        case .int64: sink.append(Int64(bitPattern: try reader.varint(bytes)))
        default:
          quote(bytes, field.range)
          reader.position = field.range.upperBound
        }
      }
    }
    sink.append(byte: UInt8(ascii: "]"))
  }

  private mutating func messages(
    _ attribute: MessageView, _ name: String, _ bytes: Bytes, _ depth: Int
  ) throws(LoadError) {
    sink.append(byte: UInt8(ascii: "["))
    for (position, field) in attribute.all(name).enumerated() {
      if position > 0 { sink.append(", ") }
      try message(view(bytes, field.range, schema: schemaIndex(attribute, field)), bytes, depth)
    }
    sink.append(byte: UInt8(ascii: "]"))
  }

  private mutating func message(
    _ attribute: MessageView, _ name: String, _ bytes: Bytes, _ depth: Int
  ) throws(LoadError) {
    guard let view = try views(attribute, name, bytes).first else {
      throw LoadError(
        .malformed, "the attribute has no value of its type", path: String(bytes, attribute.range("name")))
    }
    try message(view, bytes, depth)
  }

  private mutating func message(_ view: MessageView, _ bytes: Bytes, _ depth: Int) throws(LoadError) {
    switch view.schema.name {
    case "GraphProto":
      indentation += 3
      try graph(view, bytes, depth: depth + 1)
      indentation -= 3
    case "TensorProto": try tensor(view, bytes, isInitializer: false)
    case "SparseTensorProto": try sparseTensor(view, bytes)
    default:
      if try !type(view, bytes, depth: 0) { throw LoadError(.unsupported, "a type that says nothing has no text") }
    }
  }
}

extension String {
  /// A piece of the text of a file, for messages.
  init(_ bytes: Span<UInt8>, _ range: Range<Int>) {
    var text: [UInt8] = []
    for index in range.prefix(200) { text.append(bytes[index]) }
    self.init(decoding: text, as: UTF8.self)
  }
}
