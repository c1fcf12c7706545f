// Scaled dot-product attention, spelled out → Attention. https://onnx.ai/onnx/operators/onnx__Attention.html

import ApusGraph
import ApusTensor

/// softmax(s·Q·Kᵀ [+ mask])·V over [batch, heads, length, size] → Attention.
///
/// With a mask, only the form that replaces NaN by 0 (torch's safe softmax): Attention gives 0 for a row that sees no key,
/// where a bare Softmax of -infinities gives NaN.
struct AttentionFusion: Fusion {
  let name = "attention"
  let roots: Set<OperatorID> = [OperatorID("MatMul")]

  func match(root: Int, in graph: Graph, index: GraphIndex) -> Rewrite? {
    let node = graph.nodes[root]
    guard let output = node.outputs[0], let values = node.inputs[1], graph.fact(values).tensor?.dataType == .float32,
      graph.fact(values).tensor?.shape?.count == 4,
      let (softmax, isSafe) = softmax(of: node.inputs[0], in: graph, index: index)
    else { return nil }
    var scores = softmax.inputs[0]
    var mask: ValueID?
    if let add = graph.producer(of: scores, index, is: "Add") {
      guard isSafe, let sum = add.node.outputs[0], let (product, other) = productAndMask(add.node, in: graph, index: index),
        sameShape(product, sum, in: graph), let rank = graph.fact(other).tensor?.shape?.count, rank >= 2, rank <= 4,
        graph.fact(other).tensor?.dataType == .float32
      else { return nil }
      (scores, mask) = (product, other)
    }
    var scale: Float = 1
    scores = peelScale(scores, &scale, in: graph, index: index)
    guard let product = graph.producer(of: scores, index, is: "MatMul"),
      let query = peelScale(product.node.inputs[0], &scale, in: graph, index: index),
      let transposed = peelScale(product.node.inputs[1], &scale, in: graph, index: index),
      let key = untransposed(transposed, in: graph, index: index), isHeadwise(query, key, values, in: graph)
    else { return nil }
    let attention = Node(
      OperatorID("Attention"), name: node.name, inputs: [query, key, values] + (mask.map { [$0] } ?? []),
      outputs: [output], attributes: Attributes([("scale", .float(scale))]))
    // What lies inside dies if nobody else needs it.
    return Rewrite(removed: [root], added: [attention])
  }

  /// The Softmax over the last axis behind the probabilities, and whether NaN becomes 0.
  private func softmax(of value: ValueID?, in graph: Graph, index: GraphIndex) -> (node: Node, isSafe: Bool)? {
    func plain(_ value: ValueID?, users: Int) -> Node? {
      guard let value, let found = graph.producer(of: value, index, is: "Softmax"), index.users[value.index].count == users,
        !index.isOutput[value.index], let rank = graph.fact(value).tensor?.shape?.count, rank == 4
      else { return nil }
      let axis = found.node.attributes.int("axis") ?? -1
      return axis == -1 || axis == rank - 1 ? found.node : nil
    }
    if let node = plain(value, users: 1) { return (node, false) }
    guard let choice = graph.producer(of: value, index, is: "Where"), let value, index.onlyUser(of: value) != nil,
      graph.scalar(choice.node.inputs[1]) == 0, let probabilities = choice.node.inputs[2],
      let test = graph.producer(of: choice.node.inputs[0], index, is: "IsNaN"), test.node.inputs[0] == probabilities,
      let node = plain(probabilities, users: 2)
    else { return nil }
    return (node, true)
  }

  /// The operands of the sum: the scores, which come from a product, and the mask.
  private func productAndMask(_ add: Node, in graph: Graph, index: GraphIndex) -> (ValueID, ValueID)? {
    guard let a = add.inputs[0], let b = add.inputs[1] else { return nil }
    for (scores, mask) in [(a, b), (b, a)] {
      var scale: Float = 1
      if graph.producer(of: peelScale(scores, &scale, in: graph, index: index), index, is: "MatMul") != nil { return (scores, mask) }
    }
    return nil
  }

  /// What a value is before it was multiplied or divided by constants, which go into `scale`.
  private func peelScale(_ value: ValueID?, _ scale: inout Float, in graph: Graph, index: GraphIndex) -> ValueID? {
    var value = value
    while true {
      if let mul = graph.producer(of: value, index, is: "Mul"), let (inner, factor) = graph.splitScalar(mul.node) {
        scale *= factor
        value = inner
      } else if let div = graph.producer(of: value, index, is: "Div"), let divisor = graph.scalar(div.node.inputs[1]), divisor != 0 {
        scale /= divisor
        value = div.node.inputs[0]
      } else {
        return value
      }
    }
  }

