// Removes nodes that nobody needs, and forgets the tensors of constants that nobody uses.

import ApusGraph

struct DeadNodeElimination: GraphPass {
  let name = "eliminate-dead-nodes"

  func run(_ graph: inout GraphEditor, within work: OptimizerWork) throws(OperatorError) -> Int {
    var removed = 0
    var next = graph.lastNode
    while let node = next {
      next = graph.node(before: node)
      guard graph[node].outputs.allSatisfy({ $0.map { graph.isUnused($0) } ?? true }), work.budget.take() else {
        continue
      }
      graph.remove(node)
      removed += 1
    }
    for index in 0..<graph.valueCount { graph.forgetUnusedConstant(ValueID(index)) }
    return removed
  }
}
