// Two transposes in a row become one, or none.

import ApusGraph

struct TransposeCancellation: GraphPass {
  let name = "cancel-transposes"

  func run(_ graph: inout Graph, registry: OperatorRegistry) throws(OperatorError) -> Int {
    let index = GraphIndex(graph)
    var changes = 0
    for position in graph.nodes.indices {
      let node = graph.nodes[position]
      guard node.op == OperatorID("Transpose"), let perm = node.attributes.ints("perm"),
        let first = index.producer(of: node.inputs[0]).map({ graph.nodes[$0] }), first.op == OperatorID("Transpose"),
        let firstPerm = first.attributes.ints("perm"), firstPerm.count == perm.count
      else { continue }
      let composed = perm.map { firstPerm[$0] }
      graph.nodes[position].inputs = first.inputs
      if composed == Array(composed.indices) {
        graph.nodes[position].op = OperatorID("Identity")
        graph.nodes[position].attributes = Attributes()
      } else {
        graph.nodes[position].attributes["perm"] = .ints(composed)
      }
      changes += 1
    }
    if changes > 0 { _ = try IdentityElimination().run(&graph, registry: registry) }
    return changes
  }
}
