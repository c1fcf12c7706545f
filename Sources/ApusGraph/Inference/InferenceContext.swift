// What an operator sees and sets while types and shapes are inferred.

import ApusTensor

/// The facts of a node's inputs, and the place for those of its outputs.
package struct InferenceContext: OperatorContext {
  package let node: Node
  package let schema: OperatorSchema
  /// nil: the optional input is absent.
  package let inputs: [ValueFact?]
  /// The tensors of the inputs that are constants, or known while planning.
  package let constants: [Tensor?]
  /// Set by the operator: one fact for every output of the node, wanted or not.
  package var outputs: [ValueFact]
  /// The number of nodes with subgraphs around this one.
  package let depth: Int
  /// The subgraphs of the node, by attribute name, with the facts that the last inference found.
  package private(set) var inferredSubgraphs: [(name: String, graph: Graph)] = []
  private let inferSubgraph: (Subgraph, [ValueFact]) throws(OperatorError) -> Graph

  package init(
    node: Node, schema: OperatorSchema, inputs: [ValueFact?], constants: [Tensor?], depth: Int = 0,
    inferSubgraph: @escaping (Subgraph, [ValueFact]) throws(OperatorError) -> Graph
  ) {
    self.node = node
    self.schema = schema
    self.inputs = inputs
    self.constants = constants
    self.depth = depth
    outputs = [ValueFact](repeating: .unknown, count: node.outputs.count)
    self.inferSubgraph = inferSubgraph
  }

  /// Infers the subgraph that the attribute `name` holds under facts for its formal inputs; the captured values have
  /// theirs already. Returns the facts of its outputs. What the last call finds stays with the subgraph, so it must
  /// hold for every run of it.
  package mutating func infer(subgraph name: String, _ facts: [ValueFact]) throws(OperatorError) -> [ValueFact] {
    guard case .graph(let subgraph)? = node.attributes[name] else {
      throw .invalid("attribute \(name) (graph) is missing")
    }
    guard facts.count == subgraph.graph.inputs.count else {
      throw .invalid("\(name) has \(subgraph.graph.inputs.count) inputs; expected \(facts.count)")
    }
    let graph = try inferSubgraph(subgraph, facts)
    inferredSubgraphs.removeAll { $0.name == name }
    inferredSubgraphs.append((name, graph))
    return graph.outputs.map { graph.fact($0) }
  }

  package func isPresent(_ input: Int) -> Bool { input < inputs.count && inputs[input] != nil }

  /// The fact of an input if it is a tensor.
  package func tensor(_ input: Int) -> TensorFact? { input < inputs.count ? inputs[input]?.tensor : nil }

  /// The element type of an input; nil if the input is absent or its type is unknown.
  package func type(_ input: Int) -> DataType? { tensor(input)?.dataType }

  /// The extents of an input; nil if the input is absent or its rank unknown.
  package func shape(_ input: Int) -> [Dim]? { tensor(input)?.shape }

  package func rank(_ input: Int) -> Int? { shape(input)?.count }

  /// The elements of a small integer input, numbers or symbols; nil if they are not known.
  package func values(_ input: Int) -> [Dim]? {
    if let values = tensor(input)?.values { return values }
    guard let constant = constant(input), constant.count <= TensorFact.maximumValues else { return nil }
    return constant.dims
  }

  /// The elements of a small integer input if all are numbers.
  package func integers(_ input: Int) -> [Int]? { values(input)?.concrete?.dims }

  /// The tensor of an input that is constant.
  package func constant(_ input: Int) -> Tensor? { input < constants.count ? constants[input] : nil }

  /// Sets an output; ignored where the node has fewer outputs. Does nothing while the type is unknown.
  package mutating func set(_ output: Int, _ type: DataType?, _ shape: [Dim]?, values: [Dim]? = nil) {
    guard output < outputs.count, let type else { return }
    let kept = values.flatMap { TensorFact.keeps($0) ? $0 : nil }
    outputs[output] = .tensor(type, shape, values: kept)
  }

  package mutating func set(_ output: Int, _ fact: ValueFact) {
    if output < outputs.count { outputs[output] = fact }
  }

  /// An output with the type and shape of an input.
  package mutating func copy(input: Int = 0, to output: Int = 0) {
    set(output, type(input), shape(input))
  }

  /// The shape that inputs broadcast to; nil if a rank is unknown. Throws if two extents do not fit.
  package func broadcastShape(_ positions: [Int]) throws(OperatorError) -> [Dim]? {
    var shapes: [[Dim]] = []
    for position in positions where isPresent(position) {
      guard let shape = shape(position) else { return nil }
      shapes.append(shape)
    }
    return try broadcast(shapes)
  }
}

/// The shape that `shapes` broadcast to (multidirectional, aligned at the last axis).
package func broadcast(_ shapes: [[Dim]]) throws(OperatorError) -> [Dim] {
  let rank = shapes.map(\.count).max() ?? 0
  var result = [Dim](repeating: 1, count: rank)
  for shape in shapes {
    for (offset, dim) in shape.enumerated() {
      let axis = rank - shape.count + offset
      if let a = result[axis].known, let b = dim.known, a != b, a != 1, b != 1 {
        throw .mismatch(
          "the shapes "
            + shapes.map { "[" + $0.map(\.description).joined(separator: ", ") + "]" }.joined(separator: " and ")
            + " do not broadcast: \(a) meets \(b) on axis \(axis - rank) from the end")
      }
      result[axis] = Dim.broadcast(result[axis], dim)
    }
  }
  return result
}
