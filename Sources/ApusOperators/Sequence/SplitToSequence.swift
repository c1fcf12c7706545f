// SplitToSequence: a tensor cut into a sequence of pieces. https://onnx.ai/onnx/operators/onnx__SplitToSequence.html
// Versions: 11, 24 (more types).

import ApusGraph
import ApusTensor

struct SplitToSequence: OperatorDefinition {
  let schema = OperatorSchema(
    "SplitToSequence", versions: [11, 24],
    inputs: [.required("input", "T"), .optional("split", "I")],
    outputs: [.required("output_sequence", "S")],
    attributes: [.int("axis", default: 0), .int("keepdims", default: 1)],
    types: ["T": .all, "S": TypeSet.all.inSequences, "I": .indices], portable: .moreTypes)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    guard let type = context.type(0) else { return }
    guard var shape = context.shape(0) else { return context.set(0, .sequence(.tensor(type, nil))) }
    let axis = try resolveAxis(context.int("axis"), rank: shape.count)
    if !context.isPresent(1) {
      if try context.bool("keepdims") { shape[axis] = 1 } else { shape.remove(at: axis) }
    } else {
      // A scalar that divides the extent, or equal lengths, make equal pieces.
      let lengths = context.integers(1) ?? []
      if let negative = lengths.first(where: { $0 < 0 }) { throw .mismatch("split has the length \(negative)") }
      let isEven =
        context.rank(1) == 0
        ? shape[axis].known.map { lengths.first ?? 0 > 0 && $0 % lengths[0] == 0 } : Set(lengths).count == 1
      shape[axis] = isEven == true ? Dim(lengths[0]) : .unknown
    }
    context.set(0, .sequence(.tensor(type, shape)))
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let axis = try context.int("axis")
    let keepsAxis = try context.bool("keepdims")
    return .eager { (inputs, context) throws(OperatorError) in
      let tensor = try inputs.tensor(0)
      let axis = try resolveAxis(axis, rank: tensor.rank)
      var pieces: [Value] = []
      if let split = inputs.optionalTensor(1) {
        var start = 0
        for length in try SplitToSequence.lengths(split, extent: tensor.shape[axis], context) {
          pieces.append(.tensor(try TensorPieces.slice(tensor, axis: axis, range: start..<start + length, context)))
          start += length
        }
      } else {
        try context.check(allocating: tensor.shape[axis], of: 128)
        for index in 0..<tensor.shape[axis] {
          let piece =
            try keepsAxis
            ? TensorPieces.slice(tensor, axis: axis, range: index..<index + 1, context)
            : TensorPieces.element(tensor, axis: axis, index: index, context)
          pieces.append(.tensor(piece))
        }
      }
      return [.sequence(pieces, elementType: .tensor(tensor.dataType, nil))]
    }
  }

  /// The lengths of the pieces of `extent` elements: equal ones for a scalar, the last perhaps shorter, or those given.
  private static func lengths(
    _ split: Tensor, extent: Int, _ context: any EagerContext
  ) throws(OperatorError) -> [Int] {
    let given = split.integers ?? []
    if split.rank == 0 {
      guard let size = given.first, size > 0 else {
        throw .mismatch("split is \(given.first ?? 0); expected a positive length")
      }
      // A piece is a value with a shape of its own.
      try context.check(allocating: (extent - 1) / size + 1, of: 128)
      return stride(from: 0, to: extent, by: size).map { min(size, extent - $0) }
    }
    var total = 0
    for length in given {
      guard length >= 0, length <= extent - total else {
        throw .mismatch("the lengths \(given) do not fill an extent of \(extent)")
      }
      total += length
    }
    guard total == extent else { throw .mismatch("the lengths \(given) do not fill an extent of \(extent)") }
    return given
  }
}
