// Removes nodes that hand their input on unchanged.

import ApusGraph

struct IdentityElimination: GraphPass {
  let name = "eliminate-identities"

  func run(_ graph: inout GraphEditor, within work: OptimizerWork) throws(OperatorError) -> Int {
    var changes = 0
    let isInput = Set(graph.inputs + graph.captures)
    for id in graph.nodes {
      // An output of the graph that is an input would lose its own name and memory; keep the copy.
      guard let source = graph.unchangedInput(of: graph[id]), let output = graph[id].outputs[0],
        !(graph.isOutput(output) && (isInput.contains(source) || graph.constant(source) != nil)), work.budget.take()
      else { continue }
      graph.replaceUses(of: output, with: source)
      graph.remove(id)
      changes += 1
    }
    return changes
  }
}
