// Matrix products with constant weights → apus.Gemm, which takes bias, residual and activation into its epilogue.

import ApusGraph
import ApusOperators
import ApusTensor

/// MatMul(A, constant B) and Gemm(A, constant B, C) of float32 → apus.Gemm. B may be cast from 16 bits.
struct GemmFusion: Fusion {
  let name = "gemm"
  let roots: Set<OperatorID> = [OperatorID("MatMul"), OperatorID("Gemm")]

  func match(root: NodeID, in graph: borrowing GraphEditor) -> GraphPatch? {
    let node = graph[root]
    guard let output = node.outputs[0], node.inputs.count >= 2, var a = node.inputs[0],
      let (b, isReversed) = weights(node.inputs[1], in: graph), let weight = graph.constant(b),
      graph.dataType(a) == .float32, weight.rank == 2, weight.count > 0, graph.rank(a) ?? 0 >= 1
    else { return nil }
    var isTransposed = isReversed
    var attributes = Attributes()
    if weight.dataType == .bfloat16, FusedGemm.canRoundRows, node.attributes.float("alpha") ?? 1 == 1,
      let unrounded = beforeRounding(a, in: graph)
    {
      attributes["narrow"] = .int(1)
      a = unrounded
    }
    var inputs: [ValueID?] = [a, b]
    var constants: [Tensor] = []
    if node.op.name == "Gemm" {
      guard node.attributes.int("transA") ?? 0 == 0, node.attributes.float("beta") ?? 1 == 1 else { return nil }
      if node.attributes.int("transB") ?? 0 != 0 { isTransposed.toggle() }
      attributes["alpha"] = .float(node.attributes.float("alpha") ?? 1)
      if node.inputs.count > 2, let c = node.inputs[2] {
        guard let bias = biasVector(graph.constant(c), width: weight.shape[isTransposed ? 0 : 1]) else { return nil }
        inputs.append(bias.isAsGiven ? c : GraphPatch.constant(0))
        if !bias.isAsGiven { constants = [bias.tensor] }
      }
    }
    attributes["transB"] = .int(isTransposed ? 1 : 0)
    let gemm = Node(
      OperatorID("Gemm", domain: "apus"), name: node.name, inputs: inputs, outputs: [output], attributes: attributes)
    return GraphPatch(removed: [root], added: [gemm], constants: constants)
  }

  /// What stands for a value of bfloat16 that is cast to float32: the float32 that it was rounded from, or else itself.
  private func beforeRounding(_ value: ValueID, in graph: borrowing GraphEditor) -> ValueID? {
    guard let cast = graph.producer(of: value, is: "Cast")?.node, let half = cast.inputs[0],
      graph.dataType(half) == .bfloat16
    else { return nil }
    guard let narrowing = graph.producer(of: half, is: "Cast")?.node, let source = narrowing.inputs[0],
      graph.dataType(source) == .float32
    else { return value }
    return source
  }

  /// The constant behind the second operand, perhaps behind a Transpose and a Cast from 16 bits to float32, and whether
  /// it has to be read transposed.
  private func weights(_ value: ValueID?, in graph: borrowing GraphEditor) -> (value: ValueID, isTransposed: Bool)? {
    guard var value else { return nil }
    var (isTransposed, isCast) = (false, false)
    while graph.constant(value) == nil {
      guard let producer = graph.producer(of: value).map({ graph[$0] }), let source = producer.inputs.first ?? nil
      else {
        return nil
      }
      if producer.op == OperatorID("Transpose"), graph.rank(source) == 2,
        producer.attributes.ints("perm") ?? [1, 0] == [1, 0]
      {
        isTransposed.toggle()
      } else if !isCast, producer.widensHalves(graph.dataType(source)) {
        isCast = true
      } else {
        return nil
      }
      value = source
    }
    return isCast || graph.dataType(value) == .float32 ? (value, isTransposed) : nil
  }
}

/// MatMul(A, Transpose(B)) of float32, with the last two axes of B exchanged → apus.Gemm, which reads B as it lies.
struct TurnedProductFusion: Fusion {
  let name = "turned-product"
  let roots: Set<OperatorID> = [OperatorID("MatMul")]

  func match(root: NodeID, in graph: borrowing GraphEditor) -> GraphPatch? {
    let node = graph[root]
    guard let transpose = graph.producer(of: node.inputs[1], is: "Transpose")?.node, let b = transpose.inputs[0],
      let rank = graph.rank(b), rank >= 2, graph.constant(b) == nil, graph.dataType(b) == .float32,
      graph.rank(node.inputs[0]) ?? 0 >= 1,
      transpose.attributes.ints("perm") ?? Array((0..<rank).reversed())
        == Array(0..<rank - 2) + [rank - 1, rank - 2]
    else { return nil }
    let gemm = Node(
      FusedGemm.id, name: node.name, inputs: [node.inputs[0], b], outputs: node.outputs,
      attributes: Attributes([("transB", .int(1))]))
    return GraphPatch(removed: [root], added: [gemm])
  }
}

/// MatMul or apus.Gemm of float32 → Mul by a power of two → apus.Gemm with that factor. A power of two rounds nothing,
/// so that it may as well be multiplied with the elements of B.
struct ScaledProductFusion: Fusion {
  let name = "scaled-product"
  let roots: Set<OperatorID> = [OperatorID("Mul")]

