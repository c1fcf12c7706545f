// From NodeProto to nodes of the newest operator set: attributes, subgraphs, versions.
// Calls of model-local functions are in ImportFunctions.swift.

import ApusGraph
import ApusTensor

extension ONNXImporter {
  /// Appends `nodes` to the graph of `scope`, in an order in which they can run.
  func importNodes(_ nodes: [NodeProto], _ scope: NameScope) throws(LoadError) {
    let order: [Int]
    do throws([NodeProto].Cycle) {
      order = try nodes.runnableOrder(valuesUsed, scope.isDefinedHere)
    } catch {
      try report(
        scope.path, "these nodes wait for each other: " + error.names.joined(separator: " → "),
        remedy: "A graph may not have cycles; use Loop for a loop")
      // What the nodes define exists as far as the rest of the model is concerned.
      for node in nodes {
        for output in node.outputs where !output.isEmpty && !scope.isDefinedHere(output) {
          _ = try define(output, fact: .unknown, in: scope)
        }
      }
      return
    }
    for index in order { try importNode(nodes[index], scope) }
  }

  private func importNode(_ nodeProto: NodeProto, _ scope: NameScope) throws(LoadError) {
    let path = scope.path + [nodeProto.label]
    try chargeNode(path)
    try checkTime()
    let id = FunctionID(domain: nodeProto.domain, name: nodeProto.opType, overload: nodeProto.overload)
    if let function = functions[id] { return try importCall(nodeProto, of: function, id, scope, path) }
    let inputs = try importInputs(nodeProto, scope, path)
    let problemCount = problems.count
    let attributes = try importAttributes(nodeProto, scope, path)
    var outputs: [ValueID?] = []
    for output in nodeProto.outputs {
      outputs.append(output.isEmpty ? nil : try define(output, fact: .unknown, in: scope))
    }
    if problems.count > problemCount, !options.keepsFaultyNodes { return }
    let name = scope.prefix.isEmpty ? nodeProto.nameOrOutput : scope.prefix + "/" + nodeProto.nameOrOutput
    if !scope.prefix.isEmpty { try chargeName(name, path) }
    var node = Node(
      nodeProto.op, name: name, inputs: inputs, outputs: outputs,
      attributes: attributes)
    while node.inputs.last == .some(nil) { node.inputs.removeLast() }
    if let rule = registry.importRule(for: node.op), !rule.attributesNamingValues.isEmpty {
      node.inputs += try namedValues(rule.attributesNamingValues, of: node, scope, path)
      if problems.count > problemCount { return }
    }
    try append(node, scope, path)
  }

  /// Appends the node in the form of the newest version, and what its upgrade or import rule added before it.
  private func append(_ node: Node, _ scope: NameScope, _ path: [String]) throws(LoadError) {
    let first = scope.builder.graph.nodes.count
    do throws(OperatorError) {
      try scope.builder.append(node, from: version(of: registry.signature(of: node.op), scope))
    } catch {
      if options.keepsFaultyNodes { scope.builder.appendUnchecked(node) }
      return try report(path, error)
    }
    for _ in scope.builder.graph.nodes.indices[first...].dropFirst() { try chargeNode(path) }
  }

  /// The values that attributes name. A name without a value is a problem.
  private func namedValues(
    _ attributes: [String], of node: Node, _ scope: NameScope, _ path: [String]
  ) throws(LoadError) -> [ValueID?] {
    var values: [ValueID?] = []
    for attribute in attributes {
      for name in node.attributes.strings(attribute) ?? node.attributes.string(attribute).map({ [$0] }) ?? [] {
        if case .value(let value)? = scope.lookup(name) {
          values.append(value)
        } else {
          try report(path, "attribute \(attribute) names '\(name)', which is defined nowhere")
        }
      }
    }
    return values
  }

  /// The names of values that must exist before a node is read.
  private func valuesUsed(by node: NodeProto) -> [String] {
    node.usedNames { [registry] in registry.importRule(for: $0.op)?.attributesNamingValues ?? [] }
  }

  /// The version of the operator that the model means.
  private func version(of schema: OperatorSchema, _ scope: NameScope) throws(OperatorError) -> Int {
    let domain = schema.id.domain
    guard let opset = scope.opsets[domain] ?? modelOpsets[domain] else {
      if domain == ONNXImporter.vendorDomain, schema.versions == [1] {
        missesVendorDomain = true
        return 1
      }
      throw .invalid(
        "the model does not import the operator set '\(domain.isEmpty ? "ai.onnx" : domain)' of \(schema.id)",
        remedy: "Add it to opset_import")
    }
    guard let version = schema.version(atOpset: opset) else {
      throw .invalid(
        "\(schema.id) exists from version \(schema.versions.first ?? 1) of its operator set; the model uses \(opset)",
        remedy: "Raise the version in opset_import")
    }
    return version
  }

