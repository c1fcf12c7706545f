// Weights of float32 as weights of 16 bits: what that does to each number, and tensors that are converted while they
// are written.

import ApusFormats
import ApusOperators
import ApusTensor

extension HalfConversionOptions.ElementType {
  package var dataType: DataType { self == .float16 ? .float16 : .bfloat16 }
  /// Finite numbers from here on become infinite: half a step above the largest.
  var overflow: Float { self == .float16 ? 65520 : Float(bitPattern: 0x7F7F_8000) }
  /// Smaller numbers lose digits,
  var leastNormal: Float { self == .float16 ? 0x1p-14 : .leastNormalMagnitude }
  /// and those up to here become 0: half of the least number.
  var vanishing: Float { self == .float16 ? 0x1p-25 : 0x1p-134 }
}

/// What becomes of the numbers of one constant.
struct HalfRange {
  private(set) var overflows = 0
  private(set) var subnormals = 0
  private(set) var zeros = 0
  private(set) var largest: Float = 0
  let count: Int

  /// Looks at every element of a tensor of float32, piece by piece.
  init(_ tensor: Tensor, _ type: HalfConversionOptions.ElementType) throws(CompressionError) {
    count = tensor.count
    let (overflow, normal, vanishing) = (type.overflow, type.leastNormal, type.vanishing)
    var found = (overflows: 0, subnormals: 0, zeros: 0, largest: Float(0))
    do throws(TensorError) {
      _ = try tensor.allPieces(of: 1 << 20) { _, piece in
        for start in stride(from: 0, to: piece.count, by: 4) {
          let size = abs(piece.loadUnaligned(fromByteOffset: start, as: Float.self))
          if size > found.largest, size.isFinite { found.largest = size }
          if size >= overflow { found.overflows += size.isFinite ? 1 : 0 }
          if size < normal, size > 0 {
            if size <= vanishing { found.zeros += 1 } else { found.subnormals += 1 }
          }
        }
        return true
      }
    } catch {
      throw CompressionError(.invalidFile, "a weight cannot be read: \(error)")
    }
    (overflows, subnormals, zeros, largest) = found
  }

  /// A node with such a constant computes something else in 16 bits; nil if it does not. A number alone is mostly one
  /// that keeps a divisor from 0.
  var refusal: String? {
    if overflows > 0 { return "\(overflows) of its numbers would become infinite: up to \(largest)" }
    if count == 1, zeros > 0 { return "it is \(largest), which would become 0" }
    return zeros * 4 > count ? "\(zeros) of its \(count) numbers would become 0" : nil
  }

  var isRemarkable: Bool { overflows + subnormals + zeros > 0 }
}

extension Tensor {
  /// Larger constants are converted when somebody reads them, piece by piece where that is a file that is written.
  private static let smallestDeferred = 1 << 20

  /// A tensor of float32 in 16 bits, rounded to the nearest, ties to even.
  func halved(_ type: DataType) throws(CompressionError) -> Tensor {
    guard let kernel = CastKernels.kernel(from: .float32, to: type) else {
      throw CompressionError(.invalidOption, "there is no conversion from float32 to \(type)")
    }
    do throws(TensorError) {
      guard count > Self.smallestDeferred, storage.deferred == nil else {
        let result = try Tensor(uninitialized: type, shape: shape)
        if count > 0 { kernel(count, base, result.storage.base) }
        withExtendedLifetime(storage) {}
        return result
      }
      let source = self
      let bytes = DeferredBytes(account: nil) { offset, buffer in
        // Both ends of a piece are those of elements: pieces are as large as writers choose, which is even.
        if let target = buffer.baseAddress { kernel(buffer.count / 2, source.base + offset * 2, target) }
        withExtendedLifetime(source.storage) {}
        return nil
      }
      let range = try AddressRange.reserve(count * 2)
      guard let first = range.baseAddress else { return try Tensor(uninitialized: type, shape: shape) }
      let storage = TensorStorage(base: first, byteCount: range.count, deferred: bytes) { base, byteCount in
        AddressRange.free(UnsafeMutableRawBufferPointer(start: base, count: byteCount))
      }
      return Tensor(dataType: type, shape: shape, storage: storage)
    } catch {
      throw CompressionError(.limitExceeded, "a weight of \(count) elements: \(error)")
    }
  }
}
