// Where less urgent runs wait for more urgent ones.

import ApusGraph
import CApusProcess
import Synchronization

/// Lets the more urgent of the runs that are in progress have the processors.
///
/// Runs give way of their own accord between two parts of their work. While more urgent runs want `wanted` of the
/// processors, as many runs of a lower priority go on as there are processors left, and the others sleep. So that
/// none sleeps for ever, those of one priority get a slice of time in turn, one run at a time. Nobody waits where all
/// runs in progress have one priority: asking costs a load then.
///
/// `@unchecked Sendable`: `lines` is touched under the lock of `monitor` only.
package final class RunGate: @unchecked Sendable {
  /// What runs that stand still get under constant load: a tenth of one processor, in slices of at least one part.
  private static let slice: UInt64 = 2_000_000
  private static let pause: UInt64 = 18_000_000
  private static let longestPause: UInt64 = 500_000_000
  /// Nanoseconds between two looks at the clock and at the wishes to cancel.
  private static let patience: UInt64 = 4_000_000

  /// Those that the runs share; nil for all that this process may use, which only runs that wait need to know.
  private let processors: Int?
  /// The threads that the runs in progress want, by priority; nobody gives way to those in the background.
  private let normal = Atomic<Int>(0)
  private let high = Atomic<Int>(0)
  /// Runs that sleep here.
  private let sleepers = Atomic<Int>(0)
  private let monitor = Monitor()
  private let generation = Atomic<UInt32>(apus_fork_generation())
  private var lines = (background: Line(), normal: Line())

  /// The runs of one priority that have to do with the gate.
  private struct Line {
    /// Those that go on although there are more urgent ones.
    var admitted = 0
    /// Those that sleep, the one that came first first.
    var waiting: [ObjectIdentifier] = []
    /// Whether one has a slice, since when, and when the next slice may begin.
    var hasHolder = false
    var sliceBegin: UInt64 = 0
    var nextSlice: UInt64 = 0

    /// A part may take longer than a slice; then the pause does, too.
    mutating func endSlice() {
      let now = MonotonicClock.nanoseconds()
      let length = max(now - sliceBegin, RunGate.slice)
      nextSlice = now + min(length * (RunGate.pause / RunGate.slice), RunGate.longestPause)
      hasHolder = false
    }
  }

  /// - Parameter processors: those that the runs share; nil for all that this process may use.
  package init(processors: Int? = nil) { self.processors = processors }

  deinit { monitor.destroy() }

  /// The threads that runs of a higher priority want.
  @inline(__always) fileprivate func wanted(above priority: RunPriority) -> Int {
    switch priority {
    case .high: 0
    case .normal: high.load(ordering: .relaxed)
    case .background: high.load(ordering: .relaxed) &+ normal.load(ordering: .relaxed)
    }
  }

  fileprivate func enter(_ priority: RunPriority, threads: Int) {
    if generation.load(ordering: .acquiring) != apus_fork_generation() { restart() }
    switch priority {
    case .high: high.add(threads, ordering: .relaxed)
    case .normal: normal.add(threads, ordering: .relaxed)
    case .background: break
    }
  }

  fileprivate func leave(_ turn: RunTurn) {
    switch turn.priority {
    case .high: high.subtract(turn.threads, ordering: .sequentiallyConsistent)
    case .normal: normal.subtract(turn.threads, ordering: .sequentiallyConsistent)
    case .background: break
    }
    if !turn.isAdmitted && !turn.hasSlice && sleepers.load(ordering: .sequentiallyConsistent) == 0 { return }
    monitor.lock()
    withLine(of: turn) { withdraw(turn, from: &$0) }
    monitor.unlock()
    monitor.broadcast()
  }

  /// Forgets the runs of the process that this one was forked from.
  @inline(never)
  private func restart() {
    monitor.reset()
    normal.store(0, ordering: .relaxed)
    high.store(0, ordering: .relaxed)
    sleepers.store(0, ordering: .relaxed)
    lines = (Line(), Line())
    generation.store(apus_fork_generation(), ordering: .releasing)
  }

  /// Returns when it is the turn of a run, or when it was cancelled.
  @inline(never)
  fileprivate func wait(_ turn: RunTurn, _ cancellation: CancellationFlag?) {
    let id = ObjectIdentifier(turn)
    monitor.lock()
    defer { monitor.unlock() }
    var isInLine = false
    while true {
      if withLine(of: turn, { admits(turn, to: &$0) }) || cancellation?.isCancelled ?? false { break }
      if isInLine {
        monitor.wait(atMost: Self.patience)
      } else {
        // Seen by whoever leaves before this thread looks a last time.
        sleepers.add(1, ordering: .sequentiallyConsistent)
        withLine(of: turn) { line in
          if line.waiting.isEmpty { line.nextSlice = max(line.nextSlice, MonotonicClock.nanoseconds() + Self.pause) }
          line.waiting.append(id)
        }
        isInLine = true
      }
    }
    if isInLine {
      sleepers.subtract(1, ordering: .relaxed)
      withLine(of: turn) { line in line.waiting.removeAll { $0 == id } }
    }
  }

  /// Whether a run may go on now.
  private func admits(_ turn: RunTurn, to line: inout Line) -> Bool {
    let wanted = wanted(above: turn.priority)
    if wanted == 0 {
      withdraw(turn, from: &line)
      return true
    }
    let room = max(max(processors ?? Topology.processors, 1) - wanted, 0)
    if turn.isAdmitted {
      if line.admitted <= room { return true }
      withdraw(turn, from: &line)
    }
    let id = ObjectIdentifier(turn)
    let isNext = line.waiting.first.map { $0 == id } ?? true
    if line.admitted < room && isNext {
      withdraw(turn, from: &line)
      line.admitted += 1
      turn.isAdmitted = true
      return true
    }
    let now = MonotonicClock.nanoseconds()
    if turn.hasSlice {
      if now - line.sliceBegin < Self.slice { return true }
      line.endSlice()
      turn.hasSlice = false
    }
    if line.waiting.first == id && !line.hasHolder && now >= line.nextSlice {
      (line.hasHolder, line.sliceBegin) = (true, now)
      turn.hasSlice = true
      return true
    }
    return false
  }

  private func withdraw(_ turn: RunTurn, from line: inout Line) {
    if turn.isAdmitted {
      line.admitted -= 1
      turn.isAdmitted = false
    }
    if turn.hasSlice {
      line.endSlice()
      turn.hasSlice = false
    }
  }

  private func withLine<Result>(of turn: RunTurn, _ body: (inout Line) -> Result) -> Result {
    // Those of high priority never wait and have no line; nothing in this one is theirs.
    turn.priority == .background ? body(&lines.background) : body(&lines.normal)
  }
}

