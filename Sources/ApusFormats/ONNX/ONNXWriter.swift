// From the typed graph to an ONNX file: what Apus has read or made, for any other runtime.

import ApusGraph
import ApusTensor

/// Writes ONNX models.
package struct ONNXWriter {
  private let registry: OperatorRegistry
  private var usedNames: Set<String> = []
  private var usedNodeNames: Set<String> = []
  private var counter = 0

  /// One graph that is being written: names by value, and constants by where they lie, with those of the graphs around.
  private struct Scope {
    var names: [ValueID: String] = [:]
    var constants: [ConstantKey: String] = [:]
    /// Constants that have their initializer.
    var written: Set<ValueID> = []
  }

  private struct ConstantKey: Hashable {
    let storage: ObjectIdentifier
    let offset: Int
    let dataType: DataType
    let shape: Shape

    init(_ tensor: Tensor) {
      storage = ObjectIdentifier(tensor.storage)
      offset = tensor.byteOffset
      dataType = tensor.dataType
      shape = tensor.shape
    }
  }

  private init(registry: OperatorRegistry) { self.registry = registry }

  /// The message for `model`. Its operator set is that of the model, or an older one down to `OpsetForms.floor`, in
  /// which every node means what it means here; it is newer than the model's only where that must be. `opset` asks for
  /// a certain one instead, and throws if it cannot hold the model.
  package static func message(
    _ model: ModelGraph, registry: OperatorRegistry, opset: Int? = nil
  ) throws(OperatorError) -> ModelProto {
    var writer = ONNXWriter(registry: registry)
    var proto = ModelProto()
    for id in model.graph.inputs + model.graph.outputs { writer.usedNames.insert(model.graph[id].name) }
    let choice = OpsetChoice(registry: registry, source: model.opsets)
    let inference = InferenceDriver(registry: registry)
    let lowered = try model.graph.lowered(inference).withDistinctInnerOutputs(inference)
    let (graph, opsets) = try choice.apply(to: lowered, wanted: opset)
    proto.graph = try writer.graph(graph, captured: [], outer: Scope())
    proto.graph?.docString = ""
    proto.producerName = "Apus"
    proto.domain = model.domain
    proto.modelVersion = model.modelVersion
    proto.docString = model.documentation
    proto.metadata = model.metadata.map { StringEntry(key: $0.key, value: $0.value) }
    proto.opsetImport = opsets.sorted { $0.key < $1.key }.map { OperatorSetID(domain: $0.key, version: $0.value) }
    proto.irVersion = Self.irVersion(of: model, opset: opsets[""] ?? OpsetChoice.oldest)
    return proto
  }

  /// The IR version of the model, unless its operator set is another: then that which came with the set. Before version
  /// 4 initializers had to be inputs.
  private static func irVersion(of model: ModelGraph, opset: Int) -> Int {
    let usual = irVersion(opset: opset)
    guard let source = model.opsets[""], model.irVersion > 0 else { return usual }
    if opset < source { return max(4, min(usual, model.irVersion)) }
    return max(4, opset > source ? max(usual, model.irVersion) : model.irVersion)
  }

  /// The IR version that came with an operator set: readers refuse files whose IR version they do not know.
  static func irVersion(opset: Int) -> Int {
    switch opset {
    case ...18: 8
    case 19...20: 9
    case 21...22: 10
    case 23: 11
    case 24: 12
    case 25...27: 13
    default: 14
    }
  }

  // MARK: Graphs

  private mutating func graph(_ graph: Graph, captured: [String], outer: Scope) throws(OperatorError) -> GraphProto {
    var scope = Scope(constants: outer.constants)
    for (inner, name) in zip(graph.captures, captured) { scope.names[inner] = name }
    let isMain = captured.isEmpty && outer.names.isEmpty
    for id in graph.inputs + graph.outputs where scope.names[id] == nil {
      let name = graph[id].name
      // Names of the main graph are its interface; those of subgraphs only have to differ from all others.
      scope.names[id] = isMain && !name.isEmpty ? name : unique(name)
    }
    var proto = GraphProto()
    proto.name = graph.name.isEmpty ? "graph" : graph.name
    for id in graph.outputs {
      if let constant = graph[id].constant { try addInitializer(constant, id, graph, &scope, &proto) }
    }
    let shared = keysInSubgraphs(of: graph)
    for (index, record) in graph.values.enumerated() {
      // Once in the outer graph, instead of once in each subgraph.
      guard !shared.isEmpty, let constant = record.constant, shared.contains(ConstantKey(constant)) else { continue }
      try addInitializer(constant, ValueID(index), graph, &scope, &proto)
    }
    for node in graph.nodes {
      let nodeProto = try self.node(node, graph, &scope, &proto)
      proto.nodes.append(nodeProto)
    }
    proto.inputs = graph.inputs.map { info($0, graph, scope) }
    proto.outputs = graph.outputs.enumerated().map { position, id in
      ValueInfoProto(name: scope.names[id] ?? graph[id].name, type: TypeProto(graph.describedOutput(position)))
    }
    return proto
  }

  /// The constants that nodes of subgraphs use.
  private func keysInSubgraphs(of graph: Graph) -> Set<ConstantKey> {
    var keys: Set<ConstantKey> = []
    for subgraph in graph.nodes.flatMap(\.subgraphs).map(\.subgraph.graph) {
      for id in subgraph.nodes.flatMap(\.inputs) + subgraph.outputs {
        if let constant = subgraph.constant(id) { keys.insert(ConstantKey(constant)) }
      }
      keys.formUnion(keysInSubgraphs(of: subgraph))
    }
    return keys
  }

  private mutating func unique(_ name: String) -> String {
    var candidate = name
    while candidate.isEmpty || !usedNames.insert(candidate).inserted {
      counter += 1
      candidate = name.isEmpty ? "_\(counter)" : "\(name)_\(counter)"
    }
    return candidate
  }

  /// The name, or one close to it if another node has it. Nodes may go without.
  private mutating func uniqueNodeName(_ name: String) -> String {
    var candidate = name
    while !candidate.isEmpty, !usedNodeNames.insert(candidate).inserted {
      counter += 1
      candidate = "\(name)_\(counter)"
    }
    return candidate
  }

  private func info(_ id: ValueID, _ graph: Graph, _ scope: Scope) -> ValueInfoProto {
    ValueInfoProto(name: scope.names[id] ?? graph[id].name, type: TypeProto(graph.fact(id)))
  }

  /// Writes a constant under the name of its value, unless it is written already and the value may have another name.
  private mutating func addInitializer(
    _ tensor: Tensor, _ id: ValueID, _ graph: Graph, _ scope: inout Scope, _ proto: inout GraphProto
  ) throws(OperatorError) {
    if let name = scope.names[id] {
      if !scope.written.insert(id).inserted { return }
      proto.initializers.append(TensorProto(name: name, tensor))
      return
    }
    let key = ConstantKey(tensor)
    // Strings and empty tensors may share a placeholder for their bytes.
    if tensor.byteCount > 0, let name = scope.constants[key] {
      scope.names[id] = name
      scope.written.insert(id)
      return
    }
    let name = unique(graph[id].name)
    scope.names[id] = name
    scope.constants[key] = name
    scope.written.insert(id)
    proto.initializers.append(TensorProto(name: name, tensor))
  }

  // MARK: Nodes

  private mutating func node(
    _ node: Node, _ graph: Graph, _ scope: inout Scope, _ proto: inout GraphProto
  ) throws(OperatorError) -> NodeProto {
    var result = NodeProto()
    result.opType = node.op.name
    result.domain = node.op.domain
    result.name = uniqueNodeName(node.name)
    for id in node.inputs {
      guard let id else {
        result.inputs.append("")
        continue
      }
      result.inputs.append(try name(of: id, graph, &scope, &proto))
    }
    for entry in node.attributes.entries {
      let content = try self.content(entry.value, graph, &scope, &proto)
      result.attributes.append(AttributeProto(name: entry.name, content: content))
    }
    for id in node.outputs {
      guard let id else {
        result.outputs.append("")
        continue
      }
      if scope.names[id] == nil { scope.names[id] = unique(graph[id].name) }
      result.outputs.append(scope.names[id] ?? "")
    }
    return result
  }

  /// The name of a value that is used, which may be a constant that is not written yet.
  private mutating func name(
    of id: ValueID, _ graph: Graph, _ scope: inout Scope, _ proto: inout GraphProto
  ) throws(OperatorError) -> String {
    if let constant = graph[id].constant { try addInitializer(constant, id, graph, &scope, &proto) }
    guard let name = scope.names[id] else {
      throw .invalid("the value '\(graph[id].name)' is used before it is computed")
    }
    return name
  }

  private mutating func content(
    _ value: AttributeValue, _ graph: Graph, _ scope: inout Scope, _ proto: inout GraphProto
  ) throws(OperatorError) -> AttributeProto.Content {
    switch value {
    case .int(let value): return .int(value)
    case .float(let value): return .float(value)
    case .string(let value): return .string(Array(value.utf8))
    case .tensor(let tensor): return .tensor(TensorProto(name: "", tensor))
    case .type(let fact): return .type(TypeProto(fact) ?? .absent)
    case .ints(let values): return .ints(values)
    case .floats(let values): return .floats(values)
    case .strings(let values): return .strings(values.map { Array($0.utf8) })
    case .tensors(let tensors): return .tensors(tensors.map { TensorProto(name: "", $0) })
    case .types(let facts): return .types(facts.map { TypeProto($0) ?? .absent })
    case .graph(let subgraph): return .graph(try self.subgraph(subgraph, graph, &scope, &proto))
    case .graphs(let subgraphs):
      var graphs: [GraphProto] = []
      for subgraph in subgraphs { graphs.append(try self.subgraph(subgraph, graph, &scope, &proto)) }
      return .graphs(graphs)
    }
  }

  private mutating func subgraph(
    _ subgraph: Subgraph, _ graph: Graph, _ scope: inout Scope, _ proto: inout GraphProto
  ) throws(OperatorError) -> GraphProto {
    var captured: [String] = []
    for id in subgraph.captured { captured.append(try name(of: id, graph, &scope, &proto)) }
    var outer = scope
    // A graph without names of its own is not the main graph either.
    if outer.names.isEmpty { outer.names[ValueID(-1)] = "" }
    return try self.graph(subgraph.graph, captured: captured, outer: outer)
  }
}

