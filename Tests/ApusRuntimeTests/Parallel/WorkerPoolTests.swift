// The worker pool: every part once, from any number of callers, nested, cancelled, shut down; asleep when idle.

import ApusGraph
import ApusRuntime
import Glibc
import Synchronization
import Testing

/// Counters that C function pointers can reach.
private final class Counters: Sendable {
  let sum = Atomic<Int>(0)
  let calls = Atomic<Int>(0)

  var address: UnsafeRawPointer { UnsafeRawPointer(Unmanaged.passUnretained(self).toOpaque()) }

  static func at(_ address: UnsafeRawPointer) -> Counters {
    Unmanaged<Counters>.fromOpaque(address).takeUnretainedValue()
  }

  static let add: PartFunction = { context, part in
    let counters = Counters.at(context)
    counters.sum.wrappingAdd(part, ordering: .relaxed)
    counters.calls.wrappingAdd(1, ordering: .relaxed)
  }
}

@Suite(.serialized) struct WorkerPoolTests {
  @Test(arguments: [1, 2, 3, 8]) func everyPartRunsOnce(threads: Int) {
    let pool = WorkerPool(threads: threads)
    #expect(pool.threadCount == threads)
    for parts in [-1, 0, 1, 2, 3, 7, 64, 1000] {
      let seen = (0..<max(parts, 0)).map { _ in Counters() }
      let complete = pool.run(parts: parts) { part in _ = seen[part].calls.wrappingAdd(1, ordering: .relaxed) }
      #expect(complete)
      #expect(seen.allSatisfy { $0.calls.load(ordering: .relaxed) == 1 })
    }
  }

  @Test func writesOfThePartsAreVisible() {
    let pool = WorkerPool(threads: 4)
    let count = 4096
    let memory = UnsafeMutablePointer<Int>.allocate(capacity: count)
    defer { memory.deallocate() }
    for round in 0..<200 {
      memory.initialize(repeating: -1, count: count)
      pool.run(parts: 16, context: memory) { context, part in
        let memory = UnsafeMutablePointer(mutating: context.assumingMemoryBound(to: Int.self))
        for index in part * 256..<(part + 1) * 256 { memory[index] = index }
      }
      let sum = UnsafeBufferPointer(start: memory, count: count).reduce(0, +)
      #expect(sum == count * (count - 1) / 2, "round \(round)")
      if sum != count * (count - 1) / 2 { break }
    }
  }

  @Test(arguments: [nil, 0, 200]) func manySmallRuns(spinMicroseconds: Int?) {
    let pool = WorkerPool(threads: 3, spinMicroseconds: spinMicroseconds)
    let counters = Counters()
    var wrong = 0
    let runs = spinMicroseconds == 0 ? 10_000 : 100_000
    for run in 1...runs {
      if !pool.run(parts: 4, context: counters.address, Counters.add) { wrong += 1 }
      if counters.calls.load(ordering: .relaxed) != 4 * run { wrong += 1 }
    }
    #expect(wrong == 0)
    #expect(counters.sum.load(ordering: .relaxed) == 6 * runs)
  }

  @Test func concurrentCallers() {
    let pool = WorkerPool(threads: 3)
    let failures = Atomic<Int>(0)
    onThreads(8) { caller in
      let counters = Counters()
      for run in 1...2000 {
        let parts = 2 + (run + caller) % 5
        let before = counters.calls.load(ordering: .relaxed)
        pool.run(parts: parts, context: counters.address, Counters.add)
        if counters.calls.load(ordering: .relaxed) != before + parts { failures.wrappingAdd(1, ordering: .relaxed) }
      }
    }
    #expect(failures.load(ordering: .relaxed) == 0)
  }

  @Test func moreCallersThanSlots() {
    let pool = WorkerPool(threads: 2)
    let total = Atomic<Int>(0)
    onThreads(48) { _ in
      for _ in 0..<20 {
        pool.run(parts: 3) { _ in
          sched_yield()
          total.wrappingAdd(1, ordering: .relaxed)
        }
      }
    }
    #expect(total.load(ordering: .relaxed) == 48 * 20 * 3)
  }

  @Test func nestedRuns() {
    let pool = WorkerPool(threads: 3)
    let total = Atomic<Int>(0)
    for _ in 0..<100 {
      pool.run(parts: 4) { _ in
        pool.run(parts: 5) { _ in
          pool.run(parts: 3) { _ in total.wrappingAdd(1, ordering: .relaxed) }
        }
      }
    }
    #expect(total.load(ordering: .relaxed) == 100 * 4 * 5 * 3)
  }

