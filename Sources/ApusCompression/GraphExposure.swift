// Puts out of a graph what lies within it: values of its own, and of the graphs inside its nodes.

import ApusGraph
import ApusOperators
import ApusTensor

/// A value that is put out, by what it is to whoever wants it.
struct Exposure<Label: Sendable>: Sendable {
  let label: Label
  var value: ValueID
  /// What stands for it in a run that does not come by.
  let absent: Tensor
}

/// Adds outputs to a graph. Those of a branch are outputs of its If. Those of a body that is run again and again are
/// stacked, so they need one shape.
struct GraphExposure<Label: Sendable> {
  let inference: InferenceDriver
  /// Whether graphs that are run again and again are entered.
  let entersLoops: Bool
  /// What to put out of one graph; may append nodes to it that compute that.
  let expose: (inout GraphEditor) throws(OperatorError) -> [Exposure<Label>]

  /// Puts the outputs in the place of those that the graph has. Returns what they are, in their order.
  func replaceOutputs(of graph: inout Graph, keeping count: Int = 0) throws(OperatorError) -> [Label] {
    let exposures: [Exposure<Label>]
    (graph, exposures) = try exposed(graph)
    graph.outputs = graph.outputs.prefix(count) + exposures.map(\.value)
    graph.outputDeclarations = []
    return exposures.map(\.label)
  }

  private func exposed(_ graph: Graph) throws(OperatorError) -> (Graph, [Exposure<Label>]) {
    var editor = GraphEditor(graph, inference: inference)
    let nodes = editor.nodes
    var exposures = try expose(&editor)
    for node in nodes where editor.hasSubgraphs(node) {
      exposures += try exposeInside(node, &editor)
    }
    try editor.settle()
    return (editor.finish(), exposures)
  }

  private func exposeInside(_ id: NodeID, _ graph: inout GraphEditor) throws(OperatorError) -> [Exposure<Label>] {
    guard let first = firstOutput(of: graph[id], entered: graph.schema(of: graph.op(of: id))?.carried) else {
      return []
    }
    var bodies: [[Exposure<Label>]] = []
    _ = try graph.updateSubgraphs(of: id) { (subgraph) throws(OperatorError) in
      let exposures: [Exposure<Label>]
      (subgraph.graph, exposures) = try exposed(subgraph.graph)
      bodies.append(exposures)
      return exposures.count
    }
    let all = bodies.flatMap { $0 }
    if all.isEmpty { return [] }
    var index = -1
    _ = try graph.updateSubgraphs(of: id) { (subgraph) throws(OperatorError) in
      index += 1
      for (owner, body) in bodies.enumerated() {
        for exposure in body {
          subgraph.graph.appendOutput(
            owner == index ? exposure.value : subgraph.graph.addConstant(exposure.absent))
        }
      }
      return all.count
    }
    let values = all.map { _ in graph.addValue() }
    graph.update(id) { node in
      node.outputs += [ValueID?](repeating: nil, count: first - node.outputs.count) + values
    }
    return zip(all, values).map { exposure, value in
      Exposure(label: exposure.label, value: value, absent: exposure.absent)
    }
  }

  /// The position of the output that one more output of the bodies is; nil: they are not entered.
  private func firstOutput(of node: Node, entered carried: CarriedValues?) -> Int? {
    let bodies = node.subgraphs.map(\.subgraph.graph)
    guard let outputs = bodies.first?.outputs.count, bodies.allSatisfy({ $0.outputs.count == outputs }) else {
      return nil
    }
    if let carried {
      // Outputs that are stacked along another axis, or backwards, say so one by one.
      let isPlain = !node.attributes.entries.contains { $0.name.hasPrefix("scan_output") }
      return entersLoops && isPlain && bodies.count == 1 ? outputs - carried.bodyOutput + carried.output : nil
    }
    return bodies.allSatisfy(\.inputs.isEmpty) ? outputs : nil
  }
}

extension Graph {
  fileprivate mutating func appendOutput(_ value: ValueID) {
    let fact = fact(value)
    outputs.append(value)
    settledOutputs?.append(fact)
  }
}
