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
    let builder = GraphBuilder(name: "test", inference: InferenceDriver(registry: registry))
    var given: [Value] = []
    var ids: [ValueID?] = []
    for (index, input) in inputs.enumerated() {
      guard let input else {
        ids.append(nil)
        continue
      }
      if constantInputs.contains(index), let tensor = input.tensor {
        ids.append(builder.addConstant(tensor, name: "input\(index)"))
      } else {
        // Shapes are hidden, so that the planner must find them, as for a model with symbolic extents.
        let id = builder.addInput("input\(index)", fact: OperatorRun.symbolic(ValueFact(input), input: index))
        given.append(input)
        ids.append(id)
      }
    }
    let outputs = (0..<outputCount).map { builder.addValue("output\($0)") }
    let node = Node(op, name: "test", inputs: ids, outputs: outputs, attributes: attributes)
    if let version { try builder.append(node, from: version) } else { try builder.append(node) }
    builder.graph.outputs = outputs
    let pool = WorkerPool(threads: threads)
    return try Program(graph: builder.graph, registry: registry, pool: pool).run(given, on: pool)
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
