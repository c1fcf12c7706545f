// Writes the operators of a gradient at the end of a graph, each with its facts. The helpers of the rules are in
// DerivativeWriter+Helpers.swift.

import ApusGraph
import ApusTensor

/// A graph to which nodes are added while a gradient is written.
struct DerivativeWriter {
  let builder: GraphBuilder
  /// The name of the Gradient node; those of the new nodes begin with it.
  private let prefix: String
  /// The names of the new nodes by operator, so that all of one share theirs.
  private var names: [String: String] = [:]
  /// The nodes added, with those of their subgraphs.
  private var nodeCount = 0

  /// Gradients of gradients grow with every order; one that takes more nodes is an error.
  private static let maximumNodes = 250_000

  init(name: String, in builder: GraphBuilder) { (prefix, self.builder) = (name, builder) }

  // MARK: - Facts

  func type(_ value: ValueID) throws(OperatorError) -> DataType {
    guard let type = builder.type(value) else {
      throw .unsupported("the element type of \(describe(value)) is not known before running")
    }
    return type
  }

  func shape(_ value: ValueID) -> [Dim]? { builder.shape(value) }

  func rank(_ value: ValueID) throws(OperatorError) -> Int {
    guard let shape = shape(value) else {
      throw .unsupported(
        "the rank of \(describe(value)) is not known before running",
        remedy: "Declare the shapes of the model's inputs; extents may be symbols")
    }
    return shape.count
  }

  func constant(_ value: ValueID?) -> Tensor? { builder.constant(value) }

  /// The value by its name and fact, for messages.
  func describe(_ value: ValueID) -> String {
    let name = builder.graph[value].name
    return name.isEmpty ? "a value of type \(builder.fact(value))" : "'\(name)'"
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
    let outputs = (0..<outputCount).map { _ in builder.addValue() }
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
    try builder.append(node)
  }

  private mutating func name(of op: String) -> String {
    if let name = names[op] { return name }
    let name = "\(prefix)/\(op)"
    names[op] = name
    return name
  }

  mutating func newValue() -> ValueID { builder.addValue() }
  mutating func constant(_ tensor: Tensor) -> ValueID { builder.addConstant(tensor) }

  /// An output of a node that may not have it yet.
  mutating func output(_ position: Int, of application: Application) throws(OperatorError) -> ValueID {
    try builder.output(position, ofNodeAt: application.index)
  }
}

extension Node {
  /// The node and all nodes of its subgraphs.
  fileprivate var nodeCount: Int {
    subgraphs.reduce(1) { total, entry in entry.subgraph.graph.nodes.reduce(total) { $0 + $1.nodeCount } }
  }
}
