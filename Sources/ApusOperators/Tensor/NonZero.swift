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
        let extent = input.shape[axis]
        for (index, position) in positions.enumerated() {
          target[axis * positions.count + index] = position / stride % extent
        }
      }
      return [.tensor(result)]
    }
  }

  /// The row-major positions of all elements that are not zero.
  private static func positions(in tensor: Tensor) throws(OperatorError) -> [Int] {
    if let strings = tensor.strings { return strings.indices.filter { !strings[$0].isEmpty } }
    func find<Word: FixedWidthInteger & BitwiseCopyable>(_ type: Word.Type, ignoring sign: Word = 0, words: Int = 1)
      -> [Int]
    {
      tensor.withUnsafeBytes { bytes in
        var found: [Int] = []
        for index in 0..<tensor.count {
          var bits: Word = 0
          for word in 0..<words {
            bits |=
              bytes.loadUnaligned(fromByteOffset: (index * words + word) * MemoryLayout<Word>.size, as: Word.self)
              & ~sign
          }
          if bits != 0 { found.append(index) }
        }
        return found
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
