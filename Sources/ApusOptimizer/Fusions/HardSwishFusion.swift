// HardSigmoid and HardSwish, spelled out: clip(x + 3, 0, 6) / 6, and x times that.
// https://onnx.ai/onnx/operators/onnx__HardSigmoid.html https://onnx.ai/onnx/operators/onnx__HardSwish.html

import ApusGraph

/// clip(x + 3, 0, 6) / 6 → HardSigmoid with alpha = 1/6 and beta = ½.
struct HardSigmoidFusion: Fusion {
  let name = "hard-sigmoid"
  let roots: Set<OperatorID> = [OperatorID("Mul"), OperatorID("Div")]

  fileprivate static let x = Pattern.any("x")
  fileprivate static let clip = Pattern.node("Clip", .node("Add", x, .number(3)), .number(0), .number(6))
  fileprivate static let pattern = sixth(of: clip)

  fileprivate static func sixth(of value: Pattern) -> Pattern {
    .oneOf(.node("Div", value, .number(6)), .node("Mul", value, .number(1 / 6)))
  }

  func match(root: NodeID, in graph: borrowing GraphEditor) -> GraphPatch? {
    // An attribute has 32 bits: of a sixth that is not enough for doubles.
    guard let found = Self.pattern.match(endingAt: root, in: graph), graph.dataType(found["x"]) != .float64 else {
      return nil
    }
    let sigmoid = Node(
      OperatorID("HardSigmoid"), name: graph[root].name, inputs: [found["x"]], outputs: graph[root].outputs,
      attributes: Attributes([("alpha", .float(1 / 6)), ("beta", .float(0.5))]))
    return GraphPatch(removed: found.nodes, added: [sigmoid])
  }
}

/// x · clip(x + 3, 0, 6) / 6 in any order, or x · HardSigmoid(x) with alpha = 1/6 and beta = ½ → HardSwish.
struct HardSwishFusion: Fusion {
  let name = "hard-swish"
  let roots: Set<OperatorID> = [OperatorID("Mul"), OperatorID("Div")]

  private static let spelledOut: Pattern = {
    let (x, clip) = (HardSigmoidFusion.x, HardSigmoidFusion.clip)
    return .oneOf(
      HardSigmoidFusion.sixth(of: .node("Mul", x, clip)), .node("Mul", x, HardSigmoidFusion.pattern),
      .node("Mul", HardSigmoidFusion.sixth(of: x), clip))
  }()
  private static let product = Pattern.node("Mul", .any("x"), .node("HardSigmoid", .any("x")))

  func match(root: NodeID, in graph: borrowing GraphEditor) -> GraphPatch? {
    guard let found = Self.spelledOut.match(endingAt: root, in: graph) ?? productMatch(root, in: graph) else {
      return nil
    }
    let swish = Node(
      OperatorID("HardSwish"), name: graph[root].name, inputs: [found["x"]], outputs: graph[root].outputs)
    return GraphPatch(removed: found.nodes, added: [swish])
  }

  private func productMatch(_ root: NodeID, in graph: borrowing GraphEditor) -> PatternMatch? {
    guard let found = Self.product.match(endingAt: root, in: graph), graph.dataType(found["x"]) != .float64,
      let sigmoid = found.nodes.map({ graph[$0] }).first(where: { $0.op.name == "HardSigmoid" }),
      abs((sigmoid.attributes.float("alpha") ?? 0.2) - 1 / 6) < 1e-6, sigmoid.attributes.float("beta") ?? 0.5 == 0.5
    else { return nil }
    return found
  }
}
