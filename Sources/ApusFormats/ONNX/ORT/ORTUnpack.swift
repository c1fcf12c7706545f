// From the FlatBuffer of ONNX Runtime's own form to the messages of ONNX: the counterpart of ProtobufUnpack.swift. The
// elements of tensors stay where they lie in the file.

import ApusTensor

/// Reads the tables of one file.
struct ORTUnpack {
  /// The version of the form that the file says.
  private(set) var version = ""
  /// Nodes that are no operators of ONNX, in the words of the file.
  private(set) var foreign: [ForeignNode] = []

  private let limits: LoadLimits
  private let account: MemoryAccount?
  private var nodeCount = 0

  struct ForeignNode {
    var kind: String
    var name: String
    /// True for one that an execution provider compiled, false for one whose operands lie in an order of its own.
    var isCompiled: Bool
  }

  /// Domains of operators whose operands do not lie as those of ONNX do.
  static let layoutDomains: Set<String> = ["com.microsoft.nchwc", "com.ms.internal.nhwc"]

  /// Strings that are read are charged to `account`.
  init(limits: LoadLimits, account: MemoryAccount?) { (self.limits, self.account) = (limits, account) }

  /// The model that `bytes` are. Ranges of tensors count from the first of them.
  mutating func model(_ bytes: ByteView) throws(LoadError) -> ModelProto {
    let root = try FlatBuffer(bytes, identifier: ORTSchema.identifier, limits: FlatBuffer.Limits(limits)).root()
    version = try text(root, ORTSchema.Session.version)
    guard let number = Int(version), ORTSchema.versions.contains(number) else {
      throw .unsupported(
        "version \(ORTSchema.versions.lowerBound) to \(ORTSchema.versions.upperBound) of the form was expected; the "
          + "file has '\(version)'", remedy: "Make the file again with a current version of ONNX Runtime")
    }
    guard let table = try root.table(ORTSchema.Session.model) else {
      throw .malformed("a model was expected in the file; there is none")
    }
    typealias Field = ORTSchema.Model
    var model = ModelProto()
    model.irVersion = Int(try table.int64(Field.irVersion))
    model.producerName = try text(table, Field.producerName)
    model.producerVersion = try text(table, Field.producerVersion)
    model.domain = try text(table, Field.domain)
    let modelVersion = try table.int64(Field.modelVersion)
    model.modelVersion = modelVersion == ORTSchema.noModelVersion ? 0 : Int(modelVersion)
    model.docString = try text(table, Field.docString)
    for pair in try table.tables(Field.metadata) {
      model.metadata.append(
        StringEntry(key: try text(pair, ORTSchema.Pair.key), value: try text(pair, ORTSchema.Pair.value)))
    }
    guard let graph = try table.table(Field.graph) else {
      throw .malformed("a graph was expected in the model; there is none")
    }
    var main = try self.graph(graph, named: "main_graph")
    main.docString = try text(table, Field.graphDocString)
    model.graph = main
    model.opsetImport = try opsets(table, used: main.domains)
    return model
  }

  /// The operator sets that the model uses. The file lists all that the runtime knew.
  private func opsets(_ model: FlatTable, used: Set<String>) throws(LoadError) -> [OperatorSetID] {
    var opsets: [OperatorSetID] = []
    for pair in try model.tables(ORTSchema.Model.opsetImport) {
      let opset = OperatorSetID(
        domain: try text(pair, ORTSchema.Pair.key), version: Int(try pair.int64(ORTSchema.Pair.value)))
      if opset.domain.isEmpty || used.contains(opset.domain) { opsets.append(opset) }
    }
    return opsets
  }

  // MARK: - Pieces

  /// A text without zeros, which end names elsewhere; empty if the field is missing.
  private func text(_ table: FlatTable, _ field: Int) throws(LoadError) -> String {
    try checked(table.string(field) ?? "")
  }

  private func texts(_ table: FlatTable, _ field: Int) throws(LoadError) -> [String] {
    var texts: [String] = []
    for text in try table.strings(field) { texts.append(try checked(text)) }
    return texts
  }

  private func checked(_ text: String) throws(LoadError) -> String {
    if text.utf8.contains(0) { throw .malformed("a name or text without a zero byte was expected; found one with it") }
    return text
  }

  private func integers(_ table: FlatTable, _ field: Int) throws(LoadError) -> [Int] {
    try (table.int64s(field) ?? []).map { Int($0) }
  }

  // MARK: - Graphs