extension Graph {
  /// The graph with distinct outputs of all graphs inside its nodes: in a file each output has a name of its own.
  fileprivate func withDistinctInnerOutputs(_ inference: InferenceDriver) throws(OperatorError) -> Graph {
    var result = self
    try result.updateSubgraphs { (graph) throws(OperatorError) in
      graph = try graph.withDistinctInnerOutputs(inference).withDistinctOutputs(inference)
    }
    return result
  }

  /// The graph with a copy for every output that is there before.
  private func withDistinctOutputs(_ inference: InferenceDriver) throws(OperatorError) -> Graph {
    let repeated = outputs.indices.filter { outputs[..<$0].contains(outputs[$0]) }
    if repeated.isEmpty { return self }
    let builder = GraphBuilder(continuing: self, inference: inference)
    for position in repeated {
      let copy = builder.addValue(fact: fact(outputs[position]))
      try builder.appendCopy(of: outputs[position], as: copy)
      builder.graph.outputs[position] = copy
    }
    return builder.graph
  }
}

extension TypeProto {
  /// The type that says what `fact` says; nil if that is nothing.
  package init?(_ fact: ValueFact) {
    switch fact {
    case .unknown: return nil
    case .tensor(let tensor):
      self = .tensor(
        elementType: tensor.dataType.rawValue,
        shape: tensor.shape?.map { dim in
          if let value = dim.known { return .value(value) }
          return dim.isUnknown ? .unknown : .parameter(dim.description)
        })
    case .sequence(let element): self = .sequence(TypeProto(element))
    case .optional(let element): self = .optional(TypeProto(element))
    case .map(let key, let value): self = .map(keyType: key.rawValue, value: TypeProto(value))
    }
  }
}
