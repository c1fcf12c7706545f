// The queue of runs without a thread: order, bounds, withdrawal, deadlines.

import ApusGraph
import ApusRuntime
import Foundation
import Synchronization
import Testing

@Suite(.serialized) struct RunQueueTests {
  /// What happened, in order, and how many have ended.
  private final class Log: Sendable {
    private let entries = Mutex<[String]>([])
    private let semaphore = DispatchSemaphore(value: 0)

    func add(_ text: String) {
      entries.withLock { $0.append(text) }
      semaphore.signal()
    }

    /// All entries once there are `count`, or those there are after ten seconds.
    func wait(_ count: Int) -> [String] {
      for _ in 0..<count where semaphore.wait(timeout: .now() + 10) == .timedOut { break }
      return entries.withLock { $0 }
    }
  }

  private static func entry(_ priority: RunPriority = .normal, timeout: Duration? = nil) -> RunQueue.Entry {
    RunQueue.Entry(priority, cancellation: CancellationFlag(timeout: timeout))
  }

  /// Takes all threads of the queue for a priority until the semaphore is signalled as often.
  private static func block(_ queue: RunQueue, _ priority: RunPriority, _ count: Int) -> DispatchSemaphore {
    let (gate, inside) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
    for _ in 0..<count {
      queue.submit(entry(priority)) { _ in
        inside.signal()
        gate.wait()
      }
    }
    for _ in 0..<count { inside.wait() }
    return gate
  }

  @Test func urgentFirstThenInOrder() {
    let queue = RunQueue(width: 1)
    let gate = Self.block(queue, .high, 1)
    let log = Log()
    for (index, priority) in [RunPriority.background, .normal, .high, .background, .normal, .high].enumerated() {
      queue.submit(Self.entry(priority)) { log.add("\(priority) \(index) \($0)") }
    }
    gate.signal()
    let expected = [
      "high 2 true", "high 5 true", "normal 1 true", "normal 4 true", "background 0 true", "background 3 true",
    ]
    #expect(log.wait(6) == expected)
  }

  @Test func aBoundedNumberIsInProgress() {
    let queue = RunQueue(width: 3)
    let inside = Atomic<Int>(0)
    let most = Atomic<Int>(0)
    let log = Log()
    for _ in 0..<1000 {
      queue.submit(Self.entry()) { _ in
        let now = inside.wrappingAdd(1, ordering: .relaxed).newValue
        most.max(now, ordering: .relaxed)
        usleep(100)
        inside.wrappingSubtract(1, ordering: .relaxed)
        log.add("")
      }
    }
    #expect(queue.threadCount <= 9)
    #expect(log.wait(1000).count == 1000)
    #expect((1...3).contains(most.load(ordering: .relaxed)))
  }

  /// Runs that have a thread and go slowly do not keep more urgent ones from beginning.
  @Test func urgentRunsBeginBesideOthers() {
    let queue = RunQueue(width: 2)
    let background = Self.block(queue, .background, 2)
    let normal = Self.block(queue, .normal, 2)
    let log = Log()
    queue.submit(Self.entry(.normal)) { _ in log.add("normal") }
    queue.submit(Self.entry(.high)) { _ in log.add("high") }
    #expect(log.wait(1) == ["high"])
    for _ in 0..<2 {
      background.signal()
      normal.signal()
    }
    #expect(log.wait(1) == ["high", "normal"])
  }

  @Test func withdrawals() {
    let queue = RunQueue(width: 1)
    let log = Log()
    let early = Self.entry()
    queue.withdraw(early)
    queue.submit(early) { log.add("early \($0)") }
    #expect(log.wait(1) == ["early false"])
    let gate = Self.block(queue, .normal, 1)
    let entries = (0..<1000).map { _ in Self.entry() }
    for (index, entry) in entries.enumerated() { queue.submit(entry) { log.add("\(index) \($0)") } }
    for (index, entry) in entries.enumerated() where index != 500 { queue.withdraw(entry) }
    let withdrawn = log.wait(999).dropFirst()
    #expect(withdrawn.count == 999 && withdrawn.allSatisfy { $0.hasSuffix("false") })
    gate.signal()
    #expect(log.wait(1).last == "500 true")
    // Nothing happens to those that are over.
    for entry in entries + [early] { queue.withdraw(entry) }
    queue.submit(Self.entry()) { log.add("last \($0)") }
    #expect(log.wait(1).last == "last true")
  }

  @Test func deadlinesEndTheWaiting() {
    let queue = RunQueue(width: 1)
    let gate = Self.block(queue, .normal, 1)
    let log = Log()
    let begin = ContinuousClock.now
    for milliseconds in [60, 20, 40, 20] {
      queue.submit(Self.entry(timeout: .milliseconds(milliseconds))) { log.add("\(milliseconds) \($0)") }
    }
    queue.submit(Self.entry(timeout: .seconds(60))) { log.add("patient \($0)") }
    // Of those that are late together any may be the first.
    #expect(log.wait(4).sorted() == ["20 false", "20 false", "40 false", "60 false"])
    #expect(ContinuousClock.now - begin >= .milliseconds(60))
    gate.signal()
    #expect(log.wait(1).last == "patient true")
  }

  /// Submissions and withdrawals of all priorities from many threads: each run is told once.
  @Test func stress() {
    let queue = RunQueue(width: 2)
    let told = (0..<4000).map { _ in Counter() }
    let log = Log()
    DispatchQueue.concurrentPerform(iterations: 8) { thread in
      for index in 0..<500 {
        let entry = Self.entry(RunPriority.allCases[index % 3], timeout: index % 7 == 0 ? .milliseconds(1) : nil)
        queue.submit(entry) { _ in
          told[thread * 500 + index].value.wrappingAdd(1, ordering: .relaxed)
          log.add("")
        }
        if index % 5 == 0 { queue.withdraw(entry) }
      }
    }
    #expect(log.wait(4000).count == 4000)
    #expect(told.allSatisfy { $0.value.load(ordering: .relaxed) == 1 })
  }

  private final class Counter: Sendable {
    let value = Atomic<Int>(0)
  }
}
