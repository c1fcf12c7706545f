// Memory of a caller, for checks that nothing keeps it: pages that are filled anew, and given back to the system.

import ApusTensor
import Foundation
import Synchronization

/// Pages that stand for a caller's array. A tensor over them is to be used for one run.
final class BorrowedBlock {
  private let base: UnsafeMutableRawPointer
  private let byteCount: Int
  private var tensors = 0
  private let released = Count()

  private final class Count: Sendable {
    let value = Atomic<Int>(0)
  }

  /// nil if the system has no memory.
  init?(byteCount: Int) {
    let page = Int(sysconf(Int32(_SC_PAGESIZE)))
    self.byteCount = (byteCount / page + 2) * page
    let pages = mmap(nil, self.byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    guard let pages, pages != MAP_FAILED else { return nil }
    base = pages
  }

  deinit { munmap(base, byteCount) }

  /// The elements of `tensor` in this block, `offset` bytes from its start. What lay here before is gone.
  func tensor(like tensor: Tensor, offset: Int) -> Tensor {
    scramble()
    tensor.withUnsafeBytes { bytes in
      if let source = bytes.baseAddress { (base + offset).copyMemory(from: source, byteCount: bytes.count) }
    }
    tensors += 1
    let storage = TensorStorage(base: base + offset, byteCount: tensor.byteCount) { [released] _, _ in
      released.value.add(1, ordering: .relaxed)
    }
    return Tensor(dataType: tensor.dataType, shape: tensor.shape, storage: storage)
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
