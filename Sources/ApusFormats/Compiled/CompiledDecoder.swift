// From the bytes of a section of a compiled model to a graph. Nothing here trusts a number: each is checked against
// what it counts, and what it makes the process use is counted against the limits.

import ApusGraph
import ApusTensor

/// A section that is being read.
struct CompiledDecoder {
  private let bytes: [UInt8]
  private var reader: WireReader
  private let options: ImportOptions
  private let constants: [TensorStorage]
  private var texts: [String] = []
  private var dims: [Dim] = []
  /// Bytes that what was read takes in memory, by estimate.
  private var structureBytes = 0
  private var nodeCount = 0

  /// Deeper than this no limit goes, since reading recurses.
  private static let deepestNesting = 1000

  /// `constants` are the storages that tensors refer to by number.
  init(_ bytes: [UInt8], options: ImportOptions, constants: [TensorStorage] = []) throws(LoadError) {
    (self.bytes, self.options, self.constants) = (bytes, options, constants)
    reader = WireReader(0..<bytes.count)
    texts.reserveCapacity(bytes.count / 64)
    for _ in 0..<(try count(taking: 48)) {
      let range = try reader.take(varint())
      guard let text = String(validating: bytes[range], as: UTF8.self), !text.utf8.contains(0) else {
        throw malformed("a text is no UTF-8")
      }
      texts.append(text)
    }
    for _ in 0..<(try count(taking: 128)) { dims.append(try expression()) }
  }

  /// Throws unless everything was read.
  func end() throws(LoadError) {
    if !reader.isAtEnd { throw malformed("a section goes on behind its end") }
  }

  func malformed(_ what: String) -> LoadError { .malformedCompiledModel(what) }

  // MARK: - Parts

  private mutating func varint() throws(LoadError) -> UInt64 {
    var next = reader
    let value = try next.varint(bytes.span)
    reader = next
    return value
  }

  /// A number of things that follow, each of at least one byte here and `size` bytes in memory.
  mutating func count(taking size: Int) throws(LoadError) -> Int {
    let value = try varint()
    guard value <= UInt64(bytes.count - reader.position) else { throw malformed("\(value) things do not fit") }
    structureBytes += Int(value) * size
    if structureBytes > options.limits.maximumStructureBytes {
      throw .limit(
        "maximumStructureBytes", options.limits.maximumStructureBytes, found: "the compiled model takes more bytes")
    }
    return Int(value)
  }

  /// A number from 0 to the largest `Int`.
  mutating func number() throws(LoadError) -> Int {
    guard let value = Int(exactly: try varint()) else { throw malformed("a number is too large") }
    return value
  }

  mutating func number(below limit: Int) throws(LoadError) -> Int {
    let value = try number()
    guard value < limit else { throw malformed("\(value) is not below \(limit)") }
    return value
  }

  mutating func int() throws(LoadError) -> Int {
    let value = try varint()
    return Int(bitPattern: UInt(value >> 1)) ^ -Int(value & 1)
  }

  mutating func bool() throws(LoadError) -> Bool { try number(below: 2) == 1 }

  mutating func float() throws(LoadError) -> Float { Float(bitPattern: UInt32(try number(below: 1 << 32))) }

  mutating func text() throws(LoadError) -> String { texts[try number(below: texts.count)] }

  /// `count` bytes as they are.
  mutating func raw(_ count: Int) throws(LoadError) -> [UInt8] { Array(bytes[try reader.take(UInt64(count))]) }

  mutating func list<Element>(
    _ body: (inout CompiledDecoder) throws(LoadError) -> Element
  ) throws(LoadError) -> [Element] {
    let count = try count(taking: MemoryLayout<Element>.stride)
    var elements: [Element] = []
    elements.reserveCapacity(count)
    for _ in 0..<count { elements.append(try body(&self)) }
    return elements
  }

  mutating func optional<Element>(
    _ body: (inout CompiledDecoder) throws(LoadError) -> Element
  ) throws(LoadError) -> Element? {
    try bool() ? try body(&self) : nil
  }

  // MARK: - Facts

  /// An expression, made anew from what stands before it in the table.
  private mutating func expression() throws(LoadError) -> Dim {
    try checkTime()
    switch try number(below: 3) {
    case 0: return .unknown
    case 1: return Dim(try int())
    default:
      var sum = Dim(0)
      for _ in 0..<(try count(taking: 1)) {
        var product = Dim(try int())
        for _ in 0..<(try count(taking: 1)) { product = product * Dim(try factor()) }
        sum = sum + product
      }
      return sum
    }
  }

  private mutating func factor() throws(LoadError) -> Dim.Factor {
    let kind = UInt8(try number(below: 256))
    if kind == 0 { return .symbol(try text()) }
    guard let combination = Dim.Combination(rawValue: kind) else { throw malformed("there is no expression \(kind)") }
    return .combined(combination, try dim(), try dim())
  }