  @Test func theWorkersTakePart() {
    let pool = WorkerPool(threads: 3)
    // Ends only when three threads are inside at once; a fourth part finds the gate open.
    let inside = Atomic<Int>(0)
    pool.run(parts: 3) { _ in
      inside.wrappingAdd(1, ordering: .relaxed)
      while inside.load(ordering: .relaxed) < 3 { sched_yield() }
    }
    // The same after all have fallen asleep, with more than one thread wakes by itself.
    let large = WorkerPool(threads: 12)
    for _ in 0..<5 {
      usleep(5000)
      let gate = Atomic<Int>(0)
      large.run(parts: 12) { _ in
        gate.wrappingAdd(1, ordering: .relaxed)
        while gate.load(ordering: .relaxed) < 12 { sched_yield() }
      }
    }
  }

  /// Each thread begins with parts of its own, the same in every run: the caller with the first ones.
  @Test func threadsBeginWithTheirShare() {
    let pool = WorkerPool(threads: 2)
    let caller = pthread_self()
    for parts in [2, 7, 8] {
      for _ in 0..<50 {
        // Nobody ends before both are inside, so that each has claimed a part.
        let inside = Atomic<Int>(0)
        let byCaller = Atomic<UInt64>(0)
        pool.run(parts: parts) { part in
          inside.wrappingAdd(1, ordering: .relaxed)
          while inside.load(ordering: .relaxed) < 2 { sched_yield() }
          if pthread_equal(pthread_self(), caller) != 0 { byCaller.bitwiseOr(1 << UInt64(part), ordering: .relaxed) }
        }
        let mine = byCaller.load(ordering: .relaxed)
        #expect(mine & 1 == 1, "the caller has the first of \(parts) parts")
        let half = UInt64((parts + 1) / 2)
        #expect(mine & (1 << half) == 0, "the worker has the first part of its own of \(parts)")
      }
    }
  }

  /// Shares of one pool: each has no more threads than are its own, and what one leaves idle helps the other.
  @Test func shares() {
    let pool = WorkerPool(threads: 6)
    let share = WorkerPool(sharing: WorkerPool(sharing: pool, threads: 4), threads: 2)
    #expect(share.threadCount == 2)
    #expect(WorkerPool(sharing: share, threads: 9).threadCount == 6, "a share of a share is one of the pool")
    let inside = Atomic<Int>(0)
    let most = Atomic<Int>(0)
    for _ in 0..<20 {
      share.run(parts: 32) { _ in
        let now = inside.wrappingAdd(1, ordering: .relaxed).newValue
        most.max(now, ordering: .relaxed)
        usleep(100)
        inside.wrappingSubtract(1, ordering: .relaxed)
      }
    }
    #expect((1...2).contains(most.load(ordering: .relaxed)))
    // The whole pool is there for whoever asks for it, and for several at once.
    let gate = Atomic<Int>(0)
    pool.run(parts: 6) { _ in
      gate.wrappingAdd(1, ordering: .relaxed)
      while gate.load(ordering: .relaxed) < 6 { sched_yield() }
    }
    let counters = Counters()
    onThreads(8) { thread in
      let share = WorkerPool(sharing: pool, threads: 1 + thread % 4)
      for _ in 0..<200 { share.run(parts: 5, context: counters.address, Counters.add) }
    }
    #expect(counters.calls.load(ordering: .relaxed) == 8 * 200 * 5)
    withExtendedLifetime(counters) {}
  }

  @Test func groups() {
    let pool = WorkerPool(threads: 3)
    let sizes = [3, 0, 0, 5, 1, 0]
    let counters = sizes.map { _ in Counters() }
    var end = 0
    let tasks = zip(sizes, counters).map { size, counters in
      end += size
      return ParallelTask(endPart: end, context: counters.address, Counters.add)
    }
    for run in 1...500 {
      #expect(tasks.withUnsafeBufferPointer { pool.runGroup($0) })
      let right = zip(sizes, counters).allSatisfy { size, counters in
        counters.calls.load(ordering: .relaxed) == size * run
          && counters.sum.load(ordering: .relaxed) == size * (size - 1) / 2 * run
      }
      #expect(right)
    }
    #expect(pool.runGroup(UnsafeBufferPointer(start: nil, count: 0)))
    withExtendedLifetime(counters) {}
  }

