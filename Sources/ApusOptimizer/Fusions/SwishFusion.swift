// x · sigmoid(x) → Swish. https://onnx.ai/onnx/operators/onnx__Swish.html

import ApusGraph

struct SwishFusion: Fusion {
  let name = "swish"
  let roots: Set<OperatorID> = [OperatorID("Mul")]
  private static let pattern = Pattern.node("Mul", .any("x"), .node("Sigmoid", .any("x")))

  func match(root: NodeID, in graph: borrowing GraphEditor) -> GraphPatch? {
    guard let found = Self.pattern.match(endingAt: root, in: graph) else { return nil }
    let swish = Node(
      OperatorID("Swish"), name: graph[root].name, inputs: [found["x"]], outputs: graph[root].outputs)
    return GraphPatch(removed: found.nodes, added: [swish])
  }
}
