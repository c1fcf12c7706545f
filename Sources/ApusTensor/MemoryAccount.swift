// The memory that one piece of work uses in all: one run, the loading of one model, the folding of its constants, all
// that an engine has.

import Synchronization

/// Counts the bytes of all blocks that some work has made and not freed yet, and refuses what would pass its limit.
/// Blocks are charged when they are made and credited when they are freed, from any thread. What was charged and never
/// credited is credited to the parent when the account goes.
package final class MemoryAccount: Sendable {
  /// Bytes that may be in use at a time.
  package let limit: Int
  /// The option that sets the limit, or whose account it is, for messages.
  package let name: String
  /// Charged for the same blocks.
  private let parent: MemoryAccount?
  private let keeper: (any MemoryKeeper)?
  private let used = Atomic<Int>(0)
  /// Bytes of blocks that are charged and can be given back at once; see `setAside`.
  private let idle = Atomic<Int>(0)
  /// The largest block of working memory so far; see `chargeWorkspace`.
  private let workspace = Mutex<Int>(0)

  /// - Parameters:
  ///   - parent: the account of the larger work that this is a part of.
  ///   - keeper: who is asked for room before anything is refused.
  package init(limit: Int, name: String, parent: MemoryAccount? = nil, keeper: (any MemoryKeeper)? = nil) {
    (self.limit, self.name, self.parent, self.keeper) = (limit, name, parent, keeper)
  }

  deinit {
    // Working memory was never charged to the parent.
    let rest = inUse - workspace.withLock { $0 }
    if rest != 0 { parent?.credit(rest) }
  }

  package var inUse: Int { used.load(ordering: .relaxed) }

  /// The bytes of `inUse` that lie idle.
  package var idleBytes: Int { idle.load(ordering: .relaxed) }

  /// Bytes that may still be charged, as far as this account knows, after what lies idle was given back.
  package var remaining: Int {
    let (sum, overflow) = (limit - inUse).addingReportingOverflow(idleBytes)
    return overflow ? .max : max(sum, 0)
  }

  /// Bytes that may still be charged, after what lies idle was given back.
  package var available: Int { min(remaining, parent?.available ?? .max) }

  /// Throws if `bytes` more would pass the limit.
  package func check(_ bytes: Int) throws(TensorError) {
    if bytes > remaining { throw refusal(bytes) }
    try parent?.check(bytes)
  }

  /// Counts `bytes` more, or throws and counts nothing.
  package func charge(_ bytes: Int) throws(TensorError) {
    // Nobody is asked for room that this account would not let be used.
    if keeper == nil && bytes > limit - inUse { throw refusal(bytes) }
    try parent?.charge(bytes)
    do throws(TensorError) {
      try chargeAlone(bytes)
    } catch {
      parent?.credit(bytes)
      throw error
    }
  }

  /// The same without the parent.
  private func chargeAlone(_ bytes: Int) throws(TensorError) {
    var before = used.load(ordering: .relaxed)
    while true {
      while bytes <= limit - before {
        let result = used.weakCompareExchange(expected: before, desired: before + bytes, ordering: .relaxed)
        if result.exchanged { return }
        before = result.original
      }
      guard let keeper, bytes <= limit, keeper.makeRoom(bytes - (limit - before)) else { throw refusal(bytes) }
      before = used.load(ordering: .relaxed)
    }
  }

  /// Takes back what `charge` counted.
  package func credit(_ bytes: Int) {
    used.subtract(bytes, ordering: .relaxed)
    parent?.credit(bytes)
  }

  /// Counts working memory of which one block serves step after step: the largest counts, as long as the account lives.
  /// The parent is not charged: the block outlives the work, and is charged where it is kept.
  package func chargeWorkspace(_ bytes: Int) throws(TensorError) {
    try workspace.withLock { (largest: inout Int) throws(TensorError) in
      if bytes <= largest { return }
      try chargeAlone(bytes - largest)
      largest = bytes
    }
  }

  /// Tells that `bytes` that were charged lie idle: whoever has them gives them back when the keeper asks.
  package func setAside(_ bytes: Int) {
    idle.add(bytes, ordering: .relaxed)
    parent?.setAside(bytes)
  }

  /// Takes back what `setAside` told: the bytes are used again, or about to be freed.
  package func takeUp(_ bytes: Int) {
    idle.subtract(bytes, ordering: .relaxed)
    parent?.takeUp(bytes)
  }

  private func refusal(_ bytes: Int) -> TensorError {
    let holders = keeper.map(\.usage).flatMap { $0.isEmpty ? nil : ": \($0)" } ?? ""
    let remedy = keeper == nil ? "use smaller inputs" : "release models or results, or run fewer at a time"
    return TensorError(
      .memory, "\(bytes) more bytes are needed and \(inUse) are in use\(holders); \(name) is \(limit)",
      remedy: "Raise the limit, or \(remedy)")
  }
}

/// Who can give back memory that an account was charged for and that nobody uses, and knows who has the rest.
package protocol MemoryKeeper: AnyObject, Sendable {
  /// Gives back at least `bytes`, or what there is. False: there was nothing. Called by threads that are about to
  /// allocate, several at once.
  func makeRoom(_ bytes: Int) -> Bool
  /// Who has how much, for a message.
  var usage: String { get }
}
