// Compress: the slices for which a condition holds. https://onnx.ai/onnx/operators/onnx__Compress.html
// Versions: 9, 11 (negative axis), 28 (bfloat16).

import ApusGraph
import ApusTensor

struct Compress: OperatorDefinition {
  let schema = OperatorSchema(
    "Compress", versions: [9, 11, 28],
    inputs: [.required("input", "T"), .required("condition", "T1")], outputs: [.required("output", "T")],
    attributes: [.optional("axis", .int)], types: ["T": .basic, "T1": .bool], portable: .moreTypes)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    if let rank = context.rank(1), rank != 1 { throw .mismatch("condition has rank \(rank); expected 1") }
    let kept = context.constant(1)?.integers.map { Dim($0.reduce(0, +)) } ?? .unknown
    guard let given = context.optionalInt("axis") else { return context.set(0, context.type(0), [kept]) }
    guard var shape = context.shape(0) else { return context.set(0, context.type(0), nil) }
    shape[try resolveAxis(given, rank: shape.count)] = kept
    context.set(0, context.type(0), shape)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let givenAxis = context.optionalInt("axis")
    return .eager { inputs, context throws(OperatorError) in
      let input = try inputs.tensor(0)
      let shape = givenAxis == nil ? [input.count] : input.shape
      let axis = try resolveAxis(givenAxis ?? 0, rank: shape.rank)
      let condition = try inputs.tensor(1)
      let chosen = condition.withUnsafeBytes { bytes in positions(condition.count) { bytes[$0] != 0 } }
      if let last = chosen.last, last >= shape[axis] {
        throw .mismatch("condition[\(last)] is true, but axis \(axis) of the shape \(shape) ends at \(shape[axis] - 1)")
      }
      return [.tensor(try input.reshaped(to: shape).selecting(chosen, axis: axis, context))]
    }
  }
}

extension Tensor {
  /// The slices at `positions`, which all lie within the axis.
  func selecting(_ positions: [Int], axis: Int, _ context: any EagerContext) throws(OperatorError) -> Tensor {
    var result = shape
    result[axis] = positions.count
    let inner = shape.count(of: axis + 1..<rank)
    let outer = shape.count(of: 0..<axis)
    let extent = shape[axis]
    guard let count = result.checkedElementCount else { throw .mismatch("the shape \(result) is not possible") }
    if count == 0 { return try context.allocate(dataType, result) }
    if let strings {
      try context.check(allocating: count, of: MemoryLayout<String>.stride)
      var chosen: [String] = []
      for block in 0..<outer {
        for position in positions {
          let start: Int = (block * extent + position) * inner
          chosen += strings[start..<start + inner]
        }
      }
      return try context.tensor(strings: chosen, shape: result)
    }
    let target = try context.allocate(dataType, result)
    let bytes = inner * dataType.byteWidth
    let (gather, offsets) = (GatherRun(width: bytes), positions.map { $0 * bytes })
    withUnsafeBytes { source in
      guard let base = source.baseAddress else { return }
      for block in 0..<outer {
        gather(
          base + block * extent * bytes, offsets, positions.count,
          target.storage.base + block * positions.count * bytes)
      }
    }
    return target
  }
}
