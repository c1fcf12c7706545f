// Gelu, spelled out: x · 0.5 · (1 + erf(x/√2)), and the tanh form. https://onnx.ai/onnx/operators/onnx__Gelu.html

import ApusGraph

/// x·½·(1 + erf(x/√2)) in any order of the factors → Gelu.
struct ErfGeluFusion: Fusion {
  let name = "erf-gelu"
  let roots: Set<OperatorID> = [OperatorID("Mul")]

  func match(root: Int, in graph: Graph, index: GraphIndex) -> Rewrite? {
    guard let product = GeluProduct(root: root, in: graph, index: index),
      let erf = graph.producer(of: product.curve, index, is: "Erf"),
      let argument = scaledArgument(of: erf.node, in: graph, index: index), argument.value == product.input,
      isClose(argument.scale, Float(0.5).squareRoot())
    else { return nil }
    return product.rewrite(
      removing: [erf.position, argument.node], approximate: "none", root: graph.nodes[root])
  }

  /// The x and s of an argument s·x, or x/(1/s).
  private func scaledArgument(
    of node: Node, in graph: Graph, index: GraphIndex
  ) -> (value: ValueID, scale: Float, node: Int)? {
    if let mul = graph.producer(of: node.inputs[0], index, is: "Mul"), let (value, scale) = graph.splitScalar(mul.node) {
      return (value, scale, mul.position)
    }
    if let div = graph.producer(of: node.inputs[0], index, is: "Div"), let value = div.node.inputs[0],
      let divisor = graph.scalar(div.node.inputs[1]), divisor != 0
    {
      return (value, 1 / divisor, div.position)
    }
    return nil
  }
}

/// x·½·(1 + tanh(√(2/π)·(x + 0.044715·x³))) → Gelu with approximate = "tanh".
struct TanhGeluFusion: Fusion {
  let name = "tanh-gelu"
  let roots: Set<OperatorID> = [OperatorID("Mul")]

  func match(root: Int, in graph: Graph, index: GraphIndex) -> Rewrite? {
    guard let product = GeluProduct(root: root, in: graph, index: index),
      let tanh = graph.producer(of: product.curve, index, is: "Tanh"),
      let outer = graph.producer(of: tanh.node.inputs[0], index, is: "Mul"),
      let (sum, scale) = graph.splitScalar(outer.node), isClose(scale, 0.797_884_56),
      let add = graph.producer(of: sum, index, is: "Add"), let cubic = graph.partner(of: product.input, in: add.node),
      let inner = graph.producer(of: cubic, index, is: "Mul"), let (cube, factor) = graph.splitScalar(inner.node),
      isClose(factor, 0.044715), let power = cubeNodes(of: cube, base: product.input, in: graph, index: index)
    else { return nil }
    return product.rewrite(
      removing: [tanh.position, outer.position, add.position, inner.position] + power, approximate: "tanh",
      root: graph.nodes[root])
  }

  /// The nodes that compute base³, as Pow or as two products.
  private func cubeNodes(of value: ValueID, base: ValueID, in graph: Graph, index: GraphIndex) -> [Int]? {
    if let pow = graph.producer(of: value, index, is: "Pow"), pow.node.inputs[0] == base,
      graph.scalar(pow.node.inputs[1]) == 3
    {
      return [pow.position]
    }
    if let mul = graph.producer(of: value, index, is: "Mul"), let square = graph.partner(of: base, in: mul.node),
      let inner = graph.producer(of: square, index, is: "Mul"), inner.node.inputs == [base, base]
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
  private let nodes: [Int]
  private let output: ValueID

  init?(root: Int, in graph: Graph, index: GraphIndex) {
    guard let output = graph.nodes[root].outputs[0], let factors = Self.factors(of: root, in: graph, index: index),
      factors.scale == 0.5, factors.values.count == 2
    else { return nil }
    for (x, other) in [(factors.values[0], factors.values[1]), (factors.values[1], factors.values[0])] {
      guard let add = graph.producer(of: other, index, is: "Add"), let (curve, one) = graph.splitScalar(add.node), one == 1
      else { continue }
      input = x
      self.curve = curve
      nodes = factors.nodes + [add.position]
      self.output = output
      return
    }
    return nil
  }

  /// The factors of a product of at most three: scalars multiplied up, the others as values.
  private static func factors(
    of root: Int, in graph: Graph, index: GraphIndex
  ) -> (values: [ValueID], scale: Float, nodes: [Int])? {
    var values: [ValueID] = []
    var scale: Float = 1
    var nodes = [root]
    for input in graph.nodes[root].inputs.compactMap({ $0 }) {
      if let scalar = graph.scalar(input) {
        scale *= scalar
      } else if let mul = graph.producer(of: input, index, is: "Mul"), index.onlyUser(of: input) != nil,
        let (value, scalar) = graph.splitScalar(mul.node)
      {
        values.append(value)
        scale *= scalar
        nodes.append(mul.position)
      } else {
        values.append(input)
      }
    }
    if values.count == 1, let mul = graph.producer(of: values[0], index, is: "Mul"), mul.node.inputs.count == 2,
      index.onlyUser(of: values[0]) != nil, let a = mul.node.inputs[0], let b = mul.node.inputs[1]
    {
      return ([a, b], scale, nodes + [mul.position])
    }
    return (values, scale, nodes)
  }

  func rewrite(removing others: [Int], approximate: String, root: Node) -> Rewrite {
    let node = Node(
      OperatorID("Gelu"), name: root.name, inputs: [input], outputs: [output],
      attributes: Attributes([("approximate", .string(approximate))]))
    return Rewrite(removed: nodes + others, added: [node])
  }
}
