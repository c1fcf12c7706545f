// ConcatFromSequence: the tensors of a sequence as one. https://onnx.ai/onnx/operators/onnx__ConcatFromSequence.html
// Versions: 11.

import ApusGraph
import ApusTensor

struct ConcatFromSequence: OperatorDefinition {
  let schema = OperatorSchema(
    "ConcatFromSequence", versions: [11],
    inputs: [.required("input_sequence", "S")],
    outputs: [.required("concat_result", "T")],
    attributes: [.required("axis", .int), .int("new_axis", default: 0)],
    types: ["S": TypeSet.all.inSequences, "T": .all])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    guard let element = context.element(0).tensor else { return }
    let isNew = try context.bool("new_axis")
    guard var shape = element.shape else { return context.set(0, element.dataType, nil) }
    let axis = try resolveAxis(context.int("axis"), rank: shape.count + (isNew ? 1 : 0))
    if isNew { shape.insert(.unknown, at: axis) } else { shape[axis] = .unknown }
    context.set(0, element.dataType, shape)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let axis = try context.int("axis")
    let isNew = try context.bool("new_axis")
    return .eager { (inputs, context) throws(OperatorError) in
      let elements = try inputs.sequence(0).elements
      guard let first = elements.first?.tensor else { throw .mismatch("an empty sequence cannot be concatenated") }
      let axis = try resolveAxis(axis, rank: first.rank + (isNew ? 1 : 0))
      let tensors = elements.compactMap(\.tensor)
      return [
        .tensor(
          try isNew
            ? TensorPieces.stack(tensors, axis: axis, context) : TensorPieces.concatenate(tensors, axis: axis, context))
      ]
    }
  }
}