/// The presence of one run at a gate, from `enter` to `leave`.
///
/// `@unchecked Sendable`: `isAdmitted` and `hasSlice` are written under the lock of the gate only, and read without it
/// by `leave`, when no thread of the run is at the gate any more.
package final class RunTurn: @unchecked Sendable {
  private let gate: RunGate
  package let priority: RunPriority
  /// The threads that the run wants.
  fileprivate let threads: Int
  /// Whose thread the run has; nil for a run on the thread of its caller.
  private let queue: RunQueue?
  fileprivate var isAdmitted = false
  fileprivate var hasSlice = false

  package init(_ gate: RunGate, _ priority: RunPriority, threads: Int, queue: RunQueue? = nil) {
    (self.gate, self.priority, self.threads, self.queue) = (gate, priority, threads, queue)
  }

  /// Begins the presence.
  package func enter() { gate.enter(priority, threads: threads) }

  /// Ends the presence. Once for each `enter`, and not while the run computes.
  package func leave() { gate.leave(self) }

  /// Whether there are more urgent runs.
  @inline(__always) package var isOutranked: Bool {
    // Asked before each part: without a reference of its own, since `self` keeps the gate.
    Unmanaged.passUnretained(gate)._withUnsafeGuaranteedRef { $0.wanted(above: priority) > 0 }
  }

  /// Lets more urgent runs go first. Returns at once where there are none, and soon after a cancellation.
  package func giveWay(_ cancellation: CancellationFlag?) { gate.wait(self, cancellation) }

  /// The most threads that may help the run at the moment.
  var helpers: Int { queue?.helpers(priority) ?? .max }
}
