// ScatterND: a copy of the data with slices updated at tuples of indices.
// https://onnx.ai/onnx/operators/onnx__ScatterND.html
// Versions: 11, 13 (bfloat16), 16 (add, mul), 18 (min, max).

import ApusGraph
import ApusTensor

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Updates of one place are applied in the order of the indices.
struct ScatterND: OperatorDefinition {
  let schema = OperatorSchema(
    "ScatterND", versions: [11, 13, 16, 18],
    inputs: [.required("data", "T"), .required("indices", "tensor(int64)"), .required("updates", "T")],
    outputs: [.required("output", "T")],
    attributes: [.string("reduction", default: "none").since(16)],
    types: ["T": .basic, "tensor(int64)": .int64], traits: .movesData)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let reduction = try ScatterReduction.of(context)
    if let data = context.shape(0), let indices = context.shape(1) {
      guard let last = indices.last else { throw .mismatch("indices is a scalar; expected rank 1 or more") }
      if let length = last.known {
        guard length >= 1, length <= data.count else {
          throw .mismatch("the tuples of indices have \(length) elements; expected 1 to \(data.count)")
        }
        let expected = Array(indices[..<(indices.count - 1)]) + data[length...]
        if let updates = context.shape(2) {
          guard updates.count == expected.count,
            !zip(updates, expected).contains(where: { $0.isSurelyDifferent(from: $1) })
          else { throw .mismatch("updates has the shape \(updates.text); expected \(expected.text)") }
        }
      }
    }
    context.copy()
    if reduction == .none { context.moveValues(of: self) }
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let elementType = try context.type(0)
    let reduction = try ScatterReduction.of(context, elementType)
    return .moving { plan throws(OperatorError) in
      guard let data = plan.inputs[0], let indices = plan.inputs[1], let reader = IndexReader(indices.dataType),
        let scatter = ScatterRun(reduction, data.dataType)
      else { throw .unsupported("ScatterND has no kernel for \(elementType) with \(reduction.rawValue)") }
      let length = indices.shape[indices.shape.rank - 1]
      let tuples = IndexTuples(data: data, first: 0, length: length, reader: reader)
      return try ScatterND.step(data, tuples, count: indices.count / length, scatter)
    }
  }

  /// A copy of the data, then parts that each apply all updates of the slices that are theirs.
  private static func step(
    _ data: TensorType, _ tuples: IndexTuples, count: Int, _ scatter: ScatterRun
  ) throws(OperatorError) -> Step {
    let width = data.dataType.byteWidth
    let copy = try MovementCopy(
      from: .input(0), width: width, extents: [data.count], sourceStrides: [1], targetStrides: [1])
    let copying = copy.partition
    let bytes = tuples.sliceBytes
    let slice = bytes / width
    // Every part reads all indices, so there must not be more parts than elements in a slice.
    let wanted = Partition(count * slice, of: .light * 2).parts
    let parts = count * bytes == 0 || data.count == 0 ? 0 : max(1, min(wanted, slice / 4))
    let scratch = tuples.scratchBytes
    return Step(
      phases: [data.count == 0 ? 0 : copying.parts, count == 0 ? 0 : max(parts, 1)],
      scratchBytes: max(parts, 1) * scratch
    ) { run, phase, part in
      if phase == 0 {
        if run.inputBytes(0) != UnsafeRawPointer(run.outputBytes()) { copy.run(run, copying.range(part)) }
        return
      }
      var tuple = 0
      while tuple < count {
        let length = min(tuples.block, count &- tuple)
        guard let offsets = tuples.offsets(run.inputBytes(1), from: tuple, length, run.scratch + part &* scratch, run)
        else { return }
        let updates = run.inputBytes(2) + tuple &* bytes
        if slice == 1 {
          scatter(run.outputBytes(), offsets, updates, length)
        } else if bytes > 0 {
          for index in 0..<length where parts == 1 || offsets[index] / bytes % parts == part {
            let target = run.outputBytes() + offsets[index]
            if scatter.isCopy {
              memcpy(target, updates + index &* bytes, bytes)
            } else {
              scatter(target, nil, updates + index &* bytes, slice)
            }
          }
        }
        tuple &+= length
      }
    }.overwriting(0).named("scatter tuples")
  }
}
