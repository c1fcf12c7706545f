// NonZero: the positions of the elements that are not zero. https://onnx.ai/onnx/operators/onnx__NonZero.html
// Versions: 9, 13 (bfloat16).

import ApusGraph
import ApusTensor

/// A string is zero if it is empty. The positions of a scalar have no coordinates: the output is [0, n].
struct NonZero: OperatorDefinition {
  let schema = OperatorSchema(
    "NonZero", versions: [9, 13],
    inputs: [.required("X", "T")], outputs: [.required("Y", "tensor(int64)")],
    types: ["T": .basic, "tensor(int64)": .int64])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, .int64, [context.rank(0).map { Dim($0) } ?? .unknown, .unknown])
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .eager { inputs, context throws(OperatorError) in
      let input = try inputs.tensor(0)
      let positions = try NonZero.positions(in: input)
      let result = try context.allocate(.int64, [input.rank, positions.count])
      let target = result.storage.base.assumingMemoryBound(to: Int.self)
      for (axis, stride) in input.shape.strides.enumerated() {
        NonZero.coordinates(
          of: positions, extent: input.shape[axis], stride: stride, target + axis * positions.count)
      }
      return [.tensor(result)]
    }
  }

  /// Where ascending positions lie along an axis. There are quotients only where one goes on to the next line.
  private static func coordinates(of positions: [Int], extent: Int, stride: Int, _ target: UnsafeMutablePointer<Int>) {
    // Positions from `start` up to `end` lie at `coordinate`, or along the last axis at their distance from `start`.
    var (start, end, coordinate) = (0, 0, 0)
    for (index, position) in positions.enumerated() {
      if position >= end {
        let step = stride == 1 ? extent : stride
        start = position / step &* step
        end = start &+ step
        coordinate = position / stride % extent
      }
      target[index] = stride == 1 ? position &- start : coordinate
    }
  }

  /// The row-major positions of all elements that are not zero.
  private static func positions(in tensor: Tensor) throws(OperatorError) -> [Int] {
    if let strings = tensor.strings { return strings.indices.filter { !strings[$0].isEmpty } }
    func find<Word: FixedWidthInteger & BitwiseCopyable>(_ type: Word.Type, ignoring sign: Word = 0, words: Int = 1)
      -> [Int]
    {
      tensor.withUnsafeBytes { bytes in
        guard let base = bytes.baseAddress else { return [] }
        func word(_ index: Int) -> Word {
          base.loadUnaligned(fromByteOffset: index &* MemoryLayout<Word>.size, as: Word.self) & ~sign
        }
        return words == 1
          ? ApusOperators.positions(tensor.count) { word($0) != 0 }
          : ApusOperators.positions(tensor.count) { word(2 &* $0) | word(2 &* $0 &+ 1) != 0 }
      }
    }
    // -0 is zero.
    switch tensor.dataType {
    case .float16, .bfloat16: return find(UInt16.self, ignoring: 1 << 15)
    case .float32: return find(UInt32.self, ignoring: 1 << 31)
    case .float64: return find(UInt64.self, ignoring: 1 << 63)
    case .complex64: return find(UInt32.self, ignoring: 1 << 31, words: 2)
    case .complex128: return find(UInt64.self, ignoring: 1 << 63, words: 2)
    case .bool, .int8, .uint8: return find(UInt8.self)
    case .int16, .uint16: return find(UInt16.self)
    case .int32, .uint32: return find(UInt32.self)
    case .int64, .uint64: return find(UInt64.self)
    default: throw .unsupported("NonZero has no kernel for \(tensor.dataType)")
    }
  }
}
