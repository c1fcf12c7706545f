// Runs one operator by itself, as a graph of one node.

import Apus
import ApusGraph
import ApusOperators
import ApusRuntime

/// Applies operators to values, through inference, preparation, planning and execution like any model, without passes.
package struct OperatorRun {
  package var op: OperatorID
  package var attributes: Attributes
  package var threads = 1
  /// The schema version that the node is written against; nil: the newest.
  package var version: Int?
  /// Inputs that are constants of the graph, not inputs of the run: kernels may pack them.
  package var constantInputs: Set<Int> = []
  /// Where operators are found: a test may put another form of one in its place.
  package var registry = OperatorRegistry.standard

  package init(_ name: String, domain: String = "", attributes: [(String, AttributeValue)] = []) {
    op = OperatorID(name, domain: domain)
    self.attributes = Attributes(attributes)
  }

  /// The outputs of the operator. nil among `inputs`: an absent optional input.
  package func callAsFunction(_ inputs: [Value?], outputs outputCount: Int = 1) throws -> [Value] {
    var graph = Graph(name: "test")
    var given: [Value] = []
    var ids: [ValueID?] = []
    for (index, input) in inputs.enumerated() {
      guard let input else {
        ids.append(nil)
        continue
      }
      if constantInputs.contains(index), let tensor = input.tensor {
        ids.append(graph.addConstant(tensor, name: "input\(index)"))
      } else {
        // Shapes are hidden, so that the planner must find them, as for a model with symbolic extents.
        let id = graph.addValue(name: "input\(index)", fact: OperatorRun.symbolic(ValueFact(input), input: index))
        graph.inputs.append(id)
        given.append(input)
        ids.append(id)
      }
    }
    let outputs = (0..<outputCount).map { graph.addValue(name: "output\($0)") }
    var node = Node(op, name: "test", inputs: ids, outputs: outputs, attributes: attributes)
    let definition = try registry.require(op)
    if let version { try definition.upgrade(&node, from: version, in: &graph) }
    graph.nodes.append(node)
    graph.outputs = outputs
    if let error = InferenceDriver(registry: registry).infer(&graph).first { throw error }
    try node.validate(against: registry.require(node.op).schema)
    let pool = WorkerPool(threads: threads)
    return try Program(graph: graph, registry: registry, pool: pool).run(given, on: pool)
  }

  /// The outputs of the operator on tensors, as tensors.
  package func callAsFunction(_ inputs: Tensor?..., outputs: Int = 1) throws -> [Tensor] {
    try self(inputs.map { $0.map { .tensor($0) } }, outputs: outputs).compactMap(\.tensor)
  }

  private static func symbolic(_ fact: ValueFact, input: Int) -> ValueFact {
    guard let tensor = fact.tensor, let shape = tensor.shape else { return fact }
    return .tensor(tensor.dataType, shape.indices.map { .symbol("d\(input)_\($0)") })
  }
}
