// The memory that one piece of work uses in all: one run, the loading of one model, the folding of its constants.

import Synchronization

/// Counts the bytes of all blocks that some work has made and not freed yet, and refuses what would pass its limit.
/// Blocks are charged when they are made and credited when they are freed, from any thread.
package final class MemoryAccount: Sendable {
  /// Bytes that may be in use at a time.
  package let limit: Int
  /// The option that sets the limit, for messages.
  package let name: String
  /// Charged for the same blocks.
  private let parent: MemoryAccount?
  private let used = Atomic<Int>(0)
  /// The largest block of working memory so far; see `chargeWorkspace`.
  private let workspace = Mutex<Int>(0)

  /// `parent`: the account of the larger work that this is a part of.
  package init(limit: Int, name: String, parent: MemoryAccount? = nil) {
    (self.limit, self.name, self.parent) = (limit, name, parent)
  }

  package var inUse: Int { used.load(ordering: .relaxed) }

  /// Bytes that may still be charged.
  package var available: Int { min(max(limit - inUse, 0), parent?.available ?? .max) }

  /// Throws if `bytes` more would pass the limit.
  package func check(_ bytes: Int) throws(TensorError) {
    if bytes > limit - inUse { throw refusal(bytes) }
    try parent?.check(bytes)
  }

  /// Counts `bytes` more, or throws and counts nothing.
  package func charge(_ bytes: Int) throws(TensorError) {
    try parent?.charge(bytes)
    var before = used.load(ordering: .relaxed)
    while bytes <= limit - before {
      let result = used.weakCompareExchange(expected: before, desired: before + bytes, ordering: .relaxed)
      if result.exchanged { return }
      before = result.original
    }
    parent?.credit(bytes)
    throw refusal(bytes)
  }

  /// Takes back what `charge` counted.
  package func credit(_ bytes: Int) {
    used.subtract(bytes, ordering: .relaxed)
    parent?.credit(bytes)
  }

  /// Counts working memory of which one block serves step after step: the largest counts, as long as the account lives.
  package func chargeWorkspace(_ bytes: Int) throws(TensorError) {
    try workspace.withLock { (largest: inout Int) throws(TensorError) in
      if bytes <= largest { return }
      try charge(bytes - largest)
      largest = bytes
    }
  }

  private func refusal(_ bytes: Int) -> TensorError {
    TensorError(
      .memory, "\(bytes) more bytes are needed and \(inUse) are in use; \(name) is \(limit)",
      remedy: "Raise the limit, or use smaller inputs")
  }
}
