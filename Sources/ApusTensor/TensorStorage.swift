// Where the bytes of a tensor live: memory that the storage owns, a range of a mapped file, or memory of the caller.

#if canImport(Glibc)
import Glibc
#else
import Musl
#endif

/// A block of bytes with one owner. Immutable once a `Tensor` that others can see refers to it.
///
/// `@unchecked Sendable`: the pointer never changes, and nobody writes through it after the block is published; the
/// executor, which does write, holds the only reference until then.
public final class TensorStorage: @unchecked Sendable {
  /// The first byte. 64-byte aligned for owned blocks; of any alignment otherwise.
  package let base: UnsafeMutableRawPointer
  package let byteCount: Int
  /// The strings of a string tensor; empty for every other type.
  package let strings: [String]
  /// True for a block that this storage allocated itself.
  package let isOwned: Bool
  private let release: (@Sendable (UnsafeMutableRawPointer, Int) -> Void)?
  /// Gives the pages of a byte range of this storage back to the system, where the storage can read them again.
  package let discard: (@Sendable (Range<Int>) -> Void)?

  /// A new block, uninitialised, 64-byte aligned, with at least 64 readable bytes after its end.
  package init(byteCount: Int) {
    var pointer: UnsafeMutableRawPointer?
    let size = max(byteCount, 1) + 64
    guard posix_memalign(&pointer, 64, size) == 0, let pointer else {
      // The callers bound every size by LoadLimits first; what remains is a machine without memory.
      preconditionFailure("Apus: no memory for a tensor of \(byteCount) bytes")
    }
    base = pointer
    self.byteCount = byteCount
    strings = []
    isOwned = true
    release = { pointer, _ in free(pointer) }
    discard = nil
  }

  /// Bytes that somebody else owns; `release` is called once, when no tensor refers to them any more.
  package init(
    base: UnsafeMutableRawPointer, byteCount: Int,
    discard: (@Sendable (Range<Int>) -> Void)? = nil,
    release: (@Sendable (UnsafeMutableRawPointer, Int) -> Void)?
  ) {
    self.base = base
    self.byteCount = byteCount
    strings = []
    isOwned = false
    self.release = release
    self.discard = discard
  }

  package init(strings: [String]) {
    base = TensorStorage.nothing
    byteCount = 0
    self.strings = strings
    isOwned = false
    release = nil
    discard = nil
  }

  deinit { release?(base, byteCount) }

  /// A place to point at for blocks without bytes. Never written: `nonisolated(unsafe)` because pointers are not Sendable.
  private nonisolated(unsafe) static let nothing = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64)
}