  /// The file has no names of graphs; `name` is one.
  private mutating func graph(_ table: FlatTable, named name: String) throws(LoadError) -> GraphProto {
    typealias Field = ORTSchema.Graph
    var graph = GraphProto()
    graph.name = name
    var types: [String: TypeProto] = [:]
    for value in try table.tables(Field.values) {
      let info = ValueInfoProto(
        name: try text(value, ORTSchema.ValueInfo.name),
        type: try value.table(ORTSchema.ValueInfo.type).map { (type) throws(LoadError) in try self.type(type) })
      types[info.name] = info.type
      graph.valueInfo.append(info)
    }
    graph.inputs = try texts(table, Field.inputs).map { ValueInfoProto(name: $0, type: types[$0]) }
    graph.outputs = try texts(table, Field.outputs).map { ValueInfoProto(name: $0, type: types[$0]) }
    for tensor in try table.tables(Field.initializers) { graph.initializers.append(try self.tensor(tensor)) }
    for tensor in try table.tables(Field.sparseInitializers) {
      graph.sparseInitializers.append(try sparseTensor(tensor))
    }
    for node in try table.tables(Field.nodes) { graph.nodes.append(try self.node(node)) }
    return graph
  }

  private mutating func node(_ table: FlatTable) throws(LoadError) -> NodeProto {
    typealias Field = ORTSchema.Node
    nodeCount += 1
    if nodeCount > limits.maximumNodes {
      throw .limit("maximumNodes", limits.maximumNodes, found: "the file has more nodes")
    }
    var node = NodeProto()
    node.name = try text(table, Field.name)
    node.opType = try text(table, Field.opType)
    node.domain = OperatorSetID(domain: try text(table, Field.domain), version: 1).domain
    node.inputs = try texts(table, Field.inputs)
    node.outputs = try texts(table, Field.outputs)
    for attribute in try table.tables(Field.attributes) {
      do throws(LoadError) {
        node.attributes.append(try self.attribute(attribute))
      } catch {
        throw error.under(node.label)
      }
    }
    if try table.int32(Field.type) == Field.fusedType {
      let provider = try text(table, Field.provider)
      foreign.append(
        ForeignNode(kind: "\(node.opType) of \(provider)", name: node.nameOrOutput, isCompiled: true))
    } else if Self.layoutDomains.contains(node.domain) {
      foreign.append(
        ForeignNode(kind: "\(node.domain).\(node.opType)", name: node.nameOrOutput, isCompiled: false))
    }
    return node
  }

  private mutating func attribute(_ table: FlatTable) throws(LoadError) -> AttributeProto {
    typealias Field = ORTSchema.Attribute
    let name = try text(table, Field.name)
    let content: AttributeProto.Content
    // Numbers of AttributeProto.AttributeType.
    switch try table.int32(Field.type) {
    case 1: content = .float(try table.float32(Field.float))
    case 2: content = .int(Int(try table.int64(Field.int)))
    case 3: content = .string(try table.stringBytes(Field.string) ?? [])
    case 4:
      guard let tensor = try table.table(Field.tensor) else { return .lacking(name, "a tensor") }
      content = .tensor(try self.tensor(tensor))
    case 5:
      guard let graph = try table.table(Field.graph) else { return .lacking(name, "a graph") }
      content = .graph(try self.graph(graph, named: name))
    case 6: content = .floats(try table.float32s(Field.floats) ?? [])
    case 7: content = .ints(try integers(table, Field.ints))
    case 8:
      var strings: [[UInt8]] = []
      if let vector = try table.vector(Field.strings, stride: 4) {
        for index in 0..<vector.count { strings.append(try vector.stringBytes(index)) }
      }
      content = .strings(strings)
    case 9:
      var tensors: [TensorProto] = []
      for tensor in try table.tables(Field.tensors) { tensors.append(try self.tensor(tensor)) }
      content = .tensors(tensors)
    case 10:
      var graphs: [GraphProto] = []
      for graph in try table.tables(Field.graphs) { graphs.append(try self.graph(graph, named: name)) }
      content = .graphs(graphs)
    case 11, 12: content = .malformed("this form of file holds no sparse tensors in attributes")
    case let type: content = .malformed("its type is \(type); one from 1 to 10 was expected")
    }
    return AttributeProto(name: name, content: content)
  }

  // MARK: - Tensors

