// A graph under construction: the one way in which importers, import rules, upgrades and derivatives make nodes.

import ApusTensor

/// Makes a graph, node by node in an order in which they can run. What is known of the outputs of a node is inferred
/// when it is appended, so that whoever appends the next one can ask.
///
/// Passes change a graph that is whole with a `GraphEditor`.
package final class GraphBuilder {
  /// Values, inputs and outputs may be changed here; nodes are appended by the functions below only.
  package var graph: Graph
  package let inference: InferenceDriver
  /// The graph whose node this one will be a subgraph of.
  package let parent: GraphBuilder?
  /// The values of `parent` that `graph.captures` stand for.
  package private(set) var captured: [ValueID] = []
  private var innerValues: [ValueID: ValueID] = [:]
  /// The names of all values; nil until somebody asks.
  private var usedNames: Set<String>?

  package init(name: String = "", inference: InferenceDriver, parent: GraphBuilder? = nil) {
    graph = Graph(name: name)
    (self.inference, self.parent) = (inference, parent)
  }

  /// Goes on with a graph that has nodes already.
  package init(continuing graph: Graph, inference: InferenceDriver) {
    self.graph = graph
    (self.inference, parent) = (inference, nil)
  }

  /// Begins with the values of a graph, its inputs and outputs, and none of its nodes: they are appended anew.
  package convenience init(rewriting graph: Graph, inference: InferenceDriver) {
    self.init(continuing: graph.part([], outputs: graph.outputs), inference: inference)
  }

  /// Goes on with the graph of a subgraph; `parent` is the graph around it.
  package init(continuing subgraph: Subgraph, in parent: GraphBuilder) {
    graph = subgraph.graph
    captured = subgraph.captured
    innerValues = Dictionary(zip(subgraph.captured, subgraph.graph.captures), uniquingKeysWith: { first, _ in first })
    (inference, self.parent) = (parent.inference, parent)
  }

  package var registry: OperatorRegistry { inference.registry }

  /// The graph as one inside a node of `parent`.
  package var subgraph: Subgraph { Subgraph(graph: graph, captured: captured) }

  // MARK: - Values

  package func fact(_ value: ValueID) -> ValueFact { graph.fact(value) }
  package func constant(_ value: ValueID?) -> Tensor? { graph.constant(value) }
  /// The extents of a tensor; nil if there is no value, or its rank is not known.
  package func shape(_ value: ValueID?) -> [Dim]? { value.flatMap { graph.fact($0).tensor?.shape } }
  /// The element type of a tensor; nil if there is no value, or its type is not known.
  package func type(_ value: ValueID?) -> DataType? { value.flatMap { graph.fact($0).tensor?.dataType } }

  /// A new value under `name`, or under a name close to it if that is taken.
  @discardableResult
  package func addValue(_ name: String = "", fact: ValueFact = .unknown, constant: Tensor? = nil) -> ValueID {
    let id = graph.addValue(name: name.isEmpty ? name : unique(name), fact: fact)
    graph[id].constant = constant
    return id
  }

  private func unique(_ name: String) -> String {
    if usedNames == nil { usedNames = Set(graph.values.lazy.map(\.name)) }
    var unique = name
    var suffix = 2
    while usedNames?.insert(unique).inserted == false {
      unique = "\(name)#\(suffix)"
      suffix += 1
    }
    return unique
  }

  /// A new value that never changes.
  package func addConstant(_ tensor: Tensor, name: String = "") -> ValueID {
    addValue(name, fact: .tensor(TensorFact(tensor)), constant: tensor)
  }

  /// Gives a value that no node computes a tensor once and for all.
  package func define(_ value: ValueID, as tensor: Tensor) {
    graph[value].constant = tensor
    graph[value].fact = .tensor(TensorFact(tensor))
  }

  /// A new formal input.
  package func addInput(_ name: String, fact: ValueFact) -> ValueID {
    let id = addValue(name, fact: fact)
    graph.inputs.append(id)
    return id
  }

  /// The value of this graph that stands for `value` of `owner`, which is this graph or one around it. Constants are
  /// shared, not captured.
  package func importing(_ value: ValueID, of owner: GraphBuilder) -> ValueID {
    if self === owner { return value }
    guard let parent else { return value }  // `owner` encloses every graph that can name its values
    let outer = parent.importing(value, of: owner)
    if let inner = innerValues[outer] { return inner }
    let record = parent.graph[outer]
    let inner = addValue(record.name, fact: record.fact, constant: record.constant)
    innerValues[outer] = inner
    if record.constant == nil {
      graph.captures.append(inner)
      captured.append(outer)
    }
    return inner
  }

  // MARK: - Nodes

  /// Checks a node against its schema, infers it and appends it. Its outputs exist as values and are computed by nobody
  /// else; those that are not optional and not wanted get one. Throws, and leaves the graph as it is, if the node
  /// cannot be.
  package func append(_ node: Node) throws(OperatorError) {
    let schema = try registry.require(node.op).schema
    try node.validate(against: schema)
    var whole = node
    for position in node.outputs.indices where node.outputs[position] == nil {
      guard let parameter = schema.output(at: position), parameter.presence != .optional else { continue }
      // Kernels compute them all the same.
      whole.outputs[position] = addValue()
    }
    graph.nodes.append(whole)
    do throws(OperatorError) {
      try inference.infer(nodeAt: graph.nodes.count - 1, in: &graph)
    } catch {
      graph.nodes.removeLast()
      throw error
    }
  }

  /// Appends a node as it was written against `version`, in the form of the newest operator set: what its import rule
  /// makes of it, or its operator after the upgrade. Throws, and leaves the nodes as they are, if it cannot be.
  package func append(_ node: Node, from version: Int) throws(OperatorError) {
    let first = graph.nodes.count
    do throws(OperatorError) {
      if let rule = registry.importRule(for: node.op) { return try rule.emit(node, from: version, into: self) }
      var newest = node
      try registry.require(node.op).upgrade(&newest, from: version, in: self)
      try append(newest)
    } catch {
      graph.nodes.removeSubrange(first...)
      throw error
    }
  }

  /// Takes the nodes from `index` on out again; their values stay.
  package func takeNodes(from index: Int) -> [Node] {
    let nodes = Array(graph.nodes[index...])
    graph.nodes.removeSubrange(index...)
    return nodes
  }

  /// Appends a node as it stands, whatever is wrong with it: for a graph that is looked at and never run.
  package func appendUnchecked(_ node: Node) { graph.nodes.append(node) }

  /// Appends a node with one new output, and returns that.
  package func apply(
    _ op: OperatorID, name: String, _ inputs: [ValueID?], _ attributes: [(String, AttributeValue)] = []
  ) throws(OperatorError) -> ValueID {
    let output = addValue()
    try append(Node(op, name: name, inputs: inputs, outputs: [output], attributes: Attributes(attributes)))
    return output
  }

  /// Appends a node with new outputs, and returns them.
  package func apply(
    _ op: OperatorID, name: String, _ inputs: [ValueID?], _ attributes: [(String, AttributeValue)] = [],
    outputCount: Int
  ) throws(OperatorError) -> [ValueID] {
    let outputs = (0..<outputCount).map { _ in addValue() }
    try append(Node(op, name: name, inputs: inputs, outputs: outputs, attributes: Attributes(attributes)))
    return outputs
  }

  /// Lets `copy`, which nobody computes, have what `value` has.
  package func appendCopy(of value: ValueID, as copy: ValueID) throws(OperatorError) {
    try append(Node(OperatorID("Identity"), name: graph[copy].name, inputs: [value], outputs: [copy]))
  }

  /// An output of a node that may not have it yet.
  package func output(_ position: Int, ofNodeAt index: Int) throws(OperatorError) -> ValueID {
    if position < graph.nodes[index].outputs.count, let value = graph.nodes[index].outputs[position] { return value }
    while graph.nodes[index].outputs.count <= position { graph.nodes[index].outputs.append(nil) }
    let value = addValue()
    graph.nodes[index].outputs[position] = value
    try inference.infer(nodeAt: index, in: &graph)
    return value
  }
}
