// MurmurHash3: hashes of 32 bits of numbers or strings. https://github.com/aappleby/smhasher/wiki/MurmurHash3 (x86, 32
// bits) https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MurmurHash3 Versions:
// 1.

import ApusGraph
import ApusTensor

struct MurmurHash3: OperatorDefinition {
  let schema = OperatorSchema(
    "MurmurHash3", domain: "com.microsoft", versions: [1], inputs: [.required("X", "T1")],
    outputs: [.required("Y", "T2")],
    attributes: [.int("positive", default: 1), .int("seed", default: 0)],
    types: ["T1": [.uint32, .int32, .uint64, .int64, .float32, .float64, .string], "T2": [.uint32, .int32]])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, try context.bool("positive") ? .uint32 : .int32, context.shape(0))
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let seed = UInt32(truncatingIfNeeded: try context.int("seed"))
    let type = try context.type(0)
    let result: DataType = try context.bool("positive") ? .uint32 : .int32
    guard type == .string else {
      let width = type.byteWidth
      return .planned { plan in
        let partition = Partition(plan.outputShape(0).elementCount, of: .heavy)
        return .parallel(parts: partition.parts) { run, part in
          let (source, target) = (run.inputBytes(0), run.output(0, as: UInt32.self))
          for index in partition.range(part) {
            target[index] = MurmurHash3.hash(
              UnsafeRawBufferPointer(start: source + index &* width, count: width), seed: seed)
          }
        }
      }
    }
    return .eager { (inputs, context) throws(OperatorError) in
      let tensor = try inputs.tensor(0)
      let output = try context.allocate(result, tensor.shape)
      let target = output.storage.base.assumingMemoryBound(to: UInt32.self)
      for (index, string) in (tensor.strings ?? []).enumerated() {
        var text = string
        target[index] = text.withUTF8 { MurmurHash3.hash(UnsafeRawBufferPointer($0), seed: seed) }
      }
      return [.tensor(output)]
    }
  }

  private static func rotated(_ value: UInt32, by count: UInt32) -> UInt32 { value << count | value >> (32 - count) }

  private static func scrambled(_ block: UInt32) -> UInt32 { rotated(block &* 0xCC9E_2D51, by: 15) &* 0x1B87_3593 }

  /// All arithmetic is modulo 2^32.
  static func hash(_ bytes: UnsafeRawBufferPointer, seed: UInt32) -> UInt32 {
    var hash = seed
    let blocks = bytes.count / 4
    for block in 0..<blocks {
      hash ^= scrambled(bytes.loadUnaligned(fromByteOffset: 4 &* block, as: UInt32.self))
      hash = rotated(hash, by: 13) &* 5 &+ 0xE654_6B64
    }
    var tail: UInt32 = 0
    for index in (4 * blocks..<bytes.count).reversed() { tail = tail << 8 | UInt32(bytes[index]) }
    hash ^= scrambled(tail)
    hash ^= UInt32(truncatingIfNeeded: bytes.count)
    hash = (hash ^ hash >> 16) &* 0x85EB_CA6B
    hash = (hash ^ hash >> 13) &* 0xC2B2_AE35
    return hash ^ hash >> 16
  }
}
