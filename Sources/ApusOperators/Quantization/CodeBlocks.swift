// Runs of elements that pass blocks on the stack on their way between their own types and those of kernels.

import ApusTensor
import CApusKernels

/// Elements as kernels read them: where they lie, or converted in a block.
struct BlockReader: Sendable {
  private let type: DataType
  private let conversion: CastKernel?
  /// Bytes of an element in the form of the kernel.
  let width: Int

  /// - Parameter conversion: nil if kernels read the elements as they lie.
  init(_ type: DataType, width: Int, _ conversion: CastKernel?) {
    (self.type, self.width, self.conversion) = (type, width, conversion)
  }

  /// `count` elements from `start` on, which may be in the midst of a byte. `block` has room for `count` elements in
  /// the form of the kernel and 8 more.
  func read(
    _ base: UnsafeRawPointer, _ start: Int, _ count: Int, _ block: UnsafeMutableRawPointer
  ) -> UnsafeRawPointer {
    guard let conversion else { return base + start &* width }
    // Elements before the first that begins a byte are converted as well, and left out.
    let skipped = type.isPacked ? start & 3 : 0
    conversion(skipped &+ count, base + ((start &- skipped) &* type.bits) >> 3, block)
    return UnsafeRawPointer(block + skipped &* width)
  }
}

/// Memory for blocks of elements, taken once for many.
enum CodeBlocks {
  /// Elements of a block, a multiple of 8. Blocks of numbers and codes fit the first-level cache together.
  static let length = 2048
  /// Bytes of a block of float32, with room for what a `BlockReader` skips.
  static let bytes = (length + 16) * 4

  /// Calls `body` with the memory of `blocks` blocks.
  @inline(__always)
  static func with(_ blocks: Int, _ body: (_ memory: UnsafeMutableRawPointer) -> Void) {
    withUnsafeTemporaryAllocation(byteCount: blocks * bytes, alignment: 64) { memory in
      guard let base = memory.baseAddress else { return }
      body(base)
    }
  }

  /// Calls `body` for `start ..< start + count` in blocks.
  @inline(__always)
  static func forEach(_ start: Int, _ count: Int, _ body: (_ start: Int, _ done: Int, _ count: Int) -> Void) {
    var done = 0
    while done < count {
      let n = min(length, count &- done)
      body(start &+ done, done, n)
      done &+= n
    }
  }
}
