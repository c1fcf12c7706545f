// Memory of a caller, for checks that nothing keeps it: pages that are filled anew, and given back to the system.

import ApusTensor
import Foundation
import Synchronization

/// Pages that stand for a caller's array, with a page behind them that nobody may touch. A tensor over them is to be
/// used for one run.
package final class BorrowedBlock {
  private let base: UnsafeMutableRawPointer
  /// The bytes in front of the page that nobody may touch.
  private let byteCount: Int
  private let pageBytes: Int
  private var tensors = 0
  private let released = Count()

  private final class Count: Sendable {
    let value = Atomic<Int>(0)
  }

  /// Where a tensor lies in a block.
  package enum Place {
    /// So many bytes from the first page.
    case offset(Int)
    /// Its last byte is the last one that may be touched.
    case end
  }

  /// nil if the system has no memory.
  package init?(byteCount: Int) {
    pageBytes = Int(sysconf(Int32(_SC_PAGESIZE)))
    self.byteCount = (byteCount / pageBytes + 2) * pageBytes
    let pages = mmap(nil, self.byteCount + pageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    guard let pages, pages != MAP_FAILED else { return nil }
    base = pages
    mprotect(base + self.byteCount, pageBytes, PROT_NONE)
  }

  deinit { munmap(base, byteCount + pageBytes) }

  /// The elements of `tensor` in this block. What lay here before is gone.
  package func tensor(like tensor: Tensor, at place: Place) -> Tensor {
    scramble()
    let target = address(of: tensor.byteCount, at: place)
    tensor.withUnsafeBytes { bytes in
      if let source = bytes.baseAddress { target.copyMemory(from: source, byteCount: bytes.count) }
    }
    tensors += 1
    let storage = TensorStorage(base: target, byteCount: tensor.byteCount) { [released] _, _ in
      released.value.add(1, ordering: .relaxed)
    }
    return Tensor(dataType: tensor.dataType, shape: tensor.shape, storage: storage)
  }

  /// The last `count` bytes, each set to `fill`.
  package func buffer(byteCount count: Int, fill: UInt8) -> UnsafeMutableRawBufferPointer {
    let buffer = UnsafeMutableRawBufferPointer(start: address(of: count, at: .end), count: count)
    buffer.initializeMemory(as: UInt8.self, repeating: fill)
    return buffer
  }

  private func address(of count: Int, at place: Place) -> UnsafeMutableRawPointer {
    switch place {
    case .offset(let offset): base + offset
    case .end: base + byteCount - count
    }
  }

  /// Writes other bytes over everything.
  func scramble() { base.initializeMemory(as: UInt8.self, repeating: 0xC3, count: byteCount) }

  /// True if no tensor over this block is left.
  var isReleased: Bool { released.value.load(ordering: .relaxed) == tensors }
}

extension Tensor {
  /// The same elements `offset` bytes from a multiple of 64, as constants lie in files.
  func placed(at offset: Int) -> Tensor {
    if dataType == .string { return self }
    let block = Tensor(zeros: .uint8, shape: [offset + byteCount]).storage
    withUnsafeBytes { bytes in
      if let source = bytes.baseAddress { (block.base + offset).copyMemory(from: source, byteCount: bytes.count) }
    }
    let storage = TensorStorage(base: block.base + offset, byteCount: byteCount) { _, _ in
      withExtendedLifetime(block) {}
    }
    return Tensor(dataType: dataType, shape: shape, storage: storage)
  }
}
