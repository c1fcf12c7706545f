// Writes the operators of a gradient at the end of a graph, each with its facts. The helpers of the rules are in
// DerivativeWriter+Helpers.swift.

import ApusGraph
import ApusTensor

/// A graph to which nodes are added while a gradient is written.
struct DerivativeWriter {
  private(set) var graph: Graph
  /// The name of the Gradient node; those of the new nodes begin with it.
  private let prefix: String
  private let driver = InferenceDriver(registry: .standard)
  /// The names of the new nodes by operator, so that all of one share theirs.
  private var names: [String: String] = [:]
  /// The nodes added, with those of their subgraphs.
  private var nodeCount = 0

  /// Gradients of gradients grow with every order; one that takes more nodes is an error.
  private static let maximumNodes = 250_000

  init(name: String, taking graph: inout Graph) {
    prefix = name
    self.graph = Graph()
    // Moved, not copied: a copy would last as long as the writer does.
    swap(&self.graph, &graph)
  }

  /// Hands the graph back, with the new nodes.
  mutating func returnGraph(to graph: inout Graph) { swap(&self.graph, &graph) }

  // MARK: - Facts

  func type(_ value: ValueID) throws(OperatorError) -> DataType {
    guard let type = graph.fact(value).tensor?.dataType else {
      throw .unsupported("the element type of \(describe(value)) is not known before running")
    }
    return type
  }

  func shape(_ value: ValueID) -> [Dim]? { graph.fact(value).tensor?.shape }

  func rank(_ value: ValueID) throws(OperatorError) -> Int {
    guard let shape = shape(value) else {
      throw .unsupported(
        "the rank of \(describe(value)) is not known before running",
        remedy: "Declare the shapes of the model's inputs; extents may be symbols")
    }
    return shape.count
  }

  func constant(_ value: ValueID?) -> Tensor? { graph.constant(value) }

  /// The value by its name and fact, for messages.
  func describe(_ value: ValueID) -> String {
    let name = graph[value].name
    return name.isEmpty ? "a value of type \(graph.fact(value))" : "'\(name)'"
  }

  // MARK: - Nodes

  /// Adds an operator with one output.
  mutating func apply(
    _ op: String, _ inputs: [ValueID?], _ attributes: [(String, AttributeValue)] = []
  ) throws(OperatorError) -> ValueID {
    try apply(op, inputs, attributes, outputCount: 1)[0]
  }

  mutating func apply(
    _ op: String, _ inputs: [ValueID?], _ attributes: [(String, AttributeValue)] = [], outputCount: Int
  ) throws(OperatorError) -> [ValueID] {
    let outputs = (0..<outputCount).map { _ in graph.addValue() }
    try append(
      Node(OperatorID(op), name: name(of: op), inputs: inputs, outputs: outputs, attributes: Attributes(attributes)))
    return outputs
  }

  /// Adds a node whose outputs exist.
  mutating func append(_ node: Node) throws(OperatorError) {
    nodeCount += node.nodeCount
    if nodeCount > DerivativeWriter.maximumNodes {
      throw OperatorError(.limit, "the gradient takes more than \(DerivativeWriter.maximumNodes) nodes")
    }
    graph.nodes.append(node)
    try driver.infer(nodeAt: graph.nodes.count - 1, in: &graph)
  }

  private mutating func name(of op: String) -> String {
    if let name = names[op] { return name }
    let name = "\(prefix)/\(op)"
    names[op] = name
    return name
  }

  mutating func newValue() -> ValueID { graph.addValue() }
  mutating func constant(_ tensor: Tensor) -> ValueID { graph.addConstant(tensor) }

  /// An output of a node that may not have it yet.
  mutating func output(_ position: Int, of application: Application) throws(OperatorError) -> ValueID {
    let index = application.index
    if position < graph.nodes[index].outputs.count, let value = graph.nodes[index].outputs[position] { return value }
    while graph.nodes[index].outputs.count <= position { graph.nodes[index].outputs.append(nil) }
    let value = graph.addValue()
    graph.nodes[index].outputs[position] = value
    try driver.infer(nodeAt: index, in: &graph)
    return value
  }
}

extension Node {
  /// The node and all nodes of its subgraphs.
  fileprivate var nodeCount: Int {
    subgraphs.reduce(1) { total, entry in entry.subgraph.graph.nodes.reduce(total) { $0 + $1.nodeCount } }
  }
}
