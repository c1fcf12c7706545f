// Sums and products between DequantizeLinear and QuantizeLinear → apus.QLinearAdd, apus.QLinearMul.

import ApusGraph
import ApusOperators
import ApusTensor

/// DequantizeLinear, DequantizeLinear → Add or Mul (→ Relu) → QuantizeLinear → the operator on bytes. The bits stay the
/// same.
struct QuantizedElementwiseFusion: Fusion {
  let name = "quantized-elementwise"
  let roots: Set<OperatorID> = [OperatorID("QuantizeLinear")]

  func match(root: NodeID, in graph: borrowing GraphEditor) -> GraphPatch? {
    guard let result = QuantizedResult(root, in: graph), graph.constant(result.scale) != nil else { return nil }
    for operation in QLinearBinary.Operation.allCases {
      guard let binary = result.producer(is: operation.rawValue, in: graph), binary.node.inputs.count == 2,
        let a = Dequantized(binary.node.inputs[0], in: graph), let b = Dequantized(binary.node.inputs[1], in: graph),
        [a, b].allSatisfy({ $0.isWhole && $0.type != .int32 && $0.isConstant(in: graph) }),
        result.zeroPoint == nil || graph.constant(result.zeroPoint) != nil
      else { continue }
      var patch = QuantizedPatch()
      let inputs: [ValueID?] =
        a.operands(&patch) + b.operands(&patch) + [result.scale, result.zeroPoint ?? patch.zero(result.type)]
      let node = Node(
        operation.id, name: binary.node.name, inputs: inputs, outputs: [result.output], attributes: Attributes())
      return GraphPatch(removed: result.between + [binary.position, root], added: [node], constants: patch.constants)
    }
    return nil
  }
}
