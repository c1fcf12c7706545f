// TensorScatter: writes an update into a cache at a position of each batch entry.
// https://onnx.ai/onnx/operators/onnx__TensorScatter.html
// Versions: 24.

import ApusGraph
import ApusTensor

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

struct TensorScatter: OperatorDefinition {
  let schema = OperatorSchema(
    "TensorScatter", versions: [24],
    inputs: [
      .required("past_cache", "T"), .required("update", "T"), .optional("write_indices", "tensor(int64)"),
    ],
    outputs: [.required("present_cache", "T")],
    attributes: [.int("axis", default: -2), .string("mode", default: "linear")],
    types: [
      "T": .basic + .float8 + [.uint4, .int4, .float4e2m1, .float8e8m0], "tensor(int64)": .int64,
    ],
    traits: .movesData)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let given = try context.int("axis")
    if let cache = context.shape(0), let update = context.shape(1) {
      let axis = try resolveAxis(given, rank: cache.count)
      guard axis > 0 else { throw .mismatch("axis is \(given), the batch axis; expected an axis after it") }
      let fits = cache.count == update.count
      let differs = fits && cache.indices.contains { $0 != axis && cache[$0].isSurelyDifferent(from: update[$0]) }
      if !fits || differs {
        throw .mismatch("update has the shape \(update.text), past_cache \(cache.text): only axis \(axis) may differ")
      }
      if let room = cache[axis].known, let length = update[axis].known, length > room {
        throw .mismatch("update is \(length) long on axis \(axis), past_cache only \(room)")
      }
      if let indices = context.shape(2), indices.count != 1 || indices[0].isSurelyDifferent(from: cache[0]) {
        throw .mismatch("write_indices has the shape \(indices.text); expected [\(cache[0])]")
      }
    }
    context.copy()
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let givenAxis = try context.int("axis")
    let isCircular = try context.string("mode", oneOf: ["linear", "circular"]) == "circular"
    return .moving { plan throws(OperatorError) in
      guard let cache = plan.inputs[0], let update = plan.inputs[1] else { throw .invalid("an input is missing") }
      let axis = try resolveAxis(givenAxis, rank: cache.shape.rank)
      let (room, length) = (cache.shape[axis], update.shape[axis])
      let lines = cache.shape.count(of: 0..<axis)
      let linesPerBatch = cache.shape.count(of: 1..<axis)
      let bytes = cache.shape.count(of: axis + 1..<cache.shape.rank) * cache.dataType.byteWidth
      let hasIndices = plan.isPresent(2)
      let partition = Partition(lines, of: .copying(bytes: bytes) * 2 * room)
      return Step.parallel(parts: cache.count == 0 ? 0 : partition.parts) { run, part in
        for line in partition.range(part) {
          let batch = line / linesPerBatch
          let first = hasIndices ? run.inputBytes(2).loadUnaligned(fromByteOffset: batch &* 8, as: Int.self) : 0
          guard isCircular || (first >= 0 && first <= room - length) else {
            return run.fail(
              "write_indices[\(batch)] is \(first); expected 0 to \(room - length) for \(length) entries in a cache of "
                + "\(room)")
          }
          let target = run.outputBytes() + line &* room &* bytes
          let source = run.inputBytes(0) + line &* room &* bytes
          let update = run.inputBytes(1) + line &* length &* bytes
          if source != UnsafeRawPointer(target) { memcpy(target, source, room &* bytes) }
          // Up to the end of the cache, then from its start.
          let rest = first % room
          let start = rest < 0 ? rest &+ room : rest
          let head = min(length, room &- start)
          memcpy(target + start &* bytes, update, head &* bytes)
          memcpy(target, update + head &* bytes, (length &- head) &* bytes)
        }
      }.overwriting(0).named("scatter into cache")
    }
  }
}
