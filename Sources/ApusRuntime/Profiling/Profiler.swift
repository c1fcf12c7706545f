// Measures how long each node takes, while a run goes on.

import ApusGraph
import Synchronization

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// One measured node of a run.
package struct ProfileEvent: Sendable {
  package let node: String
  package let op: OperatorID
  package let kernel: String
  /// Nanoseconds on the monotonic clock.
  package let start: UInt64
  package let duration: UInt64
  /// Operations as far as they are counted, a multiply-add as two, and the bytes that the step reads and writes; both 0
  /// for an eager node.
  package let cost: Cost
  /// The parts of the largest phase.
  package let parts: Int
}

/// Collects the events of one or more runs.
package final class Profiler: Sendable {
  private let collected = Mutex<[ProfileEvent]>([])

  /// Events that a profiler of many runs keeps: some hundred megabytes.
  package static let usualCapacity = 1_000_000

  private let capacity: Int

  /// - Parameter capacity: the events that are kept; later ones are lost.
  package init(capacity: Int = Int.max) { self.capacity = capacity }

  package var events: [ProfileEvent] { collected.withLock { $0 } }

  /// The events so far, which are forgotten.
  package func take() -> [ProfileEvent] {
    collected.withLock { events in
      defer { events = [] }
      return events
    }
  }

  private func append(_ event: ProfileEvent) {
    collected.withLock { events in
      if events.count < capacity { events.append(event) }
    }
  }

  /// The monotonic clock in nanoseconds.
  package func now() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
  }

  func record(node: Node, step: StepProfile, from start: UInt64) {
    let event = ProfileEvent(
      node: node.name, op: node.op, kernel: step.kernelName, start: start, duration: now() - start, cost: step.cost,
      parts: step.parts)
    append(event)
  }

  func record(eager node: Node, from start: UInt64) {
    let event = ProfileEvent(
      node: node.name, op: node.op, kernel: "eager", start: start, duration: now() - start, cost: Cost(), parts: 1)
    append(event)
  }
}
