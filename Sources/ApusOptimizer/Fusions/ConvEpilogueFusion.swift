// apus.Conv followed by a residual sum or an activation → one apus.Conv; apus.BatchNormalization followed by an
// activation → one of it.

import ApusGraph
import ApusOperators
import ApusTensor

struct ConvEpilogueFusion: Fusion {
  let name = "conv-epilogue"
  let roots: Set<OperatorID> = Activation.epilogueOperators.union([OperatorID("Add")])

  func match(root: NodeID, in graph: borrowing GraphEditor) -> GraphPatch? {
    let node = graph[root]
    guard let output = node.outputs[0] else { return nil }
    if node.op.name == "Add" { return matchResidual(root, output: output, in: graph) }
    guard let before = activated(node.inputs[0], in: graph), before.node.attributes["activation"] == nil,
      let activation = graph.epilogue(of: node)
    else { return nil }
    var fused = before.node
    fused.outputs = [output]
    activation.write(to: &fused.attributes)
    return GraphPatch(removed: [before.position, root], added: [fused])
  }

  /// The node before an activation, if it can have one itself.
  private func activated(
    _ value: ValueID?, in graph: borrowing GraphEditor
  ) -> (position: NodeID, node: Node)? {
    graph.producer(of: value, is: "Conv", domain: "apus")
      ?? graph.producer(of: value, is: ChannelsLastBatchNormalization.id.name, domain: "apus")
  }

  /// The later of two convolutions takes the sum, so that the other operand exists when it runs.
  private func matchResidual(_ root: NodeID, output: ValueID, in graph: borrowing GraphEditor) -> GraphPatch? {
    let node = graph[root]
    var best: (position: NodeID, node: Node, other: ValueID)?
    for (value, other) in [(node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])] {
      guard let value, let other, value != other, graph.constant(other) == nil,
        let conv = graph.producer(of: value, is: "Conv", domain: "apus"), graph.hasOneUser(value),
        conv.node.attributes["activation"] == nil, conv.node.inputs.count < 4 || conv.node.inputs[3] == nil,
        graph.haveSameShape(value, other)
      else { continue }
      if best == nil || graph.isBefore(best!.position, conv.position) { best = (conv.position, conv.node, other) }
    }
    guard let best else { return nil }
    var fused = best.node
    fused.outputs = [output]
    fused.inputs = [fused.inputs[0], fused.inputs[1], fused.inputs.count > 2 ? fused.inputs[2] : nil, best.other]
    return GraphPatch(removed: [best.position, root], added: [fused])
  }
}
