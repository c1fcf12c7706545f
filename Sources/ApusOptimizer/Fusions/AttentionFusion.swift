// Scaled dot-product attention, spelled out → Attention. https://onnx.ai/onnx/operators/onnx__Attention.html

import ApusGraph
import ApusOperators
import ApusTensor

/// softmax(s·Q·Kᵀ [+ mask])·V over [batch, heads, length, size] → Attention.
///
/// With a mask, only the form that replaces NaN by 0 (torch's safe softmax) becomes Attention, which gives 0 for a row
/// that sees no key. A bare Softmax gives NaN there, and becomes the engine's own operator.
struct AttentionFusion: Fusion {
  /// True: for a bare Softmax with a mask.
  let isBare: Bool
  var name: String { isBare ? "attention-of-softmax" : "attention" }
  let roots: Set<OperatorID> = [OperatorID("MatMul")]

  func match(root: NodeID, in graph: borrowing GraphEditor) -> GraphPatch? {
    let node = graph[root]
    guard let values = node.inputs[1], graph.dataType(values) == .float32, graph.rank(values) == 4,
      let (softmax, isSafe) = softmax(of: node.inputs[0], in: graph)
    else { return nil }
    var scores = softmax.inputs[0]
    var mask: ValueID?
    if let add = graph.producer(of: scores, is: "Add") {
      guard isSafe != isBare, let (product, other) = productAndMask(add.node, in: graph),
        isMask(other, of: product, in: graph),
        graph.haveSameShape(product, scores)
      else { return nil }
      (scores, mask) = (product, other)
    }
    var scale = 1.0
    scores = peelScale(scores, &scale, in: graph)
    guard let product = graph.producer(of: scores, is: "MatMul"),
      let query = peelScale(product.node.inputs[0], &scale, in: graph),
      let transposed = peelScale(product.node.inputs[1], &scale, in: graph),
      let key = untransposed(transposed, in: graph), isHeadwise(query, key, values, in: graph),
      // Attention multiplies both factors by the root of its scale.
      Float(scale).isNormal, scale > 0
    else { return nil }
    if isBare, mask == nil { return nil }
    let attention = Node(
      isBare ? FusedAttention.id : OperatorID("Attention"), name: node.name,
      inputs: [query, key, values] + (mask.map { [$0] } ?? []),
      outputs: node.outputs, attributes: Attributes([("scale", .float(Float(scale)))]))
    // What lies inside dies if nobody else needs it.
    return GraphPatch(removed: [root], added: [attention])
  }

  /// The Softmax over the last axis behind the probabilities, and whether NaN becomes 0.
  private func softmax(of value: ValueID?, in graph: borrowing GraphEditor) -> (node: Node, isSafe: Bool)? {
    func plain(_ value: ValueID?, users: Int) -> Node? {
      guard let value, let found = graph.producer(of: value, is: "Softmax"), graph.userCount(of: value) == users,
        graph.rank(value) == 4
      else { return nil }
      return [-1, 3].contains(found.node.attributes.int("axis") ?? -1) ? found.node : nil
    }
    if let node = plain(value, users: 1) { return (node, false) }
    guard let choice = graph.producer(of: value, is: "Where"), let value, graph.hasOneUser(value),
      let probabilities = choice.node.inputs[2], graph.scalar(choice.node.inputs[1], beside: probabilities)?.value == 0,
      let test = graph.producer(of: choice.node.inputs[0], is: "IsNaN"), test.node.inputs[0] == probabilities,
      let node = plain(probabilities, users: 2)
    else { return nil }
    return (node, true)
  }

  /// The operands of the sum: the scores, which come from a product, and the mask.
  private func productAndMask(_ add: Node, in graph: borrowing GraphEditor) -> (ValueID, ValueID)? {
    guard let a = add.inputs[0], let b = add.inputs[1] else { return nil }
    for (scores, mask) in [(a, b), (b, a)] {
      var scale = 1.0
      if graph.producer(of: peelScale(scores, &scale, in: graph), is: "MatMul") != nil { return (scores, mask) }
    }
    return nil
  }

  /// True if the mask has one row or one for each query, and one column for each key: Attention fills up shorter rows.
  private func isMask(_ mask: ValueID, of scores: ValueID, in graph: borrowing GraphEditor) -> Bool {
    guard graph.dataType(mask) == .float32, let shape = graph.shape(mask), (2...4).contains(shape.count),
      let keys = graph.shape(scores)?.last
    else { return false }
    return shape[shape.count - 1].isSame(as: keys)
  }

  /// What a value is before it was multiplied or divided by constants, which go into `scale`. These may be anything:
  /// whether the product of all is a scale is for the caller to see.
  private func peelScale(_ value: ValueID?, _ scale: inout Double, in graph: borrowing GraphEditor) -> ValueID? {
    var value = value
    while true {
      if let mul = graph.producer(of: value, is: "Mul"), let (inner, factor) = graph.splitScalar(mul.node) {
        scale *= factor.value
        value = inner
      } else if let div = graph.producer(of: value, is: "Div"),
        let divisor = graph.scalar(div.node.inputs[1], beside: div.node.inputs[0])
      {
        scale /= divisor.value
        value = div.node.inputs[0]
      } else {
        return value
      }
    }
  }

