// Indices of any number type as Int, in blocks.

import ApusTensor

/// Reads numbers as `Int`. Floats are truncated towards zero; what does not fit becomes the nearest `Int`, NaN becomes
/// 0.
struct IndexReader: Sendable {
  /// The longest block that kernels read at a time.
  static let block = 512

  private let function:
    @Sendable (_ source: UnsafeRawPointer, _ start: Int, _ count: Int, UnsafeMutablePointer<Int>) -> Void

  /// nil for types that are no numbers of at least a byte.
  init?(_ type: DataType) {
    func reader<Element: BitwiseCopyable>(
      _ type: Element.Type, _ integer: @escaping @Sendable (Element) -> Int
    ) -> @Sendable (UnsafeRawPointer, Int, Int, UnsafeMutablePointer<Int>) -> Void {
      { source, start, count, target in
        let first = source + start &* MemoryLayout<Element>.size
        for index in 0..<count {
          target[index] = integer(
            first.loadUnaligned(fromByteOffset: index &* MemoryLayout<Element>.size, as: Element.self))
        }
      }
    }
    switch type {
    case .int64: function = reader(Int.self) { $0 }
    case .int32: function = reader(Int32.self) { Int($0) }
    case .int16: function = reader(Int16.self) { Int($0) }
    case .int8: function = reader(Int8.self) { Int($0) }
    case .uint64: function = reader(UInt64.self) { Int(clamping: $0) }
    case .uint32: function = reader(UInt32.self) { Int($0) }
    case .uint16: function = reader(UInt16.self) { Int($0) }
    case .uint8: function = reader(UInt8.self) { Int($0) }
    case .float64: function = reader(Double.self) { IndexReader.truncated($0) }
    case .float32: function = reader(Float.self) { IndexReader.truncated(Double($0)) }
    case .float16: function = reader(Float16.self) { IndexReader.truncated(Double($0)) }
    case .bfloat16: function = reader(BFloat16.self) { IndexReader.truncated(Double($0.float)) }
    default: return nil
    }
  }

  private static func truncated(_ value: Double) -> Int {
    value.isNaN ? 0 : value >= 0x1p63 ? Int.max : value <= -0x1p63 ? Int.min : Int(value)
  }

  /// Writes `count` numbers from the element `start` on. The source needs no alignment.
  @inline(__always)
  func read(_ source: UnsafeRawPointer, from start: Int, _ count: Int, into target: UnsafeMutablePointer<Int>) {
    function(source, start, count, target)
  }

  /// All elements of a tensor; nil if it holds no numbers.
  static func integers(of tensor: Tensor) -> [Int]? {
    guard let reader = IndexReader(tensor.dataType) else { return nil }
    return tensor.withUnsafeBytes { bytes in
      [Int](unsafeUninitializedCapacity: tensor.count) { buffer, initialized in
        initialized = tensor.count
        if let source = bytes.baseAddress, let target = buffer.baseAddress {
          reader.read(source, from: 0, tensor.count, into: target)
        }
      }
    }
  }
}
