// Removes nodes that nobody needs, and forgets the tensors of constants that nobody uses.

import ApusGraph

struct DeadNodeElimination: GraphPass {
  let name = "eliminate-dead-nodes"

  func run(_ graph: inout Graph, registry: OperatorRegistry) throws(OperatorError) -> Int {
    var needed = [Bool](repeating: false, count: graph.values.count)
    for value in graph.outputs { needed[value.index] = true }
    var kept: [Node] = []
    for node in graph.nodes.reversed() where node.outputs.contains(where: { $0.map { needed[$0.index] } ?? false }) {
      for value in node.dependencies { needed[value.index] = true }
      kept.append(node)
    }
    for index in graph.values.indices where !needed[index] { graph.values[index].constant = nil }
    let removed = graph.nodes.count - kept.count
    graph.nodes = kept.reversed()
    return removed
  }
}