  /// Exponents of factors that keep numbers of usual size far from overflow and underflow.
  private static let exponents: ClosedRange<Float.Exponent> = -16...16

  func match(root: NodeID, in graph: borrowing GraphEditor) -> GraphPatch? {
    let node = graph[root]
    for (value, factor) in [(node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])] {
      guard let constant = graph.constant(factor), constant.count == 1, constant.rank <= graph.rank(value) ?? 0,
        let alpha = constant.elements(as: Float.self)?.first, alpha > 0, alpha.significand == 1,
        ScaledProductFusion.exponents.contains(alpha.exponent),
        let (position, product) = graph.producer(of: value, is: "MatMul")
          ?? graph.producer(of: value, is: "Gemm", domain: FusedGemm.id.domain),
        isPlain(product), let b = product.inputs[1], graph.dataType(b) == .float32, graph.rank(b) ?? 0 >= 2,
        graph.rank(product.inputs[0]) ?? 0 >= 1
      else { continue }
      var gemm = product
      gemm.op = FusedGemm.id
      gemm.outputs = node.outputs
      gemm.attributes["alpha"] = .float(alpha)
      return GraphPatch(removed: [position, root], added: [gemm])
    }
    return nil
  }

  /// A product of two factors and nothing else.
  private func isPlain(_ product: Node) -> Bool {
    product.inputs.dropFirst(2).allSatisfy { $0 == nil } && product.attributes["activation"] == nil
      && product.attributes.float("alpha") ?? 1 == 1 && product.attributes.int("narrow") ?? 0 == 0
  }
}

/// A constant that adds one number to each column, as a vector of that width; nil if it is something else.
func biasVector(_ tensor: Tensor?, width: Int) -> (tensor: Tensor, isAsGiven: Bool)? {
  guard let tensor, tensor.dataType == .float32 else { return nil }
  if tensor.rank == 1, tensor.count == width { return (tensor, true) }
  if tensor.count == width, tensor.rank >= 1, tensor.shape[tensor.rank - 1] == width {
    return (tensor.reshaped(to: [width]), false)
  }
  if tensor.count == 1, let value = tensor.elements(as: Float.self)?.first {
    return (Tensor([Float](repeating: value, count: width)), false)
  }
  return nil
}

/// apus.Gemm or apus.IntegerGemm followed by a bias, a residual or an activation → one of them.
struct GemmEpilogueFusion: Fusion {
  let name = "gemm-epilogue"
  let roots: Set<OperatorID> = Activation.epilogueOperators.union([OperatorID("Add")])

  /// A product without an activation, and where it takes a bias and a residual.
  private struct Product {
    let position: NodeID
    var node: Node
    let bias: Int
    let residual: Int

    init?(_ value: ValueID?, in graph: borrowing GraphEditor) {
      if let (position, node) = graph.producer(of: value, is: "Gemm", domain: "apus") {
        (self.position, self.node, bias, residual) = (position, node, 2, 3)
      } else if let (position, node) = graph.producer(of: value, is: "IntegerGemm", domain: "apus") {
        (self.position, self.node, bias, residual) = (position, node, IntegerGemm.bias, IntegerGemm.residual)
      } else {
        return nil
      }
      if node.attributes["activation"] != nil { return nil }
    }

    func has(_ input: Int) -> Bool { input < node.inputs.count && node.inputs[input] != nil }

    mutating func set(_ input: Int, _ value: ValueID) {
      while node.inputs.count <= input { node.inputs.append(nil) }
      node.inputs[input] = value
    }
  }

  func match(root: NodeID, in graph: borrowing GraphEditor) -> GraphPatch? {
    let node = graph[root]
    guard let output = node.outputs[0] else { return nil }
    if node.op.name == "Add" { return matchAdd(root, output: output, in: graph) }
    guard var product = Product(node.inputs[0], in: graph), let activation = graph.epilogue(of: node) else {
      return nil
    }
    product.node.outputs = [output]
    activation.write(to: &product.node.attributes)
    return GraphPatch(removed: [product.position, root], added: [product.node])
  }

  private func matchAdd(_ root: NodeID, output: ValueID, in graph: borrowing GraphEditor) -> GraphPatch? {
    let node = graph[root]
    for (value, other) in [(node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])] {
      guard let value, let other, var product = Product(value, in: graph),
        let weight = graph.constant(product.node.inputs[1]), weight.rank == 2, !product.has(product.residual)
      else { continue }
      let width = weight.shape[product.node.attributes.int("transB") ?? 0 != 0 ? 0 : 1]
      product.node.outputs = [output]
      if let constant = graph.constant(other) {
        guard !product.has(product.bias), constant.rank <= graph.rank(value) ?? 0,
          let bias = biasVector(constant, width: width)
        else { continue }
        product.set(product.bias, bias.isAsGiven ? other : GraphPatch.constant(0))
        return GraphPatch(
          removed: [product.position, root], added: [product.node], constants: bias.isAsGiven ? [] : [bias.tensor])
      }
      guard graph.haveSameShape(value, other) else { continue }
      product.set(product.residual, other)
      return GraphPatch(removed: [product.position, root], added: [product.node])
    }
    return nil
  }
}