  /// The value whose last two axes are exchanged to give `value`: by one Transpose, or by one of rank 3 between reshapes.
  private func untransposed(_ value: ValueID, in graph: Graph, index: GraphIndex) -> ValueID? {
    if let transpose = graph.producer(of: value, index, is: "Transpose") {
      return transpose.node.attributes.ints("perm") == [0, 1, 3, 2] ? transpose.node.inputs[0] : nil
    }
    guard let outer = graph.producer(of: value, index, is: "Reshape"),
      let transpose = graph.producer(of: outer.node.inputs[0], index, is: "Transpose"),
      transpose.node.attributes.ints("perm") == [0, 2, 1],
      let inner = graph.producer(of: transpose.node.inputs[0], index, is: "Reshape"), let key = inner.node.inputs[0],
      let source = graph.fact(key).tensor?.shape, source.count == 4,
      let flat = inner.node.outputs[0].flatMap({ graph.fact($0).tensor?.shape }), flat.count == 3,
      let result = graph.fact(value).tensor?.shape, result.count == 4,
      flat[1].isSame(as: source[2]), flat[2].isSame(as: source[3]), result[0].isSame(as: source[0]),
      result[1].isSame(as: source[1]), result[2].isSame(as: source[3]), result[3].isSame(as: source[2])
    else { return nil }
    return key
  }

  /// True for [batch, heads, length, size] with the same batch and heads, and sizes and numbers of keys that match.
  private func isHeadwise(_ query: ValueID, _ key: ValueID, _ values: ValueID, in graph: Graph) -> Bool {
    guard let q = graph.fact(query).tensor?.shape, let k = graph.fact(key).tensor?.shape,
      let v = graph.fact(values).tensor?.shape, q.count == 4, k.count == 4, v.count == 4
    else { return false }
    return q[0].isSame(as: k[0]) && k[0].isSame(as: v[0]) && q[1].isSame(as: k[1]) && k[1].isSame(as: v[1])
      && q[3].isSame(as: k[3]) && k[2].isSame(as: v[2])
  }
}

/// Attention between transposes of [batch, length, heads, size] → Attention on [batch, length, heads·size].
struct AttentionLayoutFusion: Fusion {
  let name = "attention-layout"
  let roots: Set<OperatorID> = [OperatorID("Reshape")]

  func match(root: Int, in graph: Graph, index: GraphIndex) -> Rewrite? {
    let node = graph.nodes[root]
    guard let output = node.outputs[0], let back = graph.producer(of: node.inputs[0], index, is: "Transpose"),
      back.node.attributes.ints("perm") == [0, 2, 1, 3],
      let attention = graph.producer(of: back.node.inputs[0], index, is: "Attention"), attention.node.inputs.count <= 4,
      attention.node.outputs.count == 1, let headwise = back.node.inputs[0], index.onlyUser(of: headwise) != nil,
      let result = graph.fact(headwise).tensor?.shape, result.count == 4, let heads = result[1].known, let size = result[3].known,
      let flat = graph.fact(output).tensor?.shape, flat.count == 3, flat[0].isSame(as: result[0]),
      flat[1].isSame(as: result[2]), flat[2].known == heads * size
    else { return nil }
    var inputs: [ValueID?] = []
    var keyHeads = 0
    for position in 0..<3 {
      guard let source = positionwise(attention.node.inputs[position], in: graph, index: index) else { return nil }
      if position == 0, source.heads != heads { return nil }
      if position == 1 { keyHeads = source.heads }
      inputs.append(source.value)
    }
    var fused = attention.node
    fused.inputs = inputs + attention.node.inputs.dropFirst(3)
    fused.outputs = [output]
    fused.attributes["q_num_heads"] = .int(heads)
    fused.attributes["kv_num_heads"] = .int(keyHeads)
    return Rewrite(removed: [root, back.position, attention.position], added: [fused])
  }

  /// The [batch, length, heads·size] value behind [batch, heads, length, size].
  private func positionwise(_ value: ValueID?, in graph: Graph, index: GraphIndex) -> (value: ValueID, heads: Int)? {
    guard let transpose = graph.producer(of: value, index, is: "Transpose"),
      transpose.node.attributes.ints("perm") == [0, 2, 1, 3],
      let reshape = graph.producer(of: transpose.node.inputs[0], index, is: "Reshape"), let source = reshape.node.inputs[0],
      let split = transpose.node.inputs[0].flatMap({ graph.fact($0).tensor?.shape }), split.count == 4,
      let heads = split[2].known, let size = split[3].known, let flat = graph.fact(source).tensor?.shape, flat.count == 3,
      flat[0].isSame(as: split[0]), flat[1].isSame(as: split[1]), flat[2].known == heads * size
    else { return nil }
    return (source, heads)
  }
}

/// True if both values surely have the same shape.
private func sameShape(_ a: ValueID, _ b: ValueID, in graph: Graph) -> Bool {
  guard let x = graph.fact(a).tensor?.shape, let y = graph.fact(b).tensor?.shape, x.count == y.count else { return false }
  return zip(x, y).allSatisfy { $0.isSame(as: $1) }
}
