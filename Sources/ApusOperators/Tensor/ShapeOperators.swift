// Shape and Size: the extents of a tensor, and their product. https://onnx.ai/onnx/operators/onnx__Shape.html
// Versions: Shape 1, 13, 15 (start, end), 19, 21, 23, 24, 25 (more types); Size 1, 13, 19, 21, 23, 24, 25.

import ApusGraph
import ApusTensor

struct ShapeOperator: OperatorDefinition {
  let schema = OperatorSchema(
    "Shape", versions: [1, 13, 15, 19, 21, 23, 24, 25],
    inputs: [.required("data", "T")], outputs: [.required("shape", "T1")],
    attributes: [.int("start", default: 0).since(15), .optional("end", .int).since(15)],
    types: ["T": .stored, "T1": .int64], traits: .readsShapeOnly, portable: .moreTypes)

  /// The axes between `start` and `end`, which count from the end if negative and are clamped to the rank.
  private func axes(_ context: some OperatorContext, rank: Int) throws(OperatorError) -> Range<Int> {
    func clamped(_ axis: Int) -> Int { axis < 0 ? max(axis + rank, 0) : min(axis, rank) }
    let start = clamped(try context.int("start"))
    return start..<max(start, clamped(context.optionalInt("end") ?? rank))
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    guard let shape = context.shape(0) else { return context.set(0, .int64, [.unknown]) }
    let dims = Array(shape[try axes(context, rank: shape.count)])
    context.set(0, .int64, [Dim(dims.count)], values: dims.contains { $0.isUnknown } && dims.count > 64 ? nil : dims)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let (start, end) = (try context.int("start"), context.optionalInt("end"))
    return .planned { plan in
      let shape = plan.shape(0)
      func clamped(_ axis: Int) -> Int { axis < 0 ? max(axis + shape.rank, 0) : min(axis, shape.rank) }
      let first = clamped(start)
      return .writing(Array(shape.dims[first..<max(first, clamped(end ?? shape.rank))]))
    }
  }
}

struct Size: OperatorDefinition {
  let schema = OperatorSchema(
    "Size", versions: [1, 13, 19, 21, 23, 24, 25],
    inputs: [.required("data", "T")], outputs: [.required("size", "T1")],
    types: ["T": .stored, "T1": .int64], traits: .readsShapeOnly, portable: .moreTypes)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let count = context.shape(0)?.product
    context.set(0, .int64, [], values: count.map { [$0] })
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .planned { plan in .writing([plan.shape(0).elementCount]) }
  }
}

extension Step {
  /// A step that writes integers that are known already, and reads nothing of input 0.
  fileprivate static func writing(_ values: [Int]) -> Step {
    Step.serial { run in
      let output = run.output(0, as: Int.self)
      for index in values.indices { output[index] = values[index] }
    }.notReading(0)
  }
}
