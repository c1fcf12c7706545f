// Gelu, spelled out: x · ½ · (1 + erf(x/√2)), and the tanh form. https://onnx.ai/onnx/operators/onnx__Gelu.html

import ApusGraph

/// x·½·(1 + curve(x)) in any order of the factors → Gelu.
struct GeluFusion: Fusion {
  let name: String
  let roots: Set<OperatorID> = [OperatorID("Mul")]
  private let pattern: Pattern
  private let approximate: String

  /// The exact form: curve(x) = erf(x·√½), or erf(x/√2).
  static let erf = GeluFusion(
    name: "erf-gelu", approximate: "none",
    curve: .node(
      "Erf", .oneOf(.node("Mul", x, .number(0.5.squareRoot())), .node("Div", x, .number(2.0.squareRoot())))))

  /// curve(x) = tanh(√(2/π)·(x + 0.044715·x³)).
  static let tanh = GeluFusion(
    name: "tanh-gelu", approximate: "tanh",
    curve: .node(
      "Tanh",
      .node(
        "Mul", .node("Add", x, .node("Mul", cube, .number(0.044715))), .number((2 / Double.pi).squareRoot()))))

  private static let x = Pattern.any("x")
  private static let cube = Pattern.oneOf(.node("Pow", x, .number(3)), .node("Mul", x, .node("Mul", x, x)))

  private init(name: String, approximate: String, curve: Pattern) {
    (self.name, self.approximate) = (name, approximate)
    let (x, half) = (Self.x, Pattern.number(0.5))
    let sum = Pattern.node("Add", curve, .number(1))
    pattern = .oneOf(
      .node("Mul", .node("Mul", x, sum), half), .node("Mul", .node("Mul", x, half), sum),
      .node("Mul", x, .node("Mul", sum, half)))
  }

  func match(root: NodeID, in graph: borrowing GraphEditor) -> GraphPatch? {
    guard let found = pattern.match(endingAt: root, in: graph) else { return nil }
    let gelu = Node(
      OperatorID("Gelu"), name: graph[root].name, inputs: [found["x"]], outputs: graph[root].outputs,
      attributes: Attributes([("approximate", .string(approximate))]))
    return GraphPatch(removed: found.nodes, added: [gelu])
  }
}
