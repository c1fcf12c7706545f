// Two transposes in a row become one, or none. The pass is about Transpose: what it composes are its permutations.

import ApusGraph

struct TransposeCancellation: GraphPass {
  let name = "cancel-transposes"

  func run(_ graph: inout GraphEditor, within work: OptimizerWork) throws(OperatorError) -> Int {
    var changes = 0
    for node in graph.nodes {
      let second = graph[node]
      guard second.op == OperatorID("Transpose"), let perm = second.attributes.ints("perm"),
        let first = graph.producer(of: second.inputs[0], is: "Transpose")?.node,
        let firstPerm = first.attributes.ints("perm"), firstPerm.count == perm.count, work.budget.take()
      else { continue }
      let composed = perm.map { firstPerm[$0] }
      let isIdentity = composed == Array(composed.indices)
      graph.update(node) { node in
        node.inputs = first.inputs
        node.op = isIdentity ? OperatorID("Identity") : node.op
        node.attributes["perm"] = isIdentity ? nil : .ints(composed)
      }
      changes += 1
    }
    if changes > 0 { _ = try IdentityElimination().run(&graph, within: work) }
    return changes
  }
}
