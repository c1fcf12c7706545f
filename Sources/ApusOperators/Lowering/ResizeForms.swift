// Resize in its versions, and as the Upsample of operator sets before 10.
// https://onnx.ai/onnx/operators/onnx__Resize.html

import ApusGraph
import ApusTensor

/// The forms of Resize for one operator set.
struct ResizeForms {
  let opset: Int
  /// The operator set that the model was read from.
  let source: Int

  /// The node in that operator set; nil if it has no form that means the same. May add constants to `builder`.
  func form(of node: Node, in builder: GraphBuilder) -> Node? {
    if opset < 11 { return scaledForm(of: node, in: builder.graph) }
    let node = opset < 18 ? node : withAllAxes(node, in: builder)
    guard var result = withKnownRounding(node, in: builder.graph) else { return nil }
    switch node.attributes.string("coordinate_transformation_mode") {
    case "half_pixel_symmetric": if opset < 19 { return nil }
    case "tf_half_pixel_for_nn": if opset >= 13 { return nil }
    default: break
    }
    if opset < 13 {
      // The region and the scales are there, if only as a vector of nothing.
      while result.inputs.count < 3 { result.inputs.append(nil) }
      for position in 1...2 where result.inputs[position] == nil {
        result.inputs[position] = builder.addConstant(Tensor([] as [Float]))
      }
    }
    return result
  }

  /// The node with all axes in the place of some, where that can be: runtimes that move transpositions through it
  /// change the order of sizes and scales, but not of `axes`. May add nodes to `builder`.
  private func withAllAxes(_ node: Node, in builder: GraphBuilder) -> Node {
    guard node.attributes["axes"] != nil,
      let nodes = try? Decomposition.nodes(for: node, in: builder), let last = nodes.last, last.op == node.op
    else { return node }
    for part in nodes.dropLast() { builder.appendUnchecked(part) }
    return last
  }

  /// Version 10 rounded coordinates up where an axis shrinks and down where it grows; no later version does.
  private func withKnownRounding(_ node: Node, in graph: Graph) -> Node? {
    guard node.attributes.string("nearest_mode") == "ceil_if_shrinking" else { return node }
    guard node.attributes.string("mode") ?? "nearest" == "nearest" else { return node.without("nearest_mode") }
    guard let scales = scales(of: node, in: graph) else { return nil }
    var result = node
    if scales.allSatisfy({ $0 >= 1 }) {
      result.attributes["nearest_mode"] = .string("floor")
    } else if scales.allSatisfy({ $0 <= 1 }) {
      result.attributes["nearest_mode"] = .string("ceil")
    } else {
      return nil
    }
    return result
  }

  /// The form of versions 7 to 10: an input, scales and a mode.
  private func scaledForm(of node: Node, in graph: Graph) -> Node? {
    let known: Set<String> = ["mode", "coordinate_transformation_mode", "nearest_mode"]
    let mode = node.attributes.string("mode") ?? "nearest"
    guard node.inputs.count == 3, node.inputs[1] == nil, let scales = node.inputs[2],
      mode == "nearest" || mode == "linear",
      node.attributes.string("coordinate_transformation_mode") == "asymmetric",
      node.attributes.entries.allSatisfy({ known.contains($0.name) }),
      mode == "linear" || isRounding(node, in: graph)
    else { return nil }
    var result = node
    result.inputs = [node.inputs[0], scales]
    result.attributes = Attributes([("mode", .string(mode))])
    if opset == 10 { return result }
    // Upsample only grows.
    if opset < source, let known = self.scales(of: node, in: graph), !known.allSatisfy({ $0 >= 1 }) { return nil }
    result.op = OperatorID("Upsample")
    if opset < 9 {
      guard let values = graph.constant(scales)?.elements(as: Float.self) else { return nil }
      result.inputs.removeLast()
      result.attributes["scales"] = .floats(values)
    }
    return result
  }

  /// True if the operator of that time rounds as the node says: Upsample down, Resize up where an axis shrinks.
  private func isRounding(_ node: Node, in graph: Graph) -> Bool {
    let grows = scales(of: node, in: graph)?.allSatisfy { $0 >= 1 } ?? false
    return switch node.attributes.string("nearest_mode") {
    case "floor": grows || opset < 10
    case "ceil_if_shrinking": grows || opset == 10
    default: false
    }
  }

  private func scales(of node: Node, in graph: Graph) -> [Float]? {
    node.inputs.count > 2 ? graph.constant(node.inputs[2])?.elements(as: Float.self) : nil
  }
}