  /// The value whose last two axes are exchanged to give `value`: by one Transpose, or by one of rank 3 between
  /// reshapes.
  private func untransposed(_ value: ValueID, in graph: borrowing GraphEditor) -> ValueID? {
    if let transpose = graph.producer(of: value, is: "Transpose") {
      return transpose.node.attributes.ints("perm") == [0, 1, 3, 2] ? transpose.node.inputs[0] : nil
    }
    guard let outer = graph.producer(of: value, is: "Reshape"),
      let transpose = graph.producer(of: outer.node.inputs[0], is: "Transpose"),
      transpose.node.attributes.ints("perm") == [0, 2, 1],
      let inner = graph.producer(of: transpose.node.inputs[0], is: "Reshape"), let key = inner.node.inputs[0],
      let source = graph.shape(key), source.count == 4,
      let flat = graph.shape(inner.node.outputs[0]), flat.count == 3, let result = graph.shape(value),
      result.count == 4,
      flat[1].isSame(as: source[2]), flat[2].isSame(as: source[3]), result[0].isSame(as: source[0]),
      result[1].isSame(as: source[1]), result[2].isSame(as: source[3]), result[3].isSame(as: source[2])
    else { return nil }
    return key
  }

  /// True for [batch, heads, length, size] with the same batch and heads, and sizes and numbers of keys that match.
  private func isHeadwise(_ query: ValueID, _ key: ValueID, _ values: ValueID, in graph: borrowing GraphEditor) -> Bool
  {
    guard let q = graph.shape(query), let k = graph.shape(key), let v = graph.shape(values), q.count == 4, k.count == 4,
      v.count == 4
    else { return false }
    return q[0].isSame(as: k[0]) && k[0].isSame(as: v[0]) && q[1].isSame(as: k[1]) && k[1].isSame(as: v[1])
      && q[3].isSame(as: k[3]) && k[2].isSame(as: v[2])
  }
}

/// Attention between transposes of [batch, length, heads, size] → Attention on [batch, length, heads·size].
struct AttentionLayoutFusion: Fusion {
  /// Attention, or the engine's own.
  let op: OperatorID
  var name: String { op.domain.isEmpty ? "attention-layout" : "attention-layout-of-softmax" }
  let roots: Set<OperatorID> = [OperatorID("Reshape")]

  func match(root: NodeID, in graph: borrowing GraphEditor) -> GraphPatch? {
    let node = graph[root]
    guard let output = node.outputs[0], let back = graph.producer(of: node.inputs[0], is: "Transpose"),
      back.node.attributes.ints("perm") == [0, 2, 1, 3],
      let attention = graph.producer(of: back.node.inputs[0], is: op.name, domain: op.domain),
      attention.node.inputs.count <= 4,
      attention.node.outputs.count == 1, let result = graph.shape(back.node.inputs[0]), result.count == 4,
      let heads = result[1].known, let size = result[3].known,
      let flat = graph.shape(output), flat.count == 3, flat[0].isSame(as: result[0]),
      flat[1].isSame(as: result[2]), flat[2].known == heads * size
    else { return nil }
    var inputs: [ValueID?] = []
    var keyHeads = 0
    for position in 0..<3 {
      guard let source = positionwise(attention.node.inputs[position], in: graph) else { return nil }
      if position == 0, source.heads != heads { return nil }
      if position == 1 { keyHeads = source.heads }
      if position == 2, source.heads != keyHeads { return nil }
      inputs.append(source.value)
    }
    var fused = attention.node
    fused.inputs = inputs + attention.node.inputs.dropFirst(3)
    fused.outputs = [output]
    fused.attributes["q_num_heads"] = .int(heads)
    fused.attributes["kv_num_heads"] = .int(keyHeads)
    return GraphPatch(removed: [root, back.position, attention.position], added: [fused])
  }

  /// The [batch, length, heads·size] value behind [batch, heads, length, size].
  private func positionwise(_ value: ValueID?, in graph: borrowing GraphEditor) -> (value: ValueID, heads: Int)? {
    guard let transpose = graph.producer(of: value, is: "Transpose"),
      transpose.node.attributes.ints("perm") == [0, 2, 1, 3],
      let reshape = graph.producer(of: transpose.node.inputs[0], is: "Reshape"), let source = reshape.node.inputs[0],
      let split = graph.shape(transpose.node.inputs[0]), split.count == 4, let heads = split[2].known,
      let size = split[3].known, let flat = graph.shape(source), flat.count == 3,
      flat[0].isSame(as: split[0]), flat[1].isSame(as: split[1]), flat[2].known == heads * size
    else { return nil }
    return (source, heads)
  }
}