  mutating func dim() throws(LoadError) -> Dim { dims[try number(below: dims.count)] }

  mutating func fact(depth: Int = 0) throws(LoadError) -> ValueFact {
    guard depth < options.limits.maximumNesting else {
      throw .limit("maximumNesting", options.limits.maximumNesting, found: "a type lies deeper")
    }
    switch try number(below: 5) {
    case 0: return .unknown
    case 1:
      let type = try type()
      let shape = try optional { (decoder) throws(LoadError) in
        try decoder.list { (decoder) throws(LoadError) in try decoder.dim() }
      }
      let values = try optional { (decoder) throws(LoadError) in
        try decoder.list { (decoder) throws(LoadError) in try decoder.dim() }
      }
      return .tensor(type, shape, values: values)
    case 2: return .sequence(try fact(depth: depth + 1))
    case 3: return .optional(try fact(depth: depth + 1))
    default:
      let key = try type()
      return .map(key: key, value: try fact(depth: depth + 1))
    }
  }

  mutating func named() throws(LoadError) -> NamedFact {
    let name = try text()
    return NamedFact(name: name, fact: try fact())
  }

  private mutating func type() throws(LoadError) -> DataType {
    let number = try number(below: 256)
    guard let type = DataType(rawValue: Int32(number)) else { throw malformed("there is no element type \(number)") }
    return type
  }

  // MARK: - Constants

  mutating func tensor() throws(LoadError) -> Tensor {
    let type = try type()
    let shape = Shape(try list { (decoder) throws(LoadError) in try decoder.number() })
    guard let count = shape.checkedElementCount, let byteCount = type.byteCount(elements: count) else {
      throw malformed("\(type)\(shape) is no possible tensor")
    }
    if count > options.limits.maximumTensorElements {
      throw .limit(
        "maximumTensorElements", options.limits.maximumTensorElements, found: "a tensor has \(count) elements")
    }
    guard type != .string else {
      guard count <= bytes.count - reader.position else { throw malformed("\(count) texts do not fit") }
      var strings: [String] = []
      for _ in 0..<count { strings.append(try text()) }
      return Tensor(strings: strings, shape: shape)
    }
    let storage = constants[try number(below: constants.count)]
    guard byteCount <= storage.byteCount else {
      throw malformed("\(type)\(shape) takes \(byteCount) bytes; there are \(storage.byteCount)")
    }
    return Tensor(dataType: type, shape: shape, storage: storage)
  }

  // MARK: - Graphs

  mutating func content() throws(LoadError) -> CompiledContent {
    let (irVersion, modelVersion) = (try int(), try int())
    let (producer, producerVersion, domain, documentation) = (try text(), try text(), try text(), try text())
    let opsets = try list { (decoder) throws(LoadError) in (key: try decoder.text(), value: try decoder.int()) }
    let metadata = try list { (decoder) throws(LoadError) in (key: try decoder.text(), value: try decoder.text()) }
    let defaulted = try list { (decoder) throws(LoadError) in try decoder.named() }
    let inputs = try list { (decoder) throws(LoadError) in try decoder.named() }
    let outputs = try list { (decoder) throws(LoadError) in try decoder.named() }
    let notes = try list { (decoder) throws(LoadError) in try decoder.text() }
    var model = ModelGraph(graph: try graph(depth: 0))
    guard inputs.count == model.graph.inputs.count, outputs.count == model.graph.outputs.count else {
      throw malformed("\(inputs.count) inputs and \(outputs.count) outputs have names")
    }
    (model.irVersion, model.modelVersion) = (irVersion, modelVersion)
    (model.producer, model.producerVersion) = (producer, producerVersion)
    (model.domain, model.documentation) = (domain, documentation)
    model.opsets = Dictionary(opsets.map { ($0.key, $0.value) }) { first, _ in first }
    model.metadata = metadata
    model.defaultedInputs = defaulted.map { (name: $0.name, fact: $0.fact) }
    return CompiledContent(model: model, inputs: inputs, outputs: outputs, notes: notes)
  }

  /// Three levels of messages are a graph inside a node, so that the limit means the same as for other files.
  private mutating func graph(depth: Int) throws(LoadError) -> Graph {
    guard 3 * depth < min(options.limits.maximumNesting, CompiledDecoder.deepestNesting) else {
      throw .limit("maximumNesting", options.limits.maximumNesting, found: "a graph lies deeper")
    }
    var graph = Graph(name: try text())
    graph.values = try list { (decoder) throws(LoadError) in try decoder.value() }
    let count = graph.values.count
    graph.inputs = try list { (decoder) throws(LoadError) in ValueID(try decoder.number(below: count)) }
    graph.captures = try list { (decoder) throws(LoadError) in ValueID(try decoder.number(below: count)) }
    let nodes = try list { (decoder) throws(LoadError) in try decoder.node(values: count, depth: depth) }
    let outputs = try list { (decoder) throws(LoadError) in ValueID(try decoder.number(below: count)) }
    graph = graph.part(nodes, outputs: outputs)
    graph.inputDeclarations = try list { (decoder) throws(LoadError) in try decoder.fact().withoutValues }
    graph.outputDeclarations = try list { (decoder) throws(LoadError) in try decoder.fact().withoutValues }
    graph.settledOutputs = try optional { (decoder) throws(LoadError) in
      try decoder.list { (decoder) throws(LoadError) in try decoder.fact().withoutValues }
    }
    if let settled = graph.settledOutputs, settled.count != graph.outputs.count {
      throw malformed("\(settled.count) facts for \(graph.outputs.count) outputs")
    }
    try restrict(&graph, isMain: depth == 0)
    return graph
  }

