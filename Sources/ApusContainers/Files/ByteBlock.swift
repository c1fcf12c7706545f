// Bytes whose number is not known before the last one is there.

import ApusTensor

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Bytes that grow at their end: a block from malloc that doubles (realloc moves large blocks by changing page tables).
/// They are charged to an account as long as they live.
struct ByteBlock: ~Copyable {
  private var base: UnsafeMutableRawPointer?
  private(set) var count = 0
  private var capacity = 0
  private let content: MemoryAccount

  private static let smallestCapacity = 1 << 16

  init(account: MemoryAccount?) {
    content = MemoryAccount(limit: .max, name: account?.name ?? "", parent: account)
  }

  deinit { free(base) }

  /// Calls `body` with room for at least one byte behind the last one.
  mutating func append<Result>(
    _ body: (inout OutputSpan<UInt8>) throws(LoadError) -> Result
  ) throws(LoadError) -> Result {
    if count == capacity {
      let larger = max(capacity * 2, Self.smallestCapacity)
      guard let block = realloc(base, larger) else {
        throw LoadError(.limitExceeded, "the system has no memory for more than \(count) bytes")
      }
      (base, capacity) = (block, larger)
    }
    guard let base else { preconditionFailure("a block with room has an address") }
    // The bytes from `count` to `capacity` belong to the block and to nobody else.
    let room = UnsafeMutableBufferPointer(
      start: (base + count).assumingMemoryBound(to: UInt8.self), count: capacity - count)
    var output = OutputSpan(buffer: room, initializedCount: 0)
    let result = try body(&output)
    let added = output.finalize(for: room)
    do throws(TensorError) {
      try content.charge(added)
    } catch {
      throw LoadError(error)
    }
    count += added
    return result
  }

  /// The bytes, which the storage owns from now on.
  consuming func finish() -> TensorStorage {
    let (block, byteCount, content) = (base, count, content)
    base = nil
    guard let block else {
      // An address for nothing.
      return TensorStorage(base: UnsafeMutableRawPointer(bitPattern: 64)!, byteCount: 0) { _, _ in }
    }
    return TensorStorage(base: block, byteCount: byteCount) { block, _ in
      free(block)
      withExtendedLifetime(content) {}
    }
  }
}
