// Removes nodes that hand their input on unchanged.

import ApusGraph

struct IdentityElimination: GraphPass {
  let name = "eliminate-identities"

  func run(_ graph: inout GraphEditor, within work: OptimizerWork) throws(OperatorError) -> Int {
    var changes = 0
    let isInput = Set(graph.inputs + graph.captures)
    for id in graph.nodes {
      // An output of the graph that is an input would lose its own name and memory; keep the copy.
      guard let source = source(of: graph[id], in: graph), let output = graph[id].outputs[0],
        !(graph.isOutput(output) && (isInput.contains(source) || graph.constant(source) != nil)), work.budget.take()
      else { continue }
      graph.replaceUses(of: output, with: source)
      graph.remove(id)
      changes += 1
    }
    return changes
  }

  /// The input that the only output equals, if the node changes nothing.
  private func source(of node: Node, in graph: borrowing GraphEditor) -> ValueID? {
    guard let schema = graph.schema(of: node.op), schema.identity.isPossible, let input = node.inputs.first ?? nil,
      let output = node.outputs.first, output != nil, !node.outputs.dropFirst().contains(where: { $0 != nil }),
      schema.identity.holds(for: graph.facts(of: node, schema))
    else { return nil }
    return input
  }
}
