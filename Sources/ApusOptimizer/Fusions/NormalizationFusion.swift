// LayerNormalization and RMSNormalization, spelled out with means, squares and roots.
// https://onnx.ai/onnx/operators/onnx__LayerNormalization.html
// https://onnx.ai/onnx/operators/onnx__RMSNormalization.html

import ApusGraph
import ApusTensor

/// What both have in common: a value over the root of the mean of its squares along the last axis, and ε.
private struct RootMeanSquare {
  static let d = Pattern.any("d")
  /// d / √(mean(d²) + ε) in its forms.
  static let pattern: Pattern = {
    let square = Pattern.oneOf(.node("Pow", d, .number(2)), .node("Mul", d, d))
    let root = Pattern.node("Sqrt", .node("Add", mean(of: square, "axes"), .any("epsilon")))
    return .oneOf(
      .node("Div", d, root), .node("Mul", d, .node("Reciprocal", root)),
      .node("Mul", d, .node("Div", .number(1), root)))
  }()

  /// With the axes as an attribute, or as an input of that name.
  static func mean(of value: Pattern, _ axes: String) -> Pattern {
    .oneOf(.node("ReduceMean", value), .node("ReduceMean", value, .any(axes)))
  }

  let nodes: [NodeID]
  let values: ValueID
  let epsilon: Float
  /// Elements of the last axis.
  let count: Int

  init?(endingAt root: NodeID, in graph: borrowing GraphEditor) {
    guard let found = RootMeanSquare.pattern.match(endingAt: root, in: graph),
      // The attribute epsilon has 32 bits.
      let output = graph[root].outputs.first ?? nil, graph.dataType(output) == .float32,
      let count = graph.shape(found["d"])?.last?.known, count > 0,
      let mean = found.nodes.first(where: { graph[$0].op.name == "ReduceMean" }),
      RootMeanSquare.isAlongLastAxis(mean, in: graph),
      let epsilon = graph.scalar(found["epsilon"], beside: graph[mean].outputs[0])?.value,
      epsilon >= 0, epsilon.isFinite
    else { return nil }
    (nodes, values, self.epsilon, self.count) = (found.nodes, found["d"], Float(epsilon), count)
  }

  /// True for a ReduceMean over the last axis alone, which stays as an axis of one element.
  static func isAlongLastAxis(_ position: NodeID, in graph: borrowing GraphEditor) -> Bool {
    let node = graph[position]
    guard let rank = graph.rank(node.inputs[0]), rank > 0, node.attributes.int("keepdims") ?? 1 != 0 else {
      return false
    }
    let axes =
      node.inputs.count > 1 ? graph.constant(node.inputs[1])?.integers : node.attributes.ints("axes")
    return axes == [-1] || axes == [rank - 1]
  }

  /// The normalization with weights of 1.
  func node(
    _ op: String, _ x: ValueID, at root: NodeID, removing more: [NodeID], in graph: borrowing GraphEditor
  ) -> GraphPatch {
    let ones = Tensor([Float](repeating: 1, count: count))
    let node = Node(
      OperatorID(op), name: graph[root].name, inputs: [x, GraphPatch.constant(0)], outputs: graph[root].outputs,
      attributes: Attributes([("axis", .int(-1)), ("epsilon", .float(epsilon))]))
    return GraphPatch(removed: nodes + more, added: [node], constants: [ones])
  }
}

/// d / √(mean(d²) + ε) with d = x - mean(x), along the last axis → LayerNormalization of x; with any other d →
/// RMSNormalization of d. The weights are 1.
struct NormalizationFusion: Fusion {
  let name = "normalization"
  let roots: Set<OperatorID> = [OperatorID("Div"), OperatorID("Mul")]

  private static let centred = Pattern.node(
    "Sub", .any("x"), RootMeanSquare.mean(of: .any("x"), "axes"))

  func match(root: NodeID, in graph: borrowing GraphEditor) -> GraphPatch? {
    guard let found = RootMeanSquare(endingAt: root, in: graph) else { return nil }
    if let source = graph.producer(of: found.values), let centre = Self.centred.match(endingAt: source, in: graph),
      let mean = centre.nodes.first(where: { graph[$0].op.name == "ReduceMean" }),
      RootMeanSquare.isAlongLastAxis(mean, in: graph), graph.haveSameShape(centre["x"], found.values)
    {
      return found.node("LayerNormalization", centre["x"], at: root, removing: centre.nodes, in: graph)
    }
    return found.node("RMSNormalization", found.values, at: root, removing: [], in: graph)
  }
}

/// LayerNormalization or RMSNormalization with weights of 1 → Mul by one number a column → with these weights; and
/// LayerNormalization without a bias → Add of one number a column → with it.
struct NormalizationWeightsFusion: Fusion {
  let name = "normalization-weights"
  let roots: Set<OperatorID> = [OperatorID("Mul"), OperatorID("Add")]

  func match(root: NodeID, in graph: borrowing GraphEditor) -> GraphPatch? {
    let node = graph[root]
    for (value, other) in [(node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])] {
      guard let (position, known) = normalization(value, in: graph), let other, let constant = graph.constant(other),
        let scale = graph.constant(known.inputs[1]), constant.shape == scale.shape, scale.rank == 1,
        constant.dataType == scale.dataType, known.inputs.count < 3 || known.inputs[2] == nil,
        known.attributes.int("axis") ?? -1 == -1
      else { continue }
      var changed = known
      changed.outputs = node.outputs
      if node.op.name == "Mul" {
        guard isOnes(scale) else { continue }
        changed.inputs = [known.inputs[0], other]
      } else {
        guard known.op.name == "LayerNormalization" else { continue }
        changed.inputs = [known.inputs[0], known.inputs[1], other]
      }
      return GraphPatch(removed: [position, root], added: [changed])
    }
    return nil
  }

  private func normalization(
    _ value: ValueID?, in graph: borrowing GraphEditor
  ) -> (position: NodeID, node: Node)? {
    let found =
      graph.producer(of: value, is: "LayerNormalization") ?? graph.producer(of: value, is: "RMSNormalization")
    guard let found, !found.node.outputs.dropFirst().contains(where: { $0 != nil }) else { return nil }
    return found
  }

  private func isOnes(_ tensor: Tensor) -> Bool {
    tensor.elements(as: Float.self)?.allSatisfy { $0 == 1 } ?? false
  }
}
