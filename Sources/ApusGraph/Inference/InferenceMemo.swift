// What the inference of a node went by, so that a pass costs the inference of what it changed and no more.

import ApusTensor

/// The facts around a node when it was inferred. As long as they are the same, inferring it again finds the same.
///
/// Nodes with subgraphs have none: their inference sees values of the whole graph.
final class InferenceMemo: Sendable {
  private let inputs: [ValueFact?]
  private let outputs: [ValueFact?]
  /// The constants whose elements inference may read. Larger ones are looked at for type and shape only, and must not
  /// be kept in memory from here.
  private let constants: [TensorStorage?]

  private static let largestRead = 1 << 16

  /// For `node` after its inference.
  init(_ node: Node, in graph: Graph) {
    inputs = InferenceMemo.facts(node.inputs, graph)
    outputs = InferenceMemo.facts(node.outputs, graph)
    constants = node.inputs.map { InferenceMemo.constant($0, graph) }
  }

  func holds(for node: Node, in graph: Graph) -> Bool {
    for (position, input) in node.inputs.enumerated() {
      guard let input else { continue }
      if inputs[position] != graph.fact(input) { return false }
      if constants[position] !== InferenceMemo.constant(input, graph) { return false }
    }
    for (position, output) in node.outputs.enumerated() {
      if let output, outputs[position] != graph.fact(output) { return false }
    }
    return true
  }

  private static func facts(_ values: [ValueID?], _ graph: Graph) -> [ValueFact?] {
    values.map { $0.map { graph.fact($0) } }
  }

  private static func constant(_ value: ValueID?, _ graph: Graph) -> TensorStorage? {
    guard let constant = graph.constant(value), constant.byteCount <= largestRead else { return nil }
    return constant.storage
  }
}