  func importInputs(_ node: NodeProto, _ scope: NameScope, _ path: [String]) throws(LoadError) -> [ValueID?] {
    var inputs: [ValueID?] = []
    for (index, name) in node.inputs.enumerated() {
      if name.isEmpty {
        inputs.append(nil)
        continue
      }
      switch scope.lookup(name) {
      case .value(let value): inputs.append(value)
      case .absent: inputs.append(nil)
      case nil:
        try report(path, "input \(index) is '\(name)', which is defined nowhere")
        inputs.append(nil)
      }
    }
    return inputs
  }

  // MARK: Attributes

  private func importAttributes(
    _ node: NodeProto, _ scope: NameScope, _ path: [String]
  ) throws(LoadError) -> Attributes {
    var attributes = Attributes()
    for attribute in node.attributes {
      guard let argument = try resolve(attribute, scope, path) else { continue }
      if attributes[attribute.name] != nil {
        try report(path, "the attribute \(attribute.name) is there twice")
        continue
      }
      do throws(LoadError) {
        if let value = try value(of: argument, attribute.name, scope, path) { attributes[attribute.name] = value }
      } catch {
        try report(path, error.under("attribute \(attribute.name)"))
      }
    }
    return attributes
  }

  /// What the attribute holds, if it is a reference what the call of the function gave; nil if that is nothing.
  func resolve(
    _ attribute: AttributeProto, _ scope: NameScope, _ path: [String]
  ) throws(LoadError) -> NameScope.Argument? {
    guard case .reference(let name) = attribute.content else {
      return NameScope.Argument(content: attribute.content, scope: scope)
    }
    guard let arguments = scope.arguments else {
      try report(
        path, "the attribute \(attribute.name) refers to '\(name)' of a function, but this is outside of functions")
      return nil
    }
    return arguments[name]
  }

  /// The value of an attribute; nil, and a problem, if it has none. `scope` is where the node stands; names in
  /// subgraphs mean what they mean in the scope of the argument.
  private func value(
    of argument: NameScope.Argument, _ name: String, _ scope: NameScope, _ path: [String]
  ) throws(LoadError) -> AttributeValue? {
    switch argument.content {
    case .float(let value): return .float(value)
    case .int(let value): return .int(value)
    case .floats(let values): return .floats(values)
    case .ints(let values): return .ints(values)
    case .string(let bytes): return .string(try text(bytes))
    case .strings(let strings):
      var texts: [String] = []
      for bytes in strings { texts.append(try text(bytes)) }
      return .strings(texts)
    case .tensor(let tensor): return .tensor(try inMemory(decoder.tensor(tensor)))
    case .sparseTensor(let tensor): return .tensor(try decoder.tensor(tensor))
    case .tensors(let protos):
      var tensors: [Tensor] = []
      for proto in protos { tensors.append(try inMemory(decoder.tensor(proto))) }
      return .tensors(tensors)
    case .sparseTensors(let protos):
      var tensors: [Tensor] = []
      for proto in protos { tensors.append(try decoder.tensor(proto)) }
      return .tensors(tensors)
    case .type(let type): return .type(type.fact)
    case .types(let types): return .types(types.map(\.fact))
    case .graph(let graph): return .graph(try importSubgraph(graph, argument.scope, in: scope.builder, path + [name]))
    case .graphs(let protos):
      var graphs: [Subgraph] = []
      for (index, proto) in protos.enumerated() {
        graphs.append(try importSubgraph(proto, argument.scope, in: scope.builder, path + ["\(name)[\(index)]"]))
      }
      return .graphs(graphs)
    case .malformed(let reason): throw LoadError(.malformed, reason)
    case .reference: throw LoadError(.malformed, "the value refers to another attribute")
    }
  }

  /// The tensor with its bytes read: kernels keep those of attributes.
  private func inMemory(_ tensor: Tensor) throws(LoadError) -> Tensor {
    do throws(TensorError) {
      try tensor.storage.load()
    } catch {
      throw LoadError(error)
    }
    return tensor
  }

  private func text(_ bytes: [UInt8]) throws(LoadError) -> String {
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw LoadError(.malformed, "the string is no valid UTF-8")
    }
    return text
  }

  private func importSubgraph(
    _ graph: GraphProto, _ parent: NameScope, in outer: GraphBuilder, _ path: [String]
  ) throws(LoadError) -> Subgraph {
    try chargeNode(path)
    let builder = GraphBuilder(name: graph.name, inference: inference, parent: outer)
    let scope = NameScope(
      builder: builder, parent: parent, opsets: parent.opsets, prefix: parent.prefix, path: path,
      functions: parent.functions, depth: try deeper(parent.depth, path), arguments: parent.arguments)
    try importBody(graph, into: scope)
    return builder.subgraph
  }

  /// The depth of a graph or call in one of the given depth.
  func deeper(_ depth: Int, _ path: [String]) throws(LoadError) -> Int {
    if depth >= options.limits.maximumNesting {
      throw .limit(
        "maximumNesting", options.limits.maximumNesting, found: "graphs and functions lie deeper in each other",
        path: path.last)
    }
    return depth + 1
  }
}
