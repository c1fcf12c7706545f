// Whether a kernel has looked at the tensors of its node.

import Synchronization

/// Notes that somebody was shown tensors. A kernel that has not looked at any, neither when it was prepared nor when it
/// planned, would plan the same step for every node with the same operator, attributes and types.
package final class TensorReads: Sendable {
  private let happened = Atomic<Bool>(false)

  package init() {}

  func note() { happened.store(true, ordering: .relaxed) }

  /// Whether `note` was called since the last call of this.
  package func take() -> Bool {
    // No exchange is needed: only one thread prepares or plans with the object at a time.
    guard happened.load(ordering: .relaxed) else { return false }
    happened.store(false, ordering: .relaxed)
    return true
  }
}
