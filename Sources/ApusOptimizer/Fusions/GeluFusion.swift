// Gelu, spelled out: x · 0.5 · (1 + erf(x/√2)), and the tanh form. https://onnx.ai/onnx/operators/onnx__Gelu.html

import ApusGraph

/// x·½·(1 + erf(x/√2)) in any order of the factors → Gelu.
struct ErfGeluFusion: Fusion {
  let name = "erf-gelu"
  let roots: Set<OperatorID> = [OperatorID("Mul")]

  func match(root: NodeID, in graph: borrowing GraphEditor) -> GraphPatch? {
    guard let product = GeluProduct(root: root, in: graph), let erf = graph.producer(of: product.curve, is: "Erf"),
      let argument = argumentNode(of: erf.node, base: product.input, in: graph)
    else { return nil }
    return product.rewrite(removing: [erf.position, argument], approximate: "none")
  }

  /// The node that computes base·√½, or base/√2.
  private func argumentNode(of erf: Node, base: ValueID, in graph: borrowing GraphEditor) -> NodeID? {
    if let mul = graph.producer(of: erf.inputs[0], is: "Mul"), let (value, scale) = graph.splitScalar(mul.node) {
      return value == base && scale.isClose(to: 0.5.squareRoot()) ? mul.position : nil
    }
    if let div = graph.producer(of: erf.inputs[0], is: "Div"), div.node.inputs[0] == base,
      let divisor = graph.scalar(div.node.inputs[1], beside: base)
    {
      return divisor.isClose(to: 2.0.squareRoot()) ? div.position : nil
    }
    return nil
  }
}

/// x·½·(1 + tanh(√(2/π)·(x + 0.044715·x³))) → Gelu with approximate = "tanh".
struct TanhGeluFusion: Fusion {
  let name = "tanh-gelu"
  let roots: Set<OperatorID> = [OperatorID("Mul")]

  func match(root: NodeID, in graph: borrowing GraphEditor) -> GraphPatch? {
    guard let product = GeluProduct(root: root, in: graph), let tanh = graph.producer(of: product.curve, is: "Tanh"),
      let outer = graph.producer(of: tanh.node.inputs[0], is: "Mul"), let (sum, scale) = graph.splitScalar(outer.node),
      scale.isClose(to: (2 / Double.pi).squareRoot()), let add = graph.producer(of: sum, is: "Add"),
      let cubic = graph.partner(of: product.input, in: add.node), let inner = graph.producer(of: cubic, is: "Mul"),
      let (cube, factor) = graph.splitScalar(inner.node), factor.isClose(to: 0.044715),
      let power = cubeNodes(of: cube, base: product.input, in: graph)
    else { return nil }
    return product.rewrite(
      removing: [tanh.position, outer.position, add.position, inner.position] + power, approximate: "tanh")
  }

  /// The nodes that compute base³, as Pow or as two products.
  private func cubeNodes(of value: ValueID, base: ValueID, in graph: borrowing GraphEditor) -> [NodeID]? {
    if let pow = graph.producer(of: value, is: "Pow"), pow.node.inputs[0] == base {
      return graph.scalar(pow.node.inputs[1], beside: base)?.value == 3 ? [pow.position] : nil
    }
    if let mul = graph.producer(of: value, is: "Mul"), let square = graph.partner(of: base, in: mul.node),
      let inner = graph.producer(of: square, is: "Mul"), inner.node.inputs == [base, base]
    {
      return [mul.position, inner.position]
    }
    return nil
  }
}

/// The product x · ½ · (1 + curve), in whichever order it was written.
private struct GeluProduct {
  let input: ValueID
  /// The value of erf or tanh.
  let curve: ValueID
  private let nodes: [NodeID]
  private let root: Node

  init?(root: NodeID, in graph: borrowing GraphEditor) {
    guard let factors = Self.factors(of: root, in: graph) else { return nil }
    self.root = graph[root]
    for (x, other) in [(factors.values.0, factors.values.1), (factors.values.1, factors.values.0)] {
      guard let add = graph.producer(of: other, is: "Add"), let (curve, one) = graph.splitScalar(add.node),
        one.value == 1
      else { continue }
      input = x
      self.curve = curve
      nodes = factors.nodes + [add.position]
      return
    }
    return nil
  }

  /// The two values of a product of three factors of which the third is the constant ½, and its two nodes.
  private static func factors(of root: NodeID, in graph: borrowing GraphEditor) -> (
    values: (ValueID, ValueID), nodes: [NodeID]
  )? {
    let node = graph[root]
    guard node.inputs.count == 2, let a = node.inputs[0], let b = node.inputs[1] else { return nil }
    if let (product, half) = graph.splitScalar(node), half.value == 0.5 {
      guard let mul = graph.producer(of: product, is: "Mul"), mul.node.inputs.count == 2, let x = mul.node.inputs[0],
        let y = mul.node.inputs[1]
      else { return nil }
      return ((x, y), [root, mul.position])
    }
    for (product, other) in [(a, b), (b, a)] {
      if let mul = graph.producer(of: product, is: "Mul"), graph.hasOneUser(product),
        let (value, half) = graph.splitScalar(mul.node), half.value == 0.5
      {
        return ((value, other), [root, mul.position])
      }
    }
    return nil
  }

  func rewrite(removing others: [NodeID], approximate: String) -> GraphPatch {
    let node = Node(
      OperatorID("Gelu"), name: root.name, inputs: [input], outputs: root.outputs,
      attributes: Attributes([("approximate", .string(approximate))]))
    return GraphPatch(removed: nodes + others, added: [node])
  }
}
