// apus.Conv followed by a residual sum or an activation → one apus.Conv.

import ApusGraph
import ApusTensor

struct ConvEpilogueFusion: Fusion {
  let name = "conv-epilogue"
  let roots: Set<OperatorID> = Set(Activation.operators.map { OperatorID($0) } + [OperatorID("Add")])

  func match(root: Int, in graph: Graph, index: GraphIndex) -> Rewrite? {
    let node = graph.nodes[root]
    guard let output = node.outputs[0] else { return nil }
    if node.op.name == "Add" { return matchResidual(root, output: output, in: graph, index: index) }
    guard let conv = graph.producer(of: node.inputs[0], index, is: "Conv", domain: "apus"),
      conv.node.attributes["activation"] == nil, let activation = Activation(node, in: graph)
    else { return nil }
    var fused = conv.node
    fused.outputs = [output]
    activation.write(to: &fused.attributes)
    return Rewrite(removed: [conv.position, root], added: [fused])
  }

  /// The later of two convolutions takes the sum, so that the other operand exists when it runs.
  private func matchResidual(_ root: Int, output: ValueID, in graph: Graph, index: GraphIndex) -> Rewrite? {
    let node = graph.nodes[root]
    var best: (position: Int, node: Node, other: ValueID)?
    for (value, other) in [(node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])] {
      guard let value, let other, value != other, graph.constant(other) == nil,
        let conv = graph.producer(of: value, index, is: "Conv", domain: "apus"), index.onlyUser(of: value) != nil,
        conv.node.attributes["activation"] == nil, conv.node.inputs.count < 4 || conv.node.inputs[3] == nil,
        let own = graph.fact(value).tensor?.shape, let theirs = graph.fact(other).tensor?.shape, own.count == theirs.count,
        zip(own, theirs).allSatisfy({ $0.isSame(as: $1) })
      else { continue }
      if best == nil || conv.position > best!.position { best = (conv.position, conv.node, other) }
    }
    guard let best else { return nil }
    var fused = best.node
    fused.outputs = [output]
    fused.inputs = [fused.inputs[0], fused.inputs[1], fused.inputs.count > 2 ? fused.inputs[2] : nil, best.other]
    return Rewrite(removed: [best.position, root], added: [fused])
  }
}
