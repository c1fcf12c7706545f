// Squeeze: without axes of extent 1. https://onnx.ai/onnx/operators/onnx__Squeeze.html
// Versions: 1, 11 (negative axes), 13 (axes as input), 21, 23, 24, 25 (more types).

import ApusGraph
import ApusTensor

struct Squeeze: OperatorDefinition {
  let schema = OperatorSchema(
    "Squeeze", versions: [1, 11, 13, 21, 23, 24, 25],
    inputs: [
      .required("data", "T"),
      .optional("axes", "tensor(int64)", readWhenPlanning: true).since(13, before: .optional("axes", .ints)),
    ],
    outputs: [.required("squeezed", "T")],
    types: ["T": .stored, "tensor(int64)": .int64], traits: .rearranges, identity: .sameShape, layout: .reshaping,
    portable: .moreTypes)

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    if version < 13 { node.makeInput(ofInts: "axes", at: 1, in: builder) }
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let axes = context.axes(1)
    guard let shape = context.shape(0) else { return context.set(0, context.type(0), nil) }
    let removed: [Int]
    switch axes {
    case .known(let given): removed = try resolveAxes(given, rank: shape.count)
    case .unknown(let count):
      return context.set(0, context.type(0), .unknown(rank: count.map { shape.count - $0 }))
    case .absent:
      // Every extent decides on the rank.
      guard shape.allSatisfy({ $0.known != nil }) else { return context.set(0, context.type(0), nil) }
      removed = shape.indices.filter { shape[$0].known == 1 }
    }
    for axis in removed {
      if let extent = shape[axis].known, extent != 1 {
        throw .mismatch("axis \(axis) of the shape \(shape.text) has the extent \(extent); only 1 can be squeezed")
      }
    }
    context.set(0, context.type(0), shape.indices.filter { !removed.contains($0) }.map { shape[$0] })
    context.keepValues()
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .view
  }
}
