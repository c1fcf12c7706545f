// Flatten: the axes before and from an axis on as two. https://onnx.ai/onnx/operators/onnx__Flatten.html
// Versions: 1, 9 (all types), 11 (negative axis), 13, 21, 23, 24, 25 (more types).

import ApusGraph
import ApusTensor

struct Flatten: OperatorDefinition {
  let schema = OperatorSchema(
    "Flatten", versions: [1, 9, 11, 13, 21, 23, 24, 25],
    inputs: [.required("input", "T")], outputs: [.required("output", "T")],
    attributes: [.int("axis", default: 1)], types: ["T": .stored], traits: .rearranges, identity: .sameShape,
    layout: .reshaping, portable: .moreTypes)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    guard let shape = context.shape(0) else { return context.set(0, context.type(0), [.unknown, .unknown]) }
    let given = try context.int("axis")
    let rank = shape.count
    guard given >= -rank, given <= rank else {
      throw .mismatch("axis is \(given); expected \(-rank) to \(rank) for rank \(rank)")
    }
    let axis = given < 0 ? given + rank : given
    context.set(0, context.type(0), [Array(shape[..<axis]).product, Array(shape[axis...]).product])
    context.keepValues()
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .view
  }
}
