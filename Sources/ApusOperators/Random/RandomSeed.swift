// Where the operators that draw random numbers begin: at the seed of the node, at one for the whole process, or
// anywhere.

import ApusGraph
import Synchronization

/// The seed of the process, for nodes without one of their own.
package enum ProcessSeed {
  fileprivate struct State {
    var seed: UInt64?
    /// How often it was set: nodes begin anew each time.
    var epoch = 0
  }

  fileprivate static let state = Mutex(State())

  /// From now on each node without a seed of its own draws what it would draw in every process with this seed: its
  /// first run, its second run, and so on.
  package static func set(_ seed: Int) {
    state.withLock { state in
      state.seed = UInt64(bitPattern: Int64(seed))
      state.epoch += 1
    }
  }
}

/// The seeds of a node's runs: the integer part of the attribute as 32 bits, or others every time.
final class RandomSeed: Sendable {
  private let fixed: UInt32?
  private let nodeHash: UInt64
  /// The runs since the process was seeded.
  private let runs = Mutex((epoch: 0, count: UInt64(0)))

  /// nil and NaN: not seeded.
  init(_ seed: Float?, of node: Node) {
    fixed = seed.flatMap { $0.isNaN ? nil : UInt32(truncatingIfNeeded: truncated64($0)) }
    nodeHash = RandomSeed.hash(node.name)
  }

  init(_ seed: Int?, of node: Node) {
    fixed = seed.map { UInt32(truncatingIfNeeded: $0) }
    nodeHash = RandomSeed.hash(node.name)
  }

  func next() -> UInt32 {
    if let fixed { return fixed }
    let process = ProcessSeed.state.withLock { $0 }
    guard let seed = process.seed else {
      var system = SystemRandomNumberGenerator()
      return system.next()
    }
    let run = runs.withLock { runs in
      if runs.epoch != process.epoch { runs = (process.epoch, 0) }
      defer { runs.count += 1 }
      return runs.count
    }
    return UInt32(truncatingIfNeeded: RandomSeed.mix(RandomSeed.mix(seed ^ nodeHash) &+ run))
  }

  /// FNV-1a, 64 bits: the same in every process, as `Hasher` is not.
  private static func hash(_ text: String) -> UInt64 {
    text.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
  }

  private static func mix(_ value: UInt64) -> UInt64 {
    var numbers = SplitMix64(seed: value)
    return numbers.next()
  }
}
