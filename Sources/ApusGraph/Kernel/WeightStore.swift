// Weights that are the same in several models, kept in memory once.

import ApusTensor
import Synchronization

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Blocks of constant bytes by their content. It keeps none alive: a block goes with the last model that uses it.
///
/// Blocks are looked up by a hash of a sample of their bytes and compared whole before one stands for the other, so the
/// first model on some weights pays for the sample alone.
package final class WeightStore: Sendable {
  private struct Block: Sendable {
    weak let storage: TensorStorage?
  }

  private struct Content: Sendable {
    /// By hash of the sample.
    var blocks: [Int: [Block]] = [:]
    var count = 0
    /// The count at which blocks that are gone are looked for.
    var nextSweep = 1024
  }

  private let content = Mutex(Content())

  /// Smaller blocks are not worth a place in the store.
  private static let smallest = 1 << 12

  package init() {}

  /// The block that stands for all blocks with the bytes of `storage`, which nobody may change any more: one that some
  /// model has, or `storage` itself. Mapped files and memory of the caller are never shared: who owns them may write.
  package func shared(_ storage: TensorStorage) -> TensorStorage {
    guard storage.byteCount >= WeightStore.smallest, storage.isOwned || storage.deferred != nil else { return storage }
    let hash = WeightStore.hash(storage)
    let candidates = content.withLock { $0.blocks[hash] ?? [] }
    for candidate in candidates {
      guard let known = candidate.storage else { continue }
      if known === storage || WeightStore.hasSameBytes(known, storage) { return known }
    }
    content.withLock { content in
      content.blocks[hash, default: []].append(Block(storage: storage))
      content.count += 1
      if content.count >= content.nextSweep { WeightStore.sweep(&content) }
    }
    return storage
  }

  /// The bytes of all blocks that models use at the moment.
  package var byteCount: Int {
    content.withLock { content in
      content.blocks.values.joined().reduce(0) { $0 + ($1.storage?.byteCount ?? 0) }
    }
  }

  private static func sweep(_ content: inout Content) {
    content.blocks = content.blocks.compactMapValues { blocks in
      let left = blocks.filter { $0.storage != nil }
      return left.isEmpty ? nil : left
    }
    content.count = content.blocks.values.reduce(0) { $0 + $1.count }
    content.nextSweep = max(1024, 2 * content.count)
  }

  /// True for equal bytes at addresses of equal alignment.
  private static func hasSameBytes(_ a: TensorStorage, _ b: TensorStorage) -> Bool {
    a.byteCount == b.byteCount && UInt(bitPattern: a.base) % 64 == UInt(bitPattern: b.base) % 64
      && memcmp(a.base, b.base, a.byteCount) == 0
  }

  /// Of the size and of 32 runs of 64 bytes.
  private static func hash(_ storage: TensorStorage) -> Int {
    let (runs, length) = (32, 64)
    var hasher = Hasher()
    hasher.combine(storage.byteCount)
    for run in 0..<runs {
      let start = (storage.byteCount - length) / (runs - 1) * run
      hasher.combine(bytes: UnsafeRawBufferPointer(start: storage.base + start, count: length))
    }
    return hasher.finalize()
  }
}
