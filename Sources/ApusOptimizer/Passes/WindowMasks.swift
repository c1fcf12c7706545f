// Attention in windows whose masks differ from window to window, as Swin has it: windows become heads.

import ApusGraph
import ApusOperators
import ApusTensor

/// softmax(Q·Kᵀ + bias, seen as [batch, windows, heads, queries, keys], + mask of each window)·V on
/// [batch · windows, heads, length, size] → the same on [batch, windows · heads, length, size], where bias and mask are
/// one mask for all samples. Nothing moves: both shapes have the same elements in the same order. What is left is
/// what `AttentionFusion` looks for.
struct WindowMasks: GraphPass {
  let name = "window-masks"

  func run(_ graph: inout GraphEditor, within work: OptimizerWork) throws(OperatorError) -> Int {
    var changes = 0
    for root in graph.nodes where graph[root].op == OperatorID("MatMul") {
      try work.allowance.checkTime()
      guard let attention = WindowedAttention(endingAt: root, in: graph), work.budget.take() else { continue }
      try attention.rewrite(&graph)
      changes += 1
    }
    return changes
  }
}

/// Nodes that compute attention in windows, with a mask for each window.
private struct WindowedAttention {
  private let root: NodeID
  private let query: ValueID
  private let key: ValueID
  private let values: ValueID
  /// Of [heads or 1, queries or 1, keys or 1] and fewer axes before them, all of extent 1.
  private let bias: ValueID?
  /// Of [1, windows, heads or 1, queries, keys].
  private let mask: ValueID
  private let windows: Int
  private let heads: Int

  /// nil if the node is no second product of such an attention.
  init?(endingAt root: NodeID, in graph: borrowing GraphEditor) {
    guard let values = graph[root].inputs[1], let back = WindowedAttention.behindSoftmax(graph[root].inputs[0], graph),
      let masked = graph.producer(of: back.node.inputs[0], is: "Add"), WindowedAttention.isInner(masked.node, graph),
      let (split, mask) = WindowedAttention.windowsAndMask(masked.node, graph), let scores = split.inputs[0],
      let parts = graph.shape(split.outputs[0]), parts.count == 5, let windows = parts[1].known, windows > 0,
      let heads = parts[2].known, heads > 0,
      // Behind and before the mask the last three axes are the same, and so the first: the windows belong to the batch.
      let flat = graph.shape(scores), flat.count == 4, let behind = graph.shape(back.node.outputs[0]),
      behind.count == 4,
      zip(flat[1...], parts[2...]).allSatisfy({ $0.isSame(as: $1) }),
      zip(flat[1...], behind[1...]).allSatisfy({ $0.isSame(as: $1) }),
      WindowedAttention.isMask(mask, windows: windows, of: parts, graph),
      let (product, bias) = WindowedAttention.productAndBias(scores, graph), let query = product.inputs[0],
      let turned = graph.producer(of: product.inputs[1], is: "Transpose"),
      turned.node.attributes.ints("perm") == [0, 1, 3, 2], let key = turned.node.inputs[0],
      [query, key, values].allSatisfy({ WindowedAttention.isHeadwise($0, heads: heads, as: flat, graph) })
    else { return nil }
    (self.root, self.query, self.key, self.values) = (root, query, key, values)
    (self.bias, self.mask, self.windows, self.heads) = (bias, mask, windows, heads)
  }

  // MARK: - What it is made of

  /// True if nobody but the next node of the pattern reads what the node gives.
  private static func isInner(_ node: Node, _ graph: borrowing GraphEditor) -> Bool {
    node.outputs[0].map { graph.hasOneUser($0) } ?? false
  }

  /// The Reshape before the Softmax over the last of four axes.
  private static func behindSoftmax(
    _ value: ValueID?, _ graph: borrowing GraphEditor
  ) -> (position: NodeID, node: Node)? {
    guard let softmax = graph.producer(of: value, is: "Softmax"), isInner(softmax.node, graph),
      [-1, 3].contains(softmax.node.attributes.int("axis") ?? -1),
      let reshape = graph.producer(of: softmax.node.inputs[0], is: "Reshape"), isInner(reshape.node, graph),
      graph.dataType(value) == .float32
    else { return nil }
    return reshape
  }

  /// The Reshape to windows, and what is added to them.
  private static func windowsAndMask(_ add: Node, _ graph: borrowing GraphEditor) -> (Node, ValueID)? {
    for (windows, mask) in [(0, 1), (1, 0)] {
      if let split = graph.producer(of: add.inputs[windows], is: "Reshape"), isInner(split.node, graph),
        graph.rank(split.node.outputs[0]) == 5, let mask = add.inputs[mask], graph.constant(mask) != nil
      {
        return (split.node, mask)
      }
    }
    return nil
  }