  private func tensor(_ table: FlatTable) throws(LoadError) -> TensorProto {
    typealias Field = ORTSchema.Tensor
    var tensor = TensorProto(content: .payloads([]))
    tensor.name = try text(table, Field.name)
    tensor.dims = try integers(table, Field.dims)
    tensor.dataType = try table.int32(Field.dataType)
    if try table.int64(Field.externalOffset, default: -1) >= 0 {
      tensor.content = .unsupported("a tensor whose elements lie outside of the file")
    } else if tensor.dataType == DataType.string.rawValue {
      do throws(LoadError) {
        tensor.content = .tensor(try strings(table, Shape(tensor.dims)))
      } catch {
        throw error.under("tensor '\(tensor.name)'")
      }
    } else if let bytes = try table.bytes(Field.rawData) {
      let range = bytes.fileOffset..<(bytes.fileOffset + bytes.count)
      tensor.content = .payloads([TensorPayload(field: .rawData, form: .packed, range: range)])
    }
    return tensor
  }

  private func strings(_ table: FlatTable, _ shape: Shape) throws(LoadError) -> Tensor {
    let vector = try table.vector(ORTSchema.Tensor.stringData, stride: 4)
    let count = vector?.count ?? 0
    guard shape.checkedElementCount == count else {
      throw .malformed("string\(shape) takes \(shape.checkedElementCount ?? 0) texts; found \(count)")
    }
    var strings: [String] = []
    if let vector { for index in 0..<count { strings.append(try vector.string(index)) } }
    let tensor = Tensor(strings: strings, shape: shape)
    do throws(TensorError) {
      if let account { try tensor.storage.charge(to: account) }
    } catch {
      throw LoadError(error)
    }
    return tensor
  }

  private func sparseTensor(_ table: FlatTable) throws(LoadError) -> SparseTensorProto {
    typealias Field = ORTSchema.SparseTensor
    var tensor = SparseTensorProto()
    if let values = try table.table(Field.values) { tensor.values = try self.tensor(values) }
    if let indices = try table.table(Field.indices) { tensor.indices = try self.tensor(indices) }
    tensor.dims = try integers(table, Field.dims)
    return tensor
  }

  // MARK: - Types

  private func type(_ table: FlatTable) throws(LoadError) -> TypeProto {
    typealias Field = ORTSchema.ValueType
    guard let (type, value) = try table.union(ORTSchema.TypeInfo.value) else { return .absent }
    switch type {
    case ORTSchema.TypeInfo.tensor:
      let shape = try value.table(Field.second)
      return .tensor(
        elementType: try value.int32(Field.element),
        shape: try shape.map { (shape) throws(LoadError) in try self.shape(shape) })
    case ORTSchema.TypeInfo.sequence: return .sequence(try element(value, Field.element))
    case ORTSchema.TypeInfo.map:
      return .map(keyType: try value.int32(Field.element), value: try element(value, Field.second))
    default: throw .malformed("the type of a value should be a tensor, sequence or map (1 to 3); it is \(type)")
    }
  }

  private func element(_ table: FlatTable, _ field: Int) throws(LoadError) -> TypeProto? {
    guard let element = try table.table(field) else { return nil }
    return try type(element)
  }

  private func shape(_ table: FlatTable) throws(LoadError) -> [TypeProto.Dimension] {
    typealias Field = ORTSchema.DimensionValue
    var dims: [TypeProto.Dimension] = []
    for dimension in try table.tables(ORTSchema.Shape.dims) {
      guard let value = try dimension.table(ORTSchema.Dimension.value) else {
        dims.append(.unknown)
        continue
      }
      switch try value.int8(Field.type) {
      case Field.numberType: dims.append(.value(Int(try value.int64(Field.number))))
      case Field.symbolType: dims.append(.parameter(try text(value, Field.symbol)))
      default: dims.append(.unknown)
      }
    }
    return dims
  }
}

extension AttributeProto {
  fileprivate static func lacking(_ name: String, _ what: String) -> AttributeProto {
    AttributeProto(name: name, content: .malformed("its type says \(what), but it has none"))
  }
}

extension GraphProto {
  /// The domains of the operators of all nodes, in graphs inside of nodes too.
  fileprivate var domains: Set<String> {
    var domains = Set(nodes.map(\.domain))
    for node in nodes {
      for attribute in node.attributes {
        switch attribute.content {
        case .graph(let graph): domains.formUnion(graph.domains)
        case .graphs(let graphs): for graph in graphs { domains.formUnion(graph.domains) }
        default: break
        }
      }
    }
    return domains
  }
}
