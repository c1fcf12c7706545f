// Heads of keys and values that are repeated for the heads of queries that share them → Attention, which shares them.
// https://onnx.ai/onnx/operators/onnx__Attention.html

import ApusGraph
import ApusTensor

/// Attention on keys and values of [batch, heads, length, size] whose heads were each repeated (Expand of a new axis
/// behind the heads, Reshape of both to one) → Attention on the heads themselves.
struct RepeatedHeadsFusion: Fusion {
  /// Attention, or the engine's own.
  let op: OperatorID
  var name: String { op.domain.isEmpty ? "attention-heads" : "attention-heads-of-softmax" }
  var roots: Set<OperatorID> { [op] }

  func match(root: NodeID, in graph: borrowing GraphEditor) -> GraphPatch? {
    var attention = graph[root]
    // With a past, or a present of its own, the repeated heads are what the model asks for.
    guard attention.inputs.count <= 4, attention.outputs.count == 1,
      let keys = attention.inputs[1], let values = attention.inputs[2], graph.rank(keys) == 4,
      let key = source(of: keys, in: graph), let value = source(of: values, in: graph), key.times == value.times
    else { return nil }
    attention.inputs[1] = key.value
    attention.inputs[2] = value.value
    return GraphPatch(removed: [root], added: [attention])
  }

  /// The value of [batch, heads, length, size] behind one of [batch, heads · times, length, size].
  private func source(of repeated: ValueID, in graph: borrowing GraphEditor) -> (value: ValueID, times: Int)? {
    guard let joined = graph.producer(of: repeated, is: "Reshape"),
      let expand = graph.producer(of: joined.node.inputs[0], is: "Expand"), let narrow = expand.node.inputs[0],
      let value = beforeNewAxis(narrow, in: graph),
      let source = graph.shape(value), source.count == 4, let one = graph.shape(narrow), one.count == 5,
      let wide = graph.shape(expand.node.outputs[0]), wide.count == 5, let result = graph.shape(repeated),
      result.count == 4, one[2].known == 1, let times = wide[2].known, times > 0, let heads = source[1].known,
      result[1].known == heads * times
    else { return nil }
    for (axis, unrepeated) in [(0, 0), (1, 1), (3, 2), (4, 3)] {
      guard one[axis].isSame(as: source[unrepeated]), wide[axis].isSame(as: source[unrepeated]) else { return nil }
    }
    guard result[0].isSame(as: source[0]), result[2].isSame(as: source[2]), result[3].isSame(as: source[3]) else {
      return nil
    }
    return (value, times)
  }

  private func beforeNewAxis(_ value: ValueID, in graph: borrowing GraphEditor) -> ValueID? {
    (graph.producer(of: value, is: "Unsqueeze") ?? graph.producer(of: value, is: "Reshape"))?.node.inputs[0]
  }
}
