// Runs that wait without a thread, and the threads that take them.

import ApusGraph
import CApusProcess
import Dispatch
import Synchronization

/// Runs in the order of their priority and, within one, of their submission. A bounded number is in progress at a time;
/// those that wait hold no thread.
///
/// For each priority the threads suffice for as many runs as the engine has threads, so that those that stand still
/// for more urgent ones do not keep these from beginning. Threads are started when they are needed, and end when there
/// was nothing to do for a while.
///
/// `@unchecked Sendable`: all that changes is touched under the lock of `monitor` only, but for the atomics.
package final class RunQueue: @unchecked Sendable {
  /// One run on its way through the queue.
  ///
  /// `@unchecked Sendable`: `work` and `state` are touched under the lock of the queue only.
  package final class Entry: @unchecked Sendable {
    fileprivate enum State { case new, waiting, over }

    fileprivate let priority: RunPriority
    /// Its deadline ends the waiting too.
    fileprivate let cancellation: CancellationFlag
    fileprivate var work: Work?
    fileprivate var state = State.new

    package init(_ priority: RunPriority, cancellation: CancellationFlag) {
      (self.priority, self.cancellation) = (priority, cancellation)
    }
  }

  /// Called once: with true on a thread of the queue when it is the run's turn, with false on any thread when it was
  /// withdrawn or its time was over before that.
  package typealias Work = @Sendable (_ isItsTurn: Bool) -> Void

  /// How long a thread without work stays.
  private static let patience: UInt64 = 5_000_000_000

  /// Runs of one priority and above that are in progress at a time.
  private let width: Int
  private let monitor = Monitor()
  /// By priority, the lowest first.
  private var lines = RunPriority.allCases.map { _ in Line() }
  /// Threads that exist; those of them that sleep and were not called yet; calls that no sleeper has taken yet.
  private var threads = 0
  private var sleepers = 0
  private var calls = 0
  /// When waiting runs are looked at next for those whose time is over; `.max` for never.
  private var nextLook = UInt64.max
  private let generation = Atomic<UInt32>(apus_fork_generation())
  /// Runs in progress. Written under the lock.
  private let background = Atomic<Int>(0)
  private let normal = Atomic<Int>(0)
  private let high = Atomic<Int>(0)

  /// - Parameter width: the threads of the engine.
  package init(width: Int) { self.width = max(width, 1) }

  deinit { monitor.destroy() }

  /// The threads that the queue has at the moment.
  package var threadCount: Int {
    monitor.lock()
    defer { monitor.unlock() }
    return threads
  }

  /// The most threads that may help a run in progress, so that all of this priority and above share the threads of the
  /// engine.
  func helpers(_ priority: RunPriority) -> Int { (width - 1) / max(runsInProgress(from: priority), 1) }

  private func runsInProgress(from priority: RunPriority) -> Int {
    var count = high.load(ordering: .relaxed)
    if priority <= .normal { count += normal.load(ordering: .relaxed) }
    if priority == .background { count += background.load(ordering: .relaxed) }
    return count
  }

  private func count(_ change: Int, _ priority: RunPriority) {
    switch priority {
    case .background: background.add(change, ordering: .relaxed)
    case .normal: normal.add(change, ordering: .relaxed)
    case .high: high.add(change, ordering: .relaxed)
    }
  }

  // MARK: The side of the runs

  /// Puts a run in line, once. `work` is called in any case.
  package func submit(_ entry: Entry, _ work: @escaping Work) {
    if generation.load(ordering: .acquiring) != apus_fork_generation() { restart() }
    monitor.lock()
    guard entry.state == .new else {
      monitor.unlock()
      return work(false)
    }
    (entry.state, entry.work) = (.waiting, work)
    lines[entry.line].entries.append(entry)
    look(before: entry.cancellation.deadline)
    // Where as many are in progress as may be, the one that ends first takes the next.
    let isLost = runsInProgress(from: entry.priority) < width && !call()
    monitor.unlock()
    // The system has no thread for it.
    if isLost { finish(entry, isItsTurn: true) }
  }

  /// Takes a run out of the line, whose work is called with false; before `submit` too. Nothing if it has begun.
  package func withdraw(_ entry: Entry) { finish(entry, isItsTurn: false) }

  private func finish(_ entry: Entry, isItsTurn: Bool) {
    monitor.lock()
    let (work, wasWaiting) = (entry.work, entry.isWaiting)
    (entry.state, entry.work) = (.over, nil)
    if wasWaiting { lines[entry.line].addGap() }
    monitor.unlock()
    work?(isItsTurn)
  }

  /// Forgets the threads and the runs of the process that this one was forked from: they are its business, and stay as
  /// they were.
  private func restart() {
    _ = Unmanaged.passRetained(Leftovers(lines))
    lines = RunPriority.allCases.map { _ in Line() }
    (threads, sleepers, calls, nextLook) = (0, 0, 0, .max)
    background.store(0, ordering: .relaxed)
    normal.store(0, ordering: .relaxed)
    high.store(0, ordering: .relaxed)
    monitor.reset()
    generation.store(apus_fork_generation(), ordering: .releasing)
  }

  private final class Leftovers {
    let lines: [Line]
    init(_ lines: [Line]) { self.lines = lines }
  }

  // MARK: Deadlines

  /// Sees to it that somebody looks for runs whose time is over at `deadline`. The lock must be held.
  private func look(before deadline: UInt64) {
    guard deadline < nextLook else { return }
    nextLook = deadline
    let wait = deadline - min(deadline, MonotonicClock.nanoseconds())
    DispatchQueue.global().asyncAfter(deadline: .now() + .nanoseconds(Int(clamping: wait))) { [weak self] in
      self?.endOverdue()
    }
  }

  private func endOverdue() {
    monitor.lock()
    var overdue: [Entry] = []
    var next = UInt64.max
    for entry in lines.lazy.flatMap(\.entries) where entry.state == .waiting {
      if entry.cancellation.isCancelled { overdue.append(entry) } else { next = min(next, entry.cancellation.deadline) }
    }
    nextLook = .max
    look(before: next)
    monitor.unlock()
    for entry in overdue { withdraw(entry) }
  }

  // MARK: The side of the threads

  /// Calls a thread that sleeps or starts one. False: there is none at all. The lock must be held.
  private func call() -> Bool {
    if sleepers > 0 {
      sleepers -= 1
      calls += 1
      monitor.signal()
    } else if threads < width * RunPriority.allCases.count, WorkerThread.start(apart: { [self] in serve() }) {
      threads += 1
    }
    return threads > 0
  }

  private func serve() {
    monitor.lock()
    while true {
      if let entry = next() {
        let work = entry.work
        (entry.state, entry.work) = (.over, nil)
        count(1, entry.priority)
        monitor.unlock()
        work?(true)
        monitor.lock()
        count(-1, entry.priority)
      } else if !sleep() {
        break
      }
    }
    threads -= 1
    monitor.unlock()
  }

  /// The most urgent run that may begin.
  private func next() -> Entry? {
    for priority in RunPriority.allCases.reversed() where runsInProgress(from: priority) < width {
      if let entry = lines[priority.line].next() { return entry }
    }
    return nil
  }

  /// Sleeps until it is called. False: nobody has for a long time.
  private func sleep() -> Bool {
    sleepers += 1
    let end = MonotonicClock.nanoseconds() + Self.patience
    while calls == 0 {
      let now = MonotonicClock.nanoseconds()
      if now >= end {
        sleepers -= 1
        return false
      }
      monitor.wait(atMost: end - now)
    }
    calls -= 1
    return true
  }
}

/// Runs of one priority that wait, with gaps where one was withdrawn.
private struct Line {
  var entries: [RunQueue.Entry] = []
  private var first = 0
  private var gaps = 0

  /// Fewer entries that are over are not worth to be removed.
  private static let rest = 64

  init() {}

  mutating func next() -> RunQueue.Entry? {
    while first < entries.count {
      let entry = entries[first]
      first += 1
      if entry.isWaiting {
        if first > Self.rest && first > entries.count / 2 { tidy() }
        return entry
      }
      gaps -= 1
    }
    tidy()
    return nil
  }

  /// One of the entries that wait is over now.
  mutating func addGap() {
    gaps += 1
    if gaps > Self.rest && gaps > (entries.count - first) / 2 { tidy() }
  }

  private mutating func tidy() {
    entries.removeFirst(first)
    first = 0
    if gaps > 0 { entries.removeAll { !$0.isWaiting } }
    gaps = 0
  }
}

extension RunPriority {
  /// Its place among all, the lowest first.
  fileprivate var line: Int { rawValue - RunPriority.background.rawValue }
}

extension RunQueue.Entry {
  fileprivate var line: Int { priority.line }
  fileprivate var isWaiting: Bool { state == .waiting }
}
