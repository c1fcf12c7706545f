// The gate: who gives way to whom, how many go on, nobody for ever; and whom the workers of a pool help first.

import ApusGraph
import ApusRuntime
import Glibc
import Synchronization
import Testing

/// The turn of a run that has begun.
private func entered(_ gate: RunGate, _ priority: RunPriority, threads: Int) -> RunTurn {
  let turn = RunTurn(gate, priority, threads: threads)
  turn.enter()
  return turn
}

@Suite(.serialized) struct RunGateTests {
  private static let second: UInt64 = 1_000_000_000

  @Test func prioritiesAreOrdered() {
    #expect(RunPriority.background < .normal && RunPriority.normal < .high)
    #expect(RunPriority.allCases.map(\.rawValue) == [-1, 0, 1])
  }

  /// Nobody waits for runs of the same priority or of lower ones, however many threads they want.
  @Test func equalsDoNotWait() {
    let gate = RunGate(processors: 1)
    for priority in RunPriority.allCases {
      let turns = (0..<8).map { _ in entered(gate, priority, threads: 4) }
      let less = RunPriority.allCases.filter { $0 <= priority }.map { entered(gate, $0, threads: 4) }
      #expect(turns.allSatisfy { !$0.isOutranked })
      for turn in turns + less { turn.leave() }
    }
    let alone = entered(gate, .background, threads: 1)
    #expect(!alone.isOutranked, "who has left counts no more")
    alone.leave()
  }

  @Test func lowerPrioritiesWait() {
    let gate = RunGate(processors: 2)
    for (lower, higher) in [(RunPriority.background, RunPriority.normal), (.background, .high), (.normal, .high)] {
      let urgent = entered(gate, higher, threads: 2)
      let isOver = Atomic<Bool>(false)
      let early = Atomic<Int>(0)
      onThreads(4) { index in
        if index == 0 {
          usleep(10_000)
          isOver.store(true, ordering: .sequentiallyConsistent)
          return urgent.leave()
        }
        let turn = entered(gate, lower, threads: 1)
        turn.giveWay(nil)
        if !isOver.load(ordering: .sequentiallyConsistent) { early.wrappingAdd(1, ordering: .relaxed) }
        turn.leave()
      }
      // The first slice of a run that waits comes later than this.
      #expect(early.load(ordering: .relaxed) == 0, "\(lower) under \(higher)")
    }
  }

  /// What the urgent runs leave of the processors is for others.
  @Test func asManyGoOnAsThereIsRoom() {
    let gate = RunGate(processors: 5)
    let urgent = entered(gate, .high, threads: 3)
    let inside = Atomic<Int>(0)
    let most = Atomic<Int>(0)
    let passes = Atomic<Int>(0)
    let begin = MonotonicClock.nanoseconds()
    onThreads(6) { _ in
      let turn = entered(gate, .normal, threads: 1)
      // For a while, or longer where the threads get no processor.
      for now in sequence(first: begin, next: { _ in MonotonicClock.nanoseconds() }) {
        if now - begin > (most.load(ordering: .relaxed) < 2 ? 10 * Self.second : Self.second / 10) { break }
        turn.giveWay(nil)
        most.max(inside.wrappingAdd(1, ordering: .relaxed).newValue, ordering: .relaxed)
        passes.wrappingAdd(1, ordering: .relaxed)
        usleep(200)
        inside.wrappingSubtract(1, ordering: .relaxed)
      }
      turn.leave()
    }
    // Two by right, and one whose slice it is.
    #expect((2...3).contains(most.load(ordering: .relaxed)))
    #expect(passes.load(ordering: .relaxed) >= 6)
    urgent.leave()
  }

  /// Under urgent runs that never end, every other run gets on.
  @Test func nobodyWaitsForEver() {
    let gate = RunGate(processors: 1)
    let urgent = entered(gate, .high, threads: 1)
    let passes = (0..<6).map { _ in Counter() }
    let begin = MonotonicClock.nanoseconds()
    onThreads(6) { index in
      let turn = entered(gate, index < 3 ? .normal : .background, threads: 1)
      for _ in 0..<3 {
        turn.giveWay(nil)
        passes[index].value.wrappingAdd(1, ordering: .relaxed)
        usleep(3000)
      }
      turn.leave()
    }
    #expect(passes.allSatisfy { $0.value.load(ordering: .relaxed) == 3 })
    #expect(MonotonicClock.nanoseconds() - begin < 20 * Self.second)
    urgent.leave()
  }

  private final class Counter: Sendable {
    let value = Atomic<Int>(0)
  }

  @Test func cancellationEndsTheWait() {
    let gate = RunGate(processors: 1)
    let urgent = entered(gate, .high, threads: 1)
    let begin = MonotonicClock.nanoseconds()
    let turn = entered(gate, .background, threads: 1)
    turn.giveWay(CancellationFlag(timeout: .zero))
    #expect(MonotonicClock.nanoseconds() - begin < 10_000_000)
    let pool = WorkerPool(threads: 1)
    let flag = CancellationFlag(timeout: .milliseconds(5))
    #expect(!pool.run(parts: 1000, cancellation: flag, turn: turn) { _ in usleep(100) })
    turn.leave()
    urgent.leave()
  }

  /// A worker leaves a job between two of its parts when a more urgent one is opened.
  @Test func workersHelpTheUrgentFirst() {
    let pool = WorkerPool(threads: 2)
    // With room for all: only the workers have to choose.
    let gate = RunGate(processors: 64)
    let isOpen = Atomic<Bool>(false)
    let isOver = Atomic<Bool>(false)
    let helped = Atomic<Int>(0)
    onThreads(2) { index in
      let turn = entered(gate, index == 0 ? .background : .high, threads: 2)
      if index == 0 {
        pool.run(parts: 4000, turn: turn) { _ in
          isOpen.store(true, ordering: .relaxed)
          if !isOver.load(ordering: .relaxed) { usleep(500) }
        }
      } else {
        while !isOpen.load(ordering: .relaxed) { sched_yield() }
        let caller = pthread_self()
        pool.run(parts: 100, turn: turn) { _ in
          if pthread_equal(caller, pthread_self()) == 0 { helped.wrappingAdd(1, ordering: .relaxed) }
          usleep(500)
        }
        isOver.store(true, ordering: .relaxed)
      }
      turn.leave()
    }
    #expect(helped.load(ordering: .relaxed) >= 20)
  }

  /// Runs of all priorities at once, from more threads than there are slots: every part of each is computed once.
  @Test func stress() {
    let pool = WorkerPool(threads: 3)
    let gate = RunGate(processors: 2)
    let parts = Atomic<Int>(0)
    let incomplete = Atomic<Int>(0)
    onThreads(40) { index in
      for round in 0..<20 {
        let priority = RunPriority.allCases[(index + round) % 3]
        let turn = entered(gate, priority, threads: 1 + index % 3)
        for _ in 0..<5 {
          let isWhole = pool.run(parts: 7, turn: turn) { _ in parts.wrappingAdd(1, ordering: .relaxed) }
          if !isWhole { incomplete.wrappingAdd(1, ordering: .relaxed) }
        }
        turn.leave()
      }
    }
    #expect(parts.load(ordering: .relaxed) == 40 * 20 * 5 * 7)
    #expect(incomplete.load(ordering: .relaxed) == 0)
    let last = entered(gate, .background, threads: 1)
    #expect(!last.isOutranked)
    last.leave()
  }
}