  /// Leaves of the facts what a file may say: plain extents of the inputs of a model, and types of everything else.
  private func restrict(_ graph: inout Graph, isMain: Bool) throws(LoadError) {
    var isInput = [Bool](repeating: false, count: graph.values.count)
    for input in graph.inputs {
      isInput[input.index] = true
      guard isMain, let fact = graph.fact(input).tensor else { continue }
      for dim in fact.shape ?? [] where !(dim.isUnknown || dim.symbol != nil || dim.known.map { $0 >= 0 } ?? false) {
        throw malformed("the input '\(graph[input].name)' has the extent \(dim)")
      }
    }
    for index in graph.values.indices where graph.values[index].constant == nil {
      let fact = graph.values[index].fact
      let isWhole = isMain && isInput[index] && fact.tensor != nil
      graph.values[index].fact = isWhole ? fact.withoutValues : fact.withoutShapes
    }
  }

  private mutating func value() throws(LoadError) -> ValueRecord {
    let name = try text()
    if let tensor = try optional({ (decoder) throws(LoadError) in try decoder.tensor() }) {
      return ValueRecord(name: name, fact: .tensor(TensorFact(tensor)), constant: tensor)
    }
    return ValueRecord(name: name, fact: try fact())
  }

  private mutating func node(values: Int, depth: Int) throws(LoadError) -> Node {
    nodeCount += 1
    if nodeCount > options.limits.maximumNodes {
      throw .limit("maximumNodes", options.limits.maximumNodes, found: "the model has more nodes")
    }
    try checkTime()
    let domain = try text()
    let op = OperatorID(try text(), domain: domain)
    let name = try text()
    let inputs = try list { (decoder) throws(LoadError) in try decoder.optionalValue(values) }
    let outputs = try list { (decoder) throws(LoadError) in try decoder.optionalValue(values) }
    let entries = try list { (decoder) throws(LoadError) in
      (try decoder.text(), try decoder.attribute(values: values, depth: depth))
    }
    return Node(op, name: name, inputs: inputs, outputs: outputs, attributes: Attributes(entries))
  }

  private mutating func optionalValue(_ values: Int) throws(LoadError) -> ValueID? {
    let number = try number(below: values + 1)
    return number == 0 ? nil : ValueID(number - 1)
  }

  private mutating func attribute(values: Int, depth: Int) throws(LoadError) -> AttributeValue {
    switch AttributeKind.numbered[try number(below: AttributeKind.numbered.count)] {
    case .int: return .int(try int())
    case .float: return .float(try float())
    case .string: return .string(try text())
    case .tensor: return .tensor(try tensor())
    case .graph: return .graph(try subgraph(values: values, depth: depth))
    case .type: return .type(try fact())
    case .ints: return .ints(try list { (decoder) throws(LoadError) in try decoder.int() })
    case .floats: return .floats(try list { (decoder) throws(LoadError) in try decoder.float() })
    case .strings: return .strings(try list { (decoder) throws(LoadError) in try decoder.text() })
    case .tensors: return .tensors(try list { (decoder) throws(LoadError) in try decoder.tensor() })
    case .graphs:
      return .graphs(
        try list { (decoder) throws(LoadError) in try decoder.subgraph(values: values, depth: depth) })
    case .types: return .types(try list { (decoder) throws(LoadError) in try decoder.fact() })
    }
  }

  private mutating func subgraph(values: Int, depth: Int) throws(LoadError) -> Subgraph {
    let captured = try list { (decoder) throws(LoadError) in ValueID(try decoder.number(below: values)) }
    return Subgraph(graph: try graph(depth: depth + 1), captured: captured)
  }

  private func checkTime() throws(LoadError) {
    do throws(OperatorError) {
      try options.allowance.checkTime()
    } catch {
      throw LoadError(.limitExceeded, error.message, remedy: error.remedy)
    }
  }
}

extension LoadError {
  static func malformedCompiledModel(_ what: String) -> LoadError {
    LoadError(.malformed, "the compiled model is damaged: \(what)", remedy: "Compile the model again")
  }
}