  @Test(arguments: [1, 3]) func cancellation(threads: Int) {
    let pool = WorkerPool(threads: threads)
    let flag = CancellationFlag()
    let calls = Atomic<Int>(0)
    let complete = pool.run(parts: 1000, cancellation: flag) { _ in
      if calls.wrappingAdd(1, ordering: .relaxed).newValue == 10 { flag.cancel() }
    }
    #expect(!complete)
    // Those already claimed by other threads still ran.
    #expect((10..<1000).contains(calls.load(ordering: .relaxed)))
    #expect(flag.cause == .requested)
    #expect(!pool.run(parts: 5, cancellation: flag) { _ in Issue.record("ran after cancellation") })
    #expect(!pool.run(parts: 1, cancellation: flag) { _ in Issue.record("ran after cancellation") })
    let after = Atomic<Int>(0)
    #expect(pool.run(parts: 5, cancellation: CancellationFlag()) { _ in after.wrappingAdd(1, ordering: .relaxed) })
    #expect(after.load(ordering: .relaxed) == 5)
  }

  @Test func cancelledByTheLastPartIsComplete() {
    let pool = WorkerPool(threads: 1)
    let flag = CancellationFlag()
    #expect(pool.run(parts: 4, cancellation: flag) { if $0 == 3 { flag.cancel() } })
    #expect(flag.isCancelled)
  }

  @Test func deadlines() {
    #expect(CancellationFlag(timeout: .zero).cause == .deadlineExceeded)
    #expect(CancellationFlag(timeout: .seconds(-5)).isCancelled)
    #expect(CancellationFlag().cause == nil)
    #expect(!CancellationFlag(timeout: .seconds(Int64.max)).isCancelled)
    let pool = WorkerPool(threads: 2)
    let flag = CancellationFlag(timeout: .milliseconds(20))
    let begin = MonotonicClock.nanoseconds()
    #expect(!pool.run(parts: 1_000_000, cancellation: flag) { _ in usleep(1000) })
    #expect(MonotonicClock.nanoseconds() - begin >= 20_000_000)
    flag.cancel()
    #expect(flag.cause == .deadlineExceeded)
  }

  @Test func shutdownLeavesTheCaller() {
    let pool = WorkerPool(threads: 4)
    let counters = Counters()
    pool.run(parts: 100, context: counters.address, Counters.add)
    pool.shutdown()
    pool.shutdown()
    #expect(pool.run(parts: 100, context: counters.address, Counters.add))
    #expect(counters.calls.load(ordering: .relaxed) == 200)
  }

  @Test func shutdownDuringRuns() {
    for _ in 0..<20 {
      let pool = WorkerPool(threads: 3)
      let total = Atomic<Int>(0)
      onThreads(3) { index in
        if index == 0 { return pool.shutdown() }
        for _ in 0..<200 { pool.run(parts: 6) { _ in total.wrappingAdd(1, ordering: .relaxed) } }
      }
      #expect(total.load(ordering: .relaxed) == 2 * 200 * 6)
    }
  }

  @Test func poolsComeAndGo() {
    for round in 0..<200 {
      let pool = WorkerPool(threads: 1 + round % 5)
      if round % 2 == 0 {
        let total = Atomic<Int>(0)
        pool.run(parts: 9) { part in total.wrappingAdd(part, ordering: .relaxed) }
        #expect(total.load(ordering: .relaxed) == 36)
      }
    }
  }

  @Test func threadCountIsClamped() {
    #expect(WorkerPool(threads: 0).threadCount == 1)
    #expect(WorkerPool(threads: -7).threadCount == 1)
  }

  @Test func idleThreadsSleep() {
    let pool = WorkerPool(threads: 4, spinMicroseconds: 50)
    pool.run(parts: 64) { _ in sched_yield() }
    usleep(20_000)
    let before = pool.workerNanoseconds
    usleep(500_000)
    #expect(pool.workerNanoseconds - before < 5_000_000)
  }

  @Test func workersCountTheirTime() {
    let pool = WorkerPool(threads: 2)
    let gate = Atomic<Int>(0)
    pool.run(parts: 2) { _ in
      gate.wrappingAdd(1, ordering: .relaxed)
      while gate.load(ordering: .relaxed) < 2 { sched_yield() }
    }
    #expect(pool.workerNanoseconds > 0)
    pool.shutdown()
    #expect(pool.workerNanoseconds == 0)
  }
}