  /// True for [1, windows, heads or 1, queries, keys].
  private static func isMask(
    _ value: ValueID, windows: Int, of scores: [Dim], _ graph: borrowing GraphEditor
  ) -> Bool {
    guard let shape = graph.shape(value), shape.count == 5 else { return false }
    return shape[0].known == 1 && shape[1].known == windows && (shape[2].known == 1 || shape[2].isSame(as: scores[2]))
      && shape[3].isSame(as: scores[3]) && shape[4].isSame(as: scores[4])
  }

  /// The first product, and what is added to it for all samples and windows alike.
  private static func productAndBias(_ scores: ValueID, _ graph: borrowing GraphEditor) -> (Node, ValueID?)? {
    guard graph.hasOneUser(scores) else { return nil }
    if let product = graph.producer(of: scores, is: "MatMul") { return (product.node, nil) }
    guard let add = graph.producer(of: scores, is: "Add") else { return nil }
    for (first, second) in [(0, 1), (1, 0)] {
      guard let product = graph.producer(of: add.node.inputs[first], is: "MatMul"), isInner(product.node, graph),
        graph.haveSameShape(product.node.outputs[0], scores),
        let bias = add.node.inputs[second], let tensor = graph.constant(bias), tensor.rank <= 4,
        tensor.shape.dropLast(3).allSatisfy({ $0 == 1 })
      else { continue }
      return (product.node, bias)
    }
    return nil
  }

  /// True for [batch · windows, heads, length, size] whose length and size are known numbers above 0.
  private static func isHeadwise(
    _ value: ValueID, heads: Int, as scores: [Dim], _ graph: borrowing GraphEditor
  ) -> Bool {
    guard let shape = graph.shape(value), shape.count == 4 else { return false }
    return shape[0].isSame(as: scores[0]) && shape[1].known == heads && (shape[2].known ?? 0) > 0
      && (shape[3].known ?? 0) > 0
  }

  // MARK: - What it becomes

  func rewrite(_ graph: inout GraphEditor) throws(OperatorError) {
    let (name, output) = (graph[root].name, graph[root].outputs[0])
    let q = try reshaped(query, "Q", heads: windows * heads, &graph)
    let k = try reshaped(key, "K", heads: windows * heads, &graph)
    let v = try reshaped(values, "V", heads: windows * heads, &graph)
    let turned = try apply("Transpose", "columns", [k], &graph, [("perm", .ints([0, 1, 3, 2]))])
    let product = try apply("MatMul", "scores", [q, turned], &graph)
    let masked = try apply("Add", "masked", [product, wholeMask(&graph)], &graph)
    let probabilities = try apply("Softmax", "probabilities", [masked], &graph, [("axis", .int(-1))])
    let result = try apply("MatMul", "heads", [probabilities, v], &graph)
    let extents = try headwise(values, rowsOf: query, heads: heads, graph)
    let shape = graph.addConstant(Tensor(extents))
    graph.update(root) { node in
      node = Node(
        OperatorID("Reshape"), name: name, inputs: [result, shape], outputs: [output], attributes: Attributes())
    }
  }

  /// Bias and mask in one, of [1, windows · heads, queries, keys].
  private func wholeMask(_ graph: inout GraphEditor) throws(OperatorError) -> ValueID {
    guard let shape = graph.shape(mask), let queries = shape[3].known, let keys = shape[4].known else {
      throw .inconsistency("the mask of windows has no shape")
    }
    var whole = mask
    if let bias {
      whole = try apply("Add", "mask/biased", [mask, bias], &graph)
    }
    let extents = graph.addConstant(Tensor([1, windows, heads, queries, keys]))
    whole = try apply("Expand", "mask/heads", [whole, extents], &graph)
    let flat = graph.addConstant(Tensor([1, windows * heads, queries, keys]))
    return try apply("Reshape", "mask", [whole, flat], &graph)
  }

  /// A factor with windows among its heads.
  private func reshaped(
    _ value: ValueID, _ part: String, heads: Int, _ graph: inout GraphEditor
  ) throws(OperatorError) -> ValueID {
    let extents = graph.addConstant(Tensor(try headwise(value, rowsOf: value, heads: heads, graph)))
    return try apply("Reshape", part, [value, extents], &graph)
  }

  /// [-1, heads, length, size], with the length of one value and the size of another.
  private func headwise(
    _ value: ValueID, rowsOf other: ValueID, heads: Int, _ graph: borrowing GraphEditor
  ) throws(OperatorError) -> [Int] {
    guard let size = graph.shape(value)?[3].known, let length = graph.shape(other)?[2].known else {
      throw .inconsistency("a factor of attention has lost its shape")
    }
    return [-1, heads, length, size]
  }

  private func apply(
    _ op: String, _ part: String, _ inputs: [ValueID?], _ graph: inout GraphEditor,
    _ attributes: [(String, AttributeValue)] = []
  ) throws(OperatorError) -> ValueID {
    try graph.apply(OperatorID(op), name: "\(graph[root].name)/\(part)", inputs, attributes, before: root)
  }
}
