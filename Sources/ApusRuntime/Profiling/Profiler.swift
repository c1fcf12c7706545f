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
  /// Bytes of the inputs, outputs and scratch that the step reads and writes.
  package let bytes: Int
  /// Operations, a multiply-add as two; 0 where they are not counted.
  package let operations: Int
  /// The parts of the largest phase.
  package let parts: Int
}

/// Collects the events of one or more runs.
package final class Profiler: Sendable {
  private let collected = Mutex<[ProfileEvent]>([])

  package init() {}

  package var events: [ProfileEvent] { collected.withLock { $0 } }

  /// The monotonic clock in nanoseconds.
  package func now() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
  }

  func record(node: Node, planned: PlannedStep, from start: UInt64) {
    let event = ProfileEvent(
      node: node.name, op: node.op, kernel: planned.step.kernelName, start: start, duration: now() - start, bytes: planned.bytes,
      operations: planned.step.operations, parts: planned.step.phases.max() ?? 0)
    collected.withLock { $0.append(event) }
  }

  func record(eager node: Node, from start: UInt64) {
    let event = ProfileEvent(
      node: node.name, op: node.op, kernel: "eager", start: start, duration: now() - start, bytes: 0, operations: 0, parts: 1)
    collected.withLock { $0.append(event) }
  }
}
