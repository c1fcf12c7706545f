// Unsqueeze: with new axes of extent 1. https://onnx.ai/onnx/operators/onnx__Unsqueeze.html
// Versions: 1, 11 (negative axes), 13 (axes as input), 21, 23, 24, 25 (more types).

import ApusGraph
import ApusTensor

struct Unsqueeze: OperatorDefinition {
  let schema = OperatorSchema(
    "Unsqueeze", versions: [1, 11, 13, 21, 23, 24, 25],
    inputs: [
      .required("data", "T"),
      .required("axes", "tensor(int64)", readWhenPlanning: true).since(13, before: .optional("axes", .ints)),
    ],
    outputs: [.required("expanded", "T")],
    types: ["T": .stored, "tensor(int64)": .int64], traits: .rearranges, identity: .sameShape, layout: .reshaping,
    portable: .moreTypes)

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    if version < 13 { node.makeInput(ofInts: "axes", at: 1, in: builder) }
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    guard let shape = context.shape(0) else { return context.set(0, context.type(0), nil) }
    guard let given = context.integers(1) else {
      return context.set(0, context.type(0), .unknown(rank: context.length(1).map { shape.count &+ $0 }))
    }
    // The axes are those of the output.
    let added = try resolveAxes(given, rank: shape.count + given.count)
    var result = shape
    for axis in added { result.insert(1, at: axis) }
    context.set(0, context.type(0), result)
    context.keepValues()
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .view
  }
}
