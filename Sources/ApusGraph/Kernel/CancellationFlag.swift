// The flag that ends a run early: set by hand (task cancellation) or by a deadline, asked between parts.

import Synchronization

/// Asks running work to stop. Once set it stays set. Any thread may set it and ask it.
package final class CancellationFlag: Sendable {
  /// Why the work shall stop.
  package enum Cause: Sendable, Hashable {
    case requested
    case deadlineExceeded
  }

  private static let running: UInt8 = 0
  private static let requested: UInt8 = 1
  private static let expired: UInt8 = 2

  private let state = Atomic<UInt8>(CancellationFlag.running)
  /// On `MonotonicClock`; `UInt64.max` for never.
  package let deadline: UInt64

  /// - Parameter timeout: from now until the flag sets itself; nil for never. Zero or less: it is set from the start.
  package init(timeout: Duration? = nil) {
    guard let timeout else {
      deadline = .max
      return
    }
    let (seconds, attoseconds) = timeout.components
    let whole = UInt64(clamping: seconds).multipliedReportingOverflow(by: 1_000_000_000)
    let fraction = UInt64(clamping: attoseconds / 1_000_000_000)
    let span = whole.overflow ? (UInt64.max, true) : whole.partialValue.addingReportingOverflow(fraction)
    let end = MonotonicClock.nanoseconds().addingReportingOverflow(span.0)
    deadline = span.1 || end.overflow ? .max : end.partialValue
  }

  /// Sets the flag. The first cause stays.
  package func cancel() { set(Self.requested) }

  /// Whether the flag is set: one load, and one reading of the clock if there is a deadline.
  package var isCancelled: Bool {
    if state.load(ordering: .acquiring) != Self.running { return true }
    return deadline != .max && checkDeadline()
  }

  /// nil as long as the flag is not set.
  package var cause: Cause? {
    guard isCancelled else { return nil }
    return state.load(ordering: .acquiring) == Self.expired ? .deadlineExceeded : .requested
  }

  @inline(never)
  private func checkDeadline() -> Bool {
    guard MonotonicClock.nanoseconds() >= deadline else { return false }
    set(Self.expired)
    return true
  }

  private func set(_ value: UInt8) {
    _ = state.compareExchange(expected: Self.running, desired: value, ordering: .acquiringAndReleasing)
  }
}
