// Products between DequantizeLinear and QuantizeLinear → operators on integers, whose sums are exact: QLinearConv,
// QLinearMatMul, and those of the engine's own. https://onnx.ai/onnx/operators/onnx__QLinearConv.html
//
// The float form rounds each product and sum and may lie one step beside the exact one where that falls between two.

import ApusGraph
import ApusOperators
import ApusTensor

/// DequantizeLinear → Conv (→ Relu) → QuantizeLinear → QLinearConv.
struct QuantizedConvFusion: Fusion {
  let name = "quantized-conv"
  let roots: Set<OperatorID> = [OperatorID("QuantizeLinear")]

  func match(root: NodeID, in graph: borrowing GraphEditor) -> GraphPatch? {
    guard let result = QuantizedResult(root, in: graph), let conv = result.producer(is: "Conv", in: graph),
      conv.node.inputs.count >= 2, let x = Dequantized(conv.node.inputs[0], in: graph), x.isWhole,
      let w = Dequantized(conv.node.inputs[1], in: graph), w.isWhole || (w.axis == 0 && w.scaleCount != nil),
      let weights = graph.constant(w.quantized), ExactSum.holds(weights.shape.dropFirst().reduce(1, *))
    else { return nil }
    var patch = QuantizedPatch()
    var inputs: [ValueID?] =
      x.operands(&patch) + w.operands(&patch) + [result.scale, result.zeroPoint ?? patch.zero(result.type)]
    if conv.node.inputs.count > 2, let bias = conv.node.inputs[2] {
      guard let sums = Dequantized(bias, in: graph), sums.type == .int32, sums.isOfProduct(x, w, in: graph),
        let start = graph.constant(sums.quantized)?.elements(as: Int32.self), start.allSatisfy(ExactSum.holds(start:))
      else { return nil }
      inputs.append(sums.quantized)
    }
    let node = Node(
      OperatorID("QLinearConv"), name: conv.node.name, inputs: inputs, outputs: [result.output],
      attributes: conv.node.attributes)
    return GraphPatch(removed: result.between + [conv.position, root], added: [node], constants: patch.constants)
  }
}

/// DequantizeLinear → MatMul → QuantizeLinear → QLinearMatMul.
struct QuantizedMatMulFusion: Fusion {
  let name = "quantized-matmul"
  let roots: Set<OperatorID> = [OperatorID("QuantizeLinear")]

  func match(root: NodeID, in graph: borrowing GraphEditor) -> GraphPatch? {
    guard let result = QuantizedResult(root, in: graph), let product = result.producer(is: "MatMul", in: graph),
      let a = Dequantized(product.node.inputs[0], in: graph), a.isWhole,
      let b = Dequantized(product.node.inputs[1], in: graph),
      b.isWhole || (graph.rank(b.quantized) == 2 && b.axis == 1 && b.scaleCount != nil),
      let depth = graph.shape(a.quantized)?.last?.known, ExactSum.holds(depth)
    else { return nil }
    var patch = QuantizedPatch()
    let inputs: [ValueID?] =
      a.operands(&patch) + b.operands(&patch) + [result.scale, result.zeroPoint ?? patch.zero(result.type)]
    let node = Node(
      OperatorID("QLinearMatMul"), name: product.node.name, inputs: inputs, outputs: [result.output])
    return GraphPatch(removed: result.between + [product.position, root], added: [node], constants: patch.constants)
  }
}

/// DequantizeLinear → Gemm with a matrix of weights (→ Relu) → QuantizeLinear → apus.QLinearGemm.
struct QuantizedGemmFusion: Fusion {
  let name = "quantized-gemm"
  let roots: Set<OperatorID> = [OperatorID("QuantizeLinear")]

  func match(root: NodeID, in graph: borrowing GraphEditor) -> GraphPatch? {
    guard let result = QuantizedResult(root, in: graph), let gemm = result.producer(is: "Gemm", in: graph),
      let factors = QuantizedFactors(gemm.node, in: graph)
    else { return nil }
    var patch = QuantizedPatch()
    var inputs: [ValueID?] =
      factors.a.operands(&patch) + factors.b.operands(&patch) + [
        result.scale, result.zeroPoint ?? patch.zero(result.type),
      ]
    if let bias = factors.bias {
      guard let sums = Dequantized(bias, in: graph), sums.type == .int32, graph.rank(sums.quantized) == 1,
        sums.isOfProduct(factors.a, factors.b, in: graph),
        let start = graph.constant(sums.quantized)?.elements(as: Int32.self), start.count == factors.columns,
        start.allSatisfy(ExactSum.holds(start:))
      else { return nil }
      inputs.append(sums.quantized)
    }
    let node = Node(
      QLinearGemm.id, name: gemm.node.name, inputs: inputs, outputs: [result.output],
      attributes: factors.isTransposed ? Attributes([("transB", .int(1))]) : Attributes())
    return GraphPatch(removed: result.between + [gemm.position, root], added: [node], constants: patch.constants)
  }
}

