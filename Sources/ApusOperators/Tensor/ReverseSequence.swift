// ReverseSequence: the first elements of each sequence backwards.
// https://onnx.ai/onnx/operators/onnx__ReverseSequence.html Versions: 10, 28 (bfloat16).

import ApusGraph
import ApusTensor

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

struct ReverseSequence: OperatorDefinition {
  let schema = OperatorSchema(
    "ReverseSequence", versions: [10, 28],
    inputs: [.required("input", "T"), .required("sequence_lens", "tensor(int64)")], outputs: [.required("Y", "T")],
    attributes: [.int("batch_axis", default: 1), .int("time_axis", default: 0)],
    types: ["T": .basic, "tensor(int64)": .int64], traits: .rearranges, portable: .moreTypes)

  private static func isBatchFirst(_ context: some OperatorContext) throws(OperatorError) -> Bool {
    let (batch, time) = (try context.int("batch_axis"), try context.int("time_axis"))
    guard [0, 1].contains(batch), time == 1 - batch else {
      throw .invalid("batch_axis is \(batch) and time_axis \(time); expected 0 and 1 or 1 and 0")
    }
    return batch == 0
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let batchAxis = try ReverseSequence.isBatchFirst(context) ? 0 : 1
    if let shape = context.shape(0) {
      guard shape.count >= 2 else { throw .mismatch("the input has the shape \(shape.text); expected rank 2 or more") }
      if let lengths = context.shape(1), lengths.count != 1 || lengths[0].isSurelyDifferent(from: shape[batchAxis]) {
        throw .mismatch("sequence_lens has the shape \(lengths.text); expected [\(shape[batchAxis])]")
      }
    }
    context.copy()
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let isBatchFirst = try ReverseSequence.isBatchFirst(context)
    return .moving { plan throws(OperatorError) in
      guard let type = plan.inputs[0] else { throw .invalid("input 0 is missing") }
      let dims = type.shape
      let (batches, times) = isBatchFirst ? (dims[0], dims[1]) : (dims[1], dims[0])
      let (batchStride, timeStride) = isBatchFirst ? (times, 1) : (1, batches)
      let bytes = dims.count(of: 2..<dims.rank) * type.dataType.byteWidth
      let partition = Partition(batches * times, of: .copying(bytes: bytes))
      return Step.parallel(parts: type.count == 0 ? 0 : partition.parts) { run, part in
        let lengths = run.inputBytes(1)
        for position in partition.range(part) {
          let (batch, time) = (position / batchStride % batches, position / timeStride % times)
          let length = lengths.loadUnaligned(fromByteOffset: batch &* 8, as: Int.self)
          guard length >= 0, length <= times else {
            return run.fail("sequence_lens[\(batch)] is \(length); expected 0 to \(times)")
          }
          let from = time < length ? length &- 1 &- time : time
          memcpy(
            run.outputBytes() + position &* bytes,
            run.inputBytes(0) + (batch &* batchStride &+ from &* timeStride) &* bytes, bytes)
        }
      }.named("reverse sequences")
    }
  }
}
