// Where the bytes of a tensor live: memory that the storage owns, bytes of a file, or memory of the caller.

import CApusProcess
import Synchronization

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
  /// Where the first byte is, or will be: the bytes of a deferred block are not there before `base` was asked for.
  package let address: UnsafeMutableRawPointer
  package let byteCount: Int
  /// The strings of a string tensor; empty for every other type.
  package let strings: [String]
  /// True for a block that this storage allocated itself.
  package let isOwned: Bool
  /// True for a block that may be written to once nothing else refers to it: an owned one, or one that its owner has
  /// lent for that.
  package let isWritable: Bool
  /// The contents, where they come from a file or from a growing block.
  package let deferred: DeferredBytes?
  /// The block whose first rows these bytes are. The dense form at `address` is made when somebody asks for it.
  package let growth: GrowingBlock?
  private let release: (@Sendable (UnsafeMutableRawPointer, Int) -> Void)?
  /// What an owned block gives back to the C library.
  private let allocation: UnsafeMutableRawPointer?
  private let charged = Mutex<MemoryAccount?>(nil)

  /// The first byte. 64-byte aligned for owned blocks; of any alignment otherwise. Deferred bytes are read now; where
  /// that fails the block holds zeros, and `load` tells why.
  @inline(__always) package var base: UnsafeMutableRawPointer {
    if let deferred, deferred.isPending { fill(deferred) }
    return address
  }

  /// A new block, uninitialised, 64-byte aligned, with at least 64 readable bytes after its end, charged to `account`
  /// as long as it lives. `isFilled`: all of it is written next, so its pages may come at once, and not one by one.
  package init(byteCount: Int, account: MemoryAccount? = nil, isFilled: Bool = false) throws(TensorError) {
    try account?.charge(byteCount)
    guard let (allocation, address) = TensorStorage.allocate(byteCount, isFilled: isFilled) else {
      account?.credit(byteCount)
      throw TensorError(
        .memory, "the system has no memory for \(byteCount) bytes",
        remedy: "Use smaller inputs, or a process that may have more memory")
    }
    self.allocation = allocation
    self.address = address
    self.byteCount = byteCount
    strings = []
    (isOwned, isWritable) = (true, true)
    (deferred, growth) = (nil, nil)
    release = nil
    if let account { charged.withLock { $0 = account } }
  }

  /// Blocks of at least so many bytes ask the system for large pages: fewer faults to fill them, fewer misses to read
  /// them.
  private static let smallestLarge = 4 << 20
  /// Blocks of at least so many bytes are kept for the next of their size.
  private static let smallestKept = 64 << 10
  private static let largePage = 2 << 20
  /// Smaller blocks are aligned by hand: the C library takes twice the time for an alignment.
  private static let largestSmall = 1 << 12

  /// The block to free later and the first byte to use; nil if there is no memory.
  private static func allocate(
    _ byteCount: Int, isFilled: Bool = false
  ) -> (allocation: UnsafeMutableRawPointer, address: UnsafeMutableRawPointer)? {
    let (size, overflow) = max(byteCount, 1).addingReportingOverflow(64)
    if byteCount < 0 || overflow { return nil }
    if size <= largestSmall { return malloc(size + 63).map { ($0, $0.alignedUp(toMultipleOf: 64)) } }
    if byteCount < smallestKept { return allocate(size, alignment: 64).map { ($0, $0) } }
    guard let whole = BlockReserve.size(size) else { return nil }
    if let block = BlockReserve.take(size: whole) { return (block, block) }
    let isLarge = byteCount >= smallestLarge
    guard let block = allocate(whole, alignment: isLarge ? largePage : 64) else { return nil }
    // Only whole pages: a page that is begun must not cost two megabytes.
    if isLarge { madvise(block, whole / largePage * largePage, MADV_HUGEPAGE) }
    if isFilled && !isLarge { apus_populate(block, byteCount) }
    return (block, block)
  }

  private static func allocate(_ size: Int, alignment: Int) -> UnsafeMutableRawPointer? {
    var pointer: UnsafeMutableRawPointer?
    if posix_memalign(&pointer, alignment, size) == 0 { return pointer }
    BlockReserve.clear()
    return posix_memalign(&pointer, alignment, size) == 0 ? pointer : nil
  }

  /// Gives back what `allocate` gave.
  private static func deallocate(_ allocation: UnsafeMutableRawPointer, _ byteCount: Int) {
    if byteCount >= smallestKept, let size = BlockReserve.size(byteCount + 64) {
      BlockReserve.put(allocation, size: size)
    } else {
      free(allocation)
    }
  }

  /// Bytes that somebody else owns; `release` is called once, when no tensor refers to them any more. With `deferred`,
  /// the block must be writable, and zeros until it is filled. With `isWritable` the owner leaves the bytes to whoever
  /// holds the storage alone.
  package init(
    base: UnsafeMutableRawPointer, byteCount: Int, deferred: DeferredBytes? = nil, isWritable: Bool = false,
    release: (@Sendable (UnsafeMutableRawPointer, Int) -> Void)?
  ) {
    address = base
    self.byteCount = byteCount
    strings = []
    (isOwned, self.isWritable) = (false, isWritable)
    self.deferred = deferred
    self.release = release
    (growth, allocation) = (nil, nil)
  }

  /// The first `rows` rows of a block, which take no memory but that of the block until somebody asks for `base`: only
  /// then the pages of the place for their dense form are touched.
  init(rows: Int, of block: GrowingBlock, byteCount: Int) throws(TensorError) {
    guard let (allocation, address) = TensorStorage.allocate(byteCount) else {
      throw TensorError(
        .memory, "the system has no memory for \(byteCount) bytes",
        remedy: "Use smaller inputs, or a process that may have more memory")
    }
    (self.allocation, self.address, self.byteCount) = (allocation, address, byteCount)
    strings = []
    (isOwned, isWritable) = (false, false)
    deferred = DeferredBytes(account: nil) { offset, buffer in
      block.copy(rows: rows, from: offset, into: buffer)
      return nil
    }
    growth = block
    release = nil
  }

  package init(strings: [String]) {
    address = TensorStorage.nothing
    byteCount = 0
    self.strings = strings
    (isOwned, isWritable) = (false, false)
    (deferred, growth) = (nil, nil)
    release = nil
    allocation = nil
  }

  /// The storage of tensors that were released: without bytes, and with an error for whoever asks.
  static let released = TensorStorage(
    base: nothing, byteCount: 0,
    deferred: DeferredBytes(account: nil) { _, _ in
      TensorError(.file, "the weights were packed in another form and are not in memory as they were")
    },
    release: nil)

  deinit {
    charged.withLock { $0?.credit(cost) }
    if let allocation { TensorStorage.deallocate(allocation, byteCount) }
    release?(address, byteCount)
  }

  /// Makes sure that deferred bytes are there.
  package func load() throws(TensorError) {
    if let error = deferred?.fill(UnsafeMutableRawBufferPointer(start: address, count: byteCount)) { throw error }
  }

  /// True for a block that some account has been charged for.
  package var isCharged: Bool { charged.withLock { $0 != nil } }

  /// Charges a block that was made without an account; does nothing for memory of others and for blocks that have one.
  package func charge(to account: MemoryAccount) throws(TensorError) {
    guard isOwned || !strings.isEmpty else { return }
    try charged.withLock { (charged: inout MemoryAccount?) throws(TensorError) in
      guard charged == nil else { return }
      try account.charge(cost)
      charged = account
    }
  }

  /// The bytes that the block takes: of strings, the text and its header.
  private var cost: Int { isOwned ? byteCount : TensorStorage.cost(of: strings) }

  /// What strings take in memory.
  package static func cost(of strings: some Collection<String>) -> Int {
    strings.reduce(strings.count * MemoryLayout<String>.stride) { $0 + TensorStorage.textBytes($1) }
  }

  /// What a string takes beside its header: nothing if it is short.
  package static func textBytes(_ string: String) -> Int {
    let count = string.utf8.count
    return count <= 15 ? 0 : count + 32
  }

  @inline(never) private func fill(_ deferred: DeferredBytes) {
    _ = deferred.fill(UnsafeMutableRawBufferPointer(start: address, count: byteCount))
  }

  /// Gives the memory of blocks that were freed back to the system.
  package static func returnFreedMemory() {
    BlockReserve.clear()
    apus_trim_heap()
  }

  /// A place to point at for blocks without bytes. Never written: `nonisolated(unsafe)` because pointers are not
  /// Sendable.
  private nonisolated(unsafe) static let nothing = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64)
}
