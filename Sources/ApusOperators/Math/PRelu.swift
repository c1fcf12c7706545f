// PRelu: x for x >= 0, slope * x below. https://onnx.ai/onnx/operators/onnx__PRelu.html
// Versions: 1, 6 (one slope, or one a channel), 7 (slope broadcasts to X), 9 (integers), 16 (bfloat16).

import ApusGraph
import ApusTensor

struct PRelu: OperatorDefinition {
  let schema = OperatorSchema(
    "PRelu", versions: [1, 6, 7, 9, 16], inputs: [.required("X", "T"), .required("slope", "T")],
    outputs: [.required("Y", "T")], types: ["T": [.int32, .int64, .uint32, .uint64] + .floats], layout: .broadcasting)

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    node.removeLegacyHints()
    guard version < 7, node.inputs.count == 2, let x = node.inputs[0], let slope = node.inputs[1] else { return }
    // A slope for every channel, which is axis 1.
    let slopeShape = builder.shape(slope)
    guard let rank = builder.shape(x)?.count, let slopeShape else {
      if slopeShape == nil || slopeShape?.count == 1 {
        node.inputs[1] = try builder.appendUnitAxes(to: slope, alignedWith: x, from: 1, nodeName: node.name)
      }
      return
    }
    if slopeShape.count == 1, slopeShape[0].known != 1, rank > 2 {
      node.inputs[1] = try builder.appendUnitAxes(rank - 2, to: slope, rank: 1, nodeName: node.name)
    }
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let shape = context.shape(0)
    if let shape, let slope = context.shape(1) {
      let both = try broadcast([shape, slope])
      let isWider = both.count > shape.count || zip(both, shape).contains { $0.isSurelyDifferent(from: $1) }
      if isWider { throw .mismatch("slope of shape \(slope) does not broadcast to X of shape \(shape)") }
    }
    context.set(0, context.type(0), shape)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try context.type(0)
    guard let loops = try BinaryFunction.prelu.loops(type) else { throw context.unsupportedType(type) }
    return Elementwise.binary(loops, cost: .light, name: "PRelu")
  }
}
