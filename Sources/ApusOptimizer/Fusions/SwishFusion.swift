// x · sigmoid(x) → Swish. https://onnx.ai/onnx/operators/onnx__Swish.html

import ApusGraph

struct SwishFusion: Fusion {
  let name = "swish"
  let roots: Set<OperatorID> = [OperatorID("Mul")]

  func match(root: NodeID, in graph: borrowing GraphEditor) -> GraphPatch? {
    let node = graph[root]
    guard node.inputs.count == 2 else { return nil }
    for (x, other) in [(node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])] {
      guard let x, let sigmoid = graph.producer(of: other, is: "Sigmoid"), sigmoid.node.inputs[0] == x else { continue }
      let swish = Node(OperatorID("Swish"), name: node.name, inputs: [x], outputs: node.outputs)
      return GraphPatch(removed: [root, sigmoid.position], added: [swish])
    }
    return nil
  }
}
