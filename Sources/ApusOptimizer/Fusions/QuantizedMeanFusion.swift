// Means between DequantizeLinear and QuantizeLinear → apus.QLinearReduceMean, whose sums are exact.

import ApusGraph
import ApusOperators
import ApusTensor

/// DequantizeLinear → GlobalAveragePool, or ReduceMean along constant axes (→ Relu) → QuantizeLinear → the mean on
/// bytes. The float form rounds each sum and may lie one step beside the exact one where that falls between two.
struct QuantizedMeanFusion: Fusion {
  let name = "quantized-mean"
  let roots: Set<OperatorID> = [OperatorID("QuantizeLinear")]

  func match(root: NodeID, in graph: borrowing GraphEditor) -> GraphPatch? {
    guard let result = QuantizedResult(root, in: graph),
      let mean = result.producer(is: "GlobalAveragePool", in: graph) ?? result.producer(is: "ReduceMean", in: graph),
      let x = Dequantized(mean.node.inputs[0], in: graph), x.isWhole, x.type != .int32,
      let rank = graph.rank(x.quantized)
    else { return nil }
    var patch = QuantizedPatch()
    let axes: ValueID
    if mean.node.op.name == "GlobalAveragePool" {
      guard rank > 2 else { return nil }
      axes = patch.add(Tensor(Array(2..<rank)))
    } else {
      guard mean.node.inputs.count > 1, let given = mean.node.inputs[1],
        graph.constant(given)?.integers?.isEmpty == false
      else { return nil }
      axes = given
    }
    let code = x.operands(&patch)
    let node = Node(
      QLinearReduceMean.id, name: mean.node.name,
      inputs: [code[0], axes, code[1], code[2], result.scale, result.zeroPoint ?? patch.zero(result.type)],
      outputs: [result.output], attributes: Attributes([("keepdims", .int(mean.node.attributes.int("keepdims") ?? 1))]))
    return GraphPatch(removed: result.between + [mean.position, root], added: [node], constants: patch.constants)
  }
}
