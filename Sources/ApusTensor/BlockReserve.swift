// Blocks between two uses: a run's result is freed before the next one, mostly. The same block again is still in the
// caches, and where it is large, the system takes as long to map and clear its pages anew as a light operator to fill
// them.

import Synchronization

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Blocks that were freed last, at most `limit` bytes of them in the process. As memory that the C library holds back,
/// they belong to no account.
enum BlockReserve {
  /// As much as the C library may hold back of blocks that it does not map one by one.
  private static let limit = 32 << 20
  /// Sizes are multiples of it, so that blocks of nearly one size serve each other.
  private static let unit = 4 << 10
  /// So many, that looking for one takes no time.
  private static let most = 32

  /// `@unchecked Sendable`: whoever takes a block is the only one who has its pointer.
  private struct Block: @unchecked Sendable {
    let pointer: UnsafeMutableRawPointer
    let size: Int
  }

  /// Oldest first. Nobody waits for the lock: a thread may hold it where a process forks.
  private static let kept = Mutex<[Block]>([])

  /// The size of a block for `byteCount` bytes; nil if there is no such number.
  static func size(_ byteCount: Int) -> Int? {
    let (sum, overflow) = byteCount.addingReportingOverflow(unit - 1)
    return overflow ? nil : sum / unit * unit
  }

  /// A block of exactly `size` bytes, uninitialised; nil if there is none.
  static func take(size: Int) -> UnsafeMutableRawPointer? {
    let block = kept.withLockIfAvailable { kept -> Block? in
      kept.lastIndex { $0.size == size }.map { kept.remove(at: $0) }
    }
    return block??.pointer
  }

  /// Keeps a block that nobody uses any more, in place of older ones, or frees it.
  static func put(_ pointer: UnsafeMutableRawPointer, size: Int) {
    if size > limit { return free(pointer) }
    let block = Block(pointer: pointer, size: size)
    let surplus = kept.withLockIfAvailable { kept in
      kept.append(block)
      var (bytes, count) = (kept.reduce(0) { $0 + $1.size }, 0)
      while bytes > limit || kept.count - count > most {
        bytes -= kept[count].size
        count += 1
      }
      defer { kept.removeFirst(count) }
      return Array(kept[..<count])
    }
    for block in surplus ?? [block] { free(block.pointer) }
  }

  /// Frees all.
  static func clear() {
    let blocks = kept.withLockIfAvailable { kept in
      defer { kept = [] }
      return kept
    }
    for block in blocks ?? [] { free(block.pointer) }
  }
}