/// DequantizeLinear → MatMul or Gemm with a matrix of weights, whose result stays float → apus.IntegerGemm.
struct IntegerGemmFusion: Fusion {
  let name = "integer-gemm"
  let roots: Set<OperatorID> = [OperatorID("MatMul"), OperatorID("Gemm")]

  func match(root: NodeID, in graph: borrowing GraphEditor) -> GraphPatch? {
    let node = graph[root]
    guard let output = node.outputs[0], let factors = QuantizedFactors(node, in: graph),
      !becomesBytes(output, in: graph),
      let left = graph.constant(factors.a.scale)?.elements(as: Float.self)?.first,
      let right = graph.constant(factors.b.scale)?.elements(as: Float.self)
    else { return nil }
    let scales = right.map { left * $0 }
    guard scales.allSatisfy({ $0.isNormal }) else { return nil }
    var patch = QuantizedPatch()
    let scale = patch.add(Tensor(scales))
    var inputs: [ValueID?] = [
      factors.a.quantized, factors.b.quantized, factors.a.zeroPoint,
      factors.b.zeroPoint, scale,
    ]
    if let bias = factors.bias {
      guard graph.shape(bias)?.map(\.known) == [factors.columns], graph.dataType(bias) == .float32 else { return nil }
      inputs.append(bias)
    }
    let gemm = Node(
      IntegerGemm.id, name: node.name, inputs: inputs, outputs: [output],
      attributes: factors.isTransposed ? Attributes([("transB", .int(1))]) : Attributes())
    return GraphPatch(removed: [root], added: [gemm], constants: patch.constants)
  }

  /// Whether all that is made of a value is bytes, with a Relu before them or without.
  private func becomesBytes(_ value: ValueID, in graph: borrowing GraphEditor) -> Bool {
    let users = graph.users(of: value)
    guard !users.isEmpty, !graph.isOutput(value) else { return false }
    for user in users {
      let node = graph[user]
      if node.op == OperatorID("QuantizeLinear") { continue }
      guard node.op == OperatorID("Relu"), let result = node.outputs[0], !graph.isOutput(result) else { return false }
      for other in graph.users(of: result) where graph[other].op != OperatorID("QuantizeLinear") { return false }
    }
    return true
  }
}

/// MatMulInteger → Cast to float32 → Mul by one scale, or by one a column → apus.IntegerGemm.
struct ScaledIntegerProductFusion: Fusion {
  let name = "scaled-integer-product"
  let roots: Set<OperatorID> = [OperatorID("Mul")]

  func match(root: NodeID, in graph: borrowing GraphEditor) -> GraphPatch? {
    let node = graph[root]
    guard let output = node.outputs[0], node.inputs.count == 2 else { return nil }
    for (value, scale) in [(node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])] {
      guard let cast = graph.producer(of: value, is: "Cast"), graph.dataType(value) == .float32,
        let product = graph.producer(of: cast.node.inputs[0], is: "MatMulInteger"),
        let scale, graph.dataType(scale) == .float32, let scales = graph.shape(scale),
        let columns = graph.shape(product.node.inputs[1])?.last, graph.rank(product.node.inputs[1]) ?? 0 >= 2,
        let rank = graph.rank(output), graph.rank(value) == rank,
        scales.isEmpty || (scales.count == 1 && (scales[0].known == 1 || scales[0].isSame(as: columns)))
      else { continue }
      var inputs = product.node.inputs
      while inputs.count < IntegerGemm.scale { inputs.append(nil) }
      let gemm = Node(
        IntegerGemm.id, name: product.node.name, inputs: inputs + [scale], outputs: [output], attributes: Attributes())
      return GraphPatch(removed: [product.position, cast.position, root], added: [gemm])
    }
    return nil
  }
}

/// What a MatMul, or a Gemm that only adds a bias, multiplies: dequantized bytes by a constant matrix of bytes.
private struct QuantizedFactors {
  let a: Dequantized
  let b: Dequantized
  let bias: ValueID?
  let isTransposed: Bool
  let columns: Int

  init?(_ node: Node, in graph: borrowing GraphEditor) {
    let attributes = node.attributes
    isTransposed = node.op.name == "Gemm" && attributes.int("transB") ?? 0 != 0
    let bytes: [DataType] = [.int8, .uint8]
    guard node.inputs.count >= 2, attributes.int("transA") ?? 0 == 0, attributes.float("alpha") ?? 1 == 1,
      attributes.float("beta") ?? 1 == 1, let a = Dequantized(node.inputs[0], in: graph), a.isWhole,
      let b = Dequantized(node.inputs[1], in: graph), bytes.contains(a.type), bytes.contains(b.type),
      let weights = graph.constant(b.quantized), weights.rank == 2, graph.rank(a.quantized) ?? 0 >= 1,
      ExactSum.holds(weights.shape[isTransposed ? 1 : 0])
    else { return nil }
    let columnAxis = isTransposed ? 0 : 1
    columns = weights.shape[columnAxis]
    guard b.isWhole || (b.axis == columnAxis && b.scaleCount == columns) else { return nil }
    (self.a, self.b) = (a, b)
    bias = node.inputs.count > 2 ? node.inputs[2] : nil
  }
}
