// The graph of a model of another framework, made layer by layer: nodes bear the names of their layers, and a layer
// that cannot be read does not hide what is wrong with the others.

import ApusGraph
import ApusTensor

/// Makes the nodes of one layer after the other, at the newest operator set. What importers of all formats share.
///
/// A layer is made inside of `layer(_:kind:reading:outputs:_:)`; there `emit` and its kin append nodes, named after the
/// layer. Nodes whose operands are all constants are computed at once, so that weights in another order and shapes that
/// were put together by operators arrive as constants.
package final class LayerBuilder {
  package let builder: GraphBuilder
  package let ledger: ImportLedger
  private var layer = ""
  /// How many nodes of the layer have a name already.
  private var nodeNames: [String: Int] = [:]
  /// Values of layers that could not be made.
  private var faulty: Set<ValueID> = []

  /// Constants that are computed here have at most so many bytes, or those of their operands.
  private static let foldedBytes = 1 << 16

  package init(name: String, registry: OperatorRegistry, ledger: ImportLedger) {
    self.ledger = ledger
    builder = GraphBuilder(
      name: name, inference: InferenceDriver(registry: registry, allowance: ledger.options.allowance))
  }

  /// For a graph inside a node of the layer that `outer` is making.
  package init(name: String, inside outer: LayerBuilder) {
    (ledger, layer) = (outer.ledger, outer.layer)
    builder = GraphBuilder(name: name, inference: outer.builder.inference, parent: outer.builder)
  }

  /// For a graph whose nodes are made anew, one after the other: with its values, inputs and outputs, and no node yet.
  package init(rewriting graph: Graph, registry: OperatorRegistry, ledger: ImportLedger) {
    self.ledger = ledger
    builder = GraphBuilder(
      rewriting: graph, inference: InferenceDriver(registry: registry, allowance: ledger.options.allowance))
  }

  // MARK: - Layers

  /// What is appended from here on is named after `name`.
  package func begin(_ name: String) { (layer, nodeNames) = (name, [:]) }

  /// The outputs that `make` appends nodes for. What it throws is a problem of this layer, which is told with all
  /// others in the end; nothing is known of the outputs then, and layers that read them are passed over.
  package func layer(
    _ name: String, kind: String, reading inputs: [ValueID?] = [], outputs count: Int = 1,
    _ make: () throws(OperatorError) -> [ValueID?]
  ) throws(LoadError) -> [ValueID?] {
    try ledger.count(kind)
    if inputs.contains(where: { $0.map { faulty.contains($0) } ?? false }) { return placeholders(count) }
    (layer, nodeNames) = (name, [:])
    do throws(OperatorError) {
      return try make()
    } catch {
      if error.code == .limit || error.code == .cancelled {
        throw LoadError(.limitExceeded, error.message, remedy: error.remedy, path: name)
      }
      let facts = inputs.compactMap { $0 }.map { "\(builder.fact($0))" }.joined(separator: ", ")
      let inputs = facts.isEmpty ? "" : " (inputs: \(facts))"
      try ledger.report("\(kind): \(error.message)\(inputs)", at: name, remedy: error.remedy)
      return placeholders(count)
    }
  }

  /// The outputs of a layer without a rule, or of one that is refused.
  package func placeholders(_ count: Int) -> [ValueID?] {
    (0..<count).map { _ in
      let value = builder.addValue()
      faulty.insert(value)
      return value
    }
  }

  /// True for what stands for an output of a layer that could not be made.
  package func isFaulty(_ value: ValueID) -> Bool { faulty.contains(value) }

  // MARK: - Values

  package func fact(_ value: ValueID) -> ValueFact { builder.fact(value) }
  package func constant(_ value: ValueID?) -> Tensor? { builder.constant(value) }
  package func type(_ value: ValueID) -> DataType? { builder.type(value) }

  private static let shapeRemedy =
    "Export the model with a fixed shape; of a torch.nn.Sequential, say that of its input (--shape input=…)"

  /// The extents of a value; an error if its rank is not known.
  package func shape(_ value: ValueID) throws(OperatorError) -> [Dim] {
    guard let shape = builder.shape(value) else {
      throw .unsupported("the rank of an operand is not known", remedy: Self.shapeRemedy)
    }
    return shape
  }

  package func rank(_ value: ValueID) throws(OperatorError) -> Int { try shape(value).count }

  /// The extent of an axis, which may be counted from the end; an error if it is not a number.
  package func extent(_ value: ValueID, _ axis: Int) throws(OperatorError) -> Int {
    let shape = try shape(value)
    let position = axis < 0 ? axis + shape.count : axis
    guard shape.indices.contains(position) else { throw .mismatch("there is no axis \(axis) of \(shape)") }
    guard let extent = shape[position].known else {
      throw .unsupported("the extent of axis \(axis) of \(shape) is not known", remedy: Self.shapeRemedy)
    }
    return extent
  }

  /// The numbers of an integer operand that are known, from a constant or from the shapes that it was put together of;
  /// nil if they are not.
  package func integers(_ value: ValueID?) -> [Int]? {
    guard let value else { return nil }
    if let tensor = constant(value) { return tensor.integers }
    return fact(value).tensor?.values?.concrete?.dims
  }

  /// Gives a value the name that it has in the source, if it has none yet.
  package func name(_ value: ValueID, _ name: String) {
    if name.isEmpty || !builder.graph[value].name.isEmpty { return }
    let named = builder.addValue(name)
    // The new value took the name, or one close to it; it is needed for nothing else.
    builder.graph[value].name = builder.graph[named].name
    builder.graph[named].name = ""
  }

  /// Gives a value the name of another, which it stands for and which goes.
  package func takeName(of old: ValueID, for value: ValueID) {
    builder.graph[value].name = builder.graph[old].name
    builder.graph[old].name = ""
  }

  package func input(_ name: String, _ type: DataType, _ shape: [Dim]?) -> ValueID {
    let value = builder.addInput(name, fact: .tensor(type, shape))
    builder.graph.inputDeclarations.append(.tensor(type, shape))
    return value
  }

  /// Makes a value an output of the graph under the name that it has in the source.
  package func output(_ value: ValueID, named name: String) throws(OperatorError) {
    let graph = builder.graph
    var output = value
    if graph.inputs.contains(value) || graph.outputs.contains(value) || constant(value) != nil {
      (layer, nodeNames) = (name, [:])
      output = try emit("Identity", [value])
      builder.graph[output].name = ""
    }
    let taken = Set((graph.inputs + graph.outputs).map { graph[$0].name })
    var free = name
    var suffix = 2
    while taken.contains(free) {
      free = "\(name)#\(suffix)"
      suffix += 1
    }
    // Inner names give way to those that callers use.
    for index in builder.graph.values.indices where builder.graph.values[index].name == free {
      builder.graph.values[index].name = ""
    }
    builder.graph[output].name = free
    builder.graph.outputs.append(output)
    builder.graph.outputDeclarations.append(fact(output))
  }

  // MARK: - Constants

  package func constant(_ tensor: Tensor, name: String = "") -> ValueID { builder.addConstant(tensor, name: name) }
  /// An int64 tensor of one axis.
  package func integers(_ numbers: [Int]) -> ValueID { constant(Tensor(numbers.map { Int64($0) })) }
  /// A float32 scalar.
  package func scalar(_ number: Float) -> ValueID { constant(Tensor(scalar: number)) }

  /// A scalar of the type of `value`.
  package func scalar(_ number: Double, like value: ValueID) throws(OperatorError) -> ValueID {
    guard let type = type(value) else { throw .unsupported("the type of an operand is not known") }
    return try cast(constant(Tensor(scalar: number)), to: type)
  }

  // MARK: - Nodes

  /// Appends a node with one output, or computes it.
  package func emit(
    _ op: String, domain: String = "", _ inputs: [ValueID?], _ attributes: [(String, AttributeValue)] = []
  ) throws(OperatorError) -> ValueID {
    try emit(op, domain: domain, inputs, attributes, outputs: 1)[0]
  }

  /// Appends a node with several outputs, or computes it.
  package func emit(
    _ op: String, domain: String = "", _ inputs: [ValueID?], _ attributes: [(String, AttributeValue)] = [],
    outputs count: Int
  ) throws(OperatorError) -> [ValueID] {
    var inputs = inputs
    while inputs.last == .some(nil) { inputs.removeLast() }
    let outputs = (0..<count).map { _ in builder.addValue() }
    let node = Node(
      OperatorID(op, domain: domain), name: nodeName(op), inputs: inputs, outputs: outputs,
      attributes: Attributes(attributes))
    if let folded = folded(node) { return folded }
    nodeNames[nodeNames.isEmpty ? "" : op, default: 0] += 1
    try builder.append(node)
    return outputs
  }

  /// The first node of a layer bears its name, the others that with the operator behind it.
  private func nodeName(_ op: String) -> String {
    if nodeNames.isEmpty { return layer }
    let count = nodeNames[op] ?? 0
    return count == 0 ? "\(layer)/\(op)" : "\(layer)/\(op)_\(count)"
  }

  /// The outputs of a node whose operands never change, as constants; nil if they are not small or cannot be computed.
  private func folded(_ node: Node) -> [ValueID]? {
    // Integers that stand for floats stay integers.
    guard !node.inputs.isEmpty, node.op != OperatorID("DequantizeLinear"),
      let schema = builder.registry.definition(of: node.op)?.schema, !schema.traits.contains(.random)
    else { return nil }
    var constants: [Tensor?] = []
    for input in node.inputs {
      guard let input else {
        constants.append(nil)
        continue
      }
      guard let tensor = constant(input), tensor.dataType != .string else { return nil }
      constants.append(tensor)
    }
    let limit = max(Self.foldedBytes, constants.reduce(0) { $0 + ($1?.byteCount ?? 0) })
    let driver = builder.inference
    guard
      let values = driver.evaluate(
        node, facts: node.inputs.map { $0.map { fact($0) } }, constants: constants, limit: limit,
        memory: driver.allowance)
    else { return nil }
    let tensors = values.compactMap { $0?.tensor }
    guard tensors.count == node.outputs.count else { return nil }
    // The values of the node that is not appended stand for its results.
    for (output, tensor) in zip(node.outputs, tensors) { if let output { builder.define(output, as: tensor) } }
    return node.outputs.compactMap { $0 }
  }

  // MARK: - The end

  /// The operator set that models of other frameworks are written for if nothing in them needs a newer one. From 21 on
  /// onnxruntime 1.31 makes QuantizeLinear of signed codes into nodes that it refuses itself.
  package static let opset = 20

  /// The model, or an error with everything that is wrong with it.
  package func finish(opset: Int = LayerBuilder.opset) throws(LoadError) -> ImportedModel {
    try ledger.check()
    var model = ModelGraph(graph: builder.graph)
    model.irVersion = ONNXWriter.irVersion(opset: opset)
    model.opsets = ["": opset]
    model.producer = "Apus"
    model.graph.notes += ledger.report.notes
    var imported = ImportedModel(model: model)
    imported.report = ledger.report
    return imported
  }
}
