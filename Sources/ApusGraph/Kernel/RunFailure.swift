// Where a running kernel leaves word of data that it cannot work on.

import Synchronization

/// The first failure of a run. Checked by the executor after every step.
package final class RunFailure: Sendable {
  private let raised = Atomic<Bool>(false)
  private let declined = Atomic<Bool>(false)
  private let message = Mutex<String?>(nil)

  package init() {}

  package func report(_ text: String) {
    message.withLock { if $0 == nil { $0 = text } }
    raised.store(true, ordering: .releasing)
  }

  /// Says that the data do not allow what the plan does with a cache; see `RunContext.decline`.
  package func decline() { declined.store(true, ordering: .releasing) }

  /// True if somebody has declined, once.
  package func takeDeclined() -> Bool {
    declined.load(ordering: .acquiring) && declined.exchange(false, ordering: .acquiringAndReleasing)
  }

  /// The message of the first failure, taken out so that the object can be used again; nil if there was none.
  package func take() -> String? {
    guard raised.load(ordering: .acquiring) else { return nil }
    raised.store(false, ordering: .relaxed)
    return message.withLock { text in
      defer { text = nil }
      return text
    }
  }
}
