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

  /// A copy of the data, and the offsets of all slices; then parts that each apply all updates of the slices that are
  /// theirs.
  private static func step(
    _ data: TensorType, _ tuples: IndexTuples, count: Int, _ scatter: ScatterRun
  ) throws(OperatorError) -> Step {
    let width = data.dataType.byteWidth
    let copy = try MovementCopy(
      from: .input(0), width: width, extents: [data.count], sourceStrides: [1], targetStrides: [1])
    let copying = copy.partition
    let copies = data.count == 0 ? 0 : copying.parts
    let bytes = tuples.sliceBytes
    let slice = bytes / width
    let reading = Partition(count, of: .medium)
    let readings = count == 0 ? 0 : reading.parts
    // Every part looks at all offsets, so that a slice must be worth it.
    let wanted = Partition(count * slice, of: .light * 2).parts
    let parts = count * bytes == 0 || data.count == 0 ? 0 : max(1, min(wanted, slice / elementsPerPart))
    let table = aligned(count * 8)
    let scratch = tuples.scratchBytes
    return Step(
      phases: [copies + readings, parts], scratchBytes: table + readings * scratch
    ) { run, phase, part in
      let offsets = run.scratch.assumingMemoryBound(to: Int.self)
      if phase == 1 { return apply(run, offsets, count, bytes, scatter, part: part, of: parts) }
      if part < copies {
        if run.inputBytes(0) != UnsafeRawPointer(run.outputBytes()) { copy.run(run, copying.range(part)) }
        return
      }
      let range = reading.range(part &- copies)
      let memory = run.scratch + (table &+ (part &- copies) &* scratch)
      var tuple = range.lowerBound
      while tuple < range.upperBound {
        let length = min(tuples.block, range.upperBound &- tuple)
        guard let found = tuples.offsets(run.inputBytes(1), from: tuple, length, memory, run) else {
          // The run ends with an error; no slice of these is touched.
          return (offsets + tuple).update(repeating: -1, count: range.upperBound &- tuple)
        }
        (offsets + tuple).update(from: found, count: length)
        tuple &+= length
      }
    }.overwriting(0).named("scatter tuples")
  }

  /// Elements of a slice for each part that looks at all offsets.
  private static let elementsPerPart = 16

  /// Applies the updates of the slices of a part, in order. Offsets below 0 are none.
  private static func apply(
    _ run: RunContext, _ offsets: UnsafePointer<Int>, _ count: Int, _ bytes: Int, _ scatter: ScatterRun, part: Int,
    of parts: Int
  ) {
    let (target, updates) = (run.outputBytes(), run.inputBytes(2))
    let slice = bytes / scatter.width
    if slice == 1, !(0..<count).contains(where: { offsets[$0] < 0 }) {
      return scatter(target, offsets, updates, count)
    }
    for index in 0..<count where offsets[index] >= 0 && (parts == 1 || owner(offsets[index], of: parts) == part) {
      if scatter.isCopy {
        memcpy(target + offsets[index], updates + index &* bytes, bytes)
      } else {
        scatter(target + offsets[index], nil, updates + index &* bytes, slice)
      }
    }
  }

  /// The part that a slice belongs to: slices that lie beside each other go to different ones.
  @inline(__always)
  private static func owner(_ offset: Int, of parts: Int) -> Int {
    // The upper bits of a product with the golden ratio, as a fraction of 2^32.
    let mixed = (UInt64(bitPattern: Int64(offset)) &* 0x9e37_79b9_7f4a_7c15) >> 32
    return Int((mixed &* UInt64(truncatingIfNeeded: parts)) >> 32)
  }
}
