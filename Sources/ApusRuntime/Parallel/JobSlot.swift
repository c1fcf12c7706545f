// One run in progress, where helping workers find it: what to compute, which parts are left, and who is inside.

import ApusGraph
import Synchronization

/// Computes part `part` of the work that `context` describes. Runs on any thread, several parts at once.
package typealias PartFunction = @convention(c) (_ context: UnsafeRawPointer, _ part: Int) -> Void

/// What one run computes. Plain bits: the thread that called `run` keeps alive what they point to.
struct Job {
  var function: PartFunction
  var context: UnsafeRawPointer
  var parts: Int
  /// Unretained: the caller of `run` holds it until the run ends.
  var cancellation: Unmanaged<CancellationFlag>?
  /// Likewise: the run that this is a part of, if others can be more urgent.
  var turn: Unmanaged<RunTurn>?

  var isCancelled: Bool { cancellation?._withUnsafeGuaranteedRef { $0.isCancelled } ?? false }

  var priority: RunPriority { turn?._withUnsafeGuaranteedRef { $0.priority } ?? .normal }

  /// Lets more urgent runs go first. Only for the thread of the caller.
  @inline(__always) func giveWay() {
    turn?._withUnsafeGuaranteedRef { turn in
      if turn.isOutranked { turn.giveWay(cancellation?.takeUnretainedValue()) }
    }
  }

  /// Computes every part on this thread. False: cancelled before the last part had begun.
  func runSerially() -> Bool {
    var part = 0
    while part < parts {
      giveWay()
      if isCancelled { return false }
      function(context, part)
      part += 1
    }
    return true
  }
}

/// A slot for one shared run. It lives as long as the pool; the memory of a job only as long as its `run`. A worker
/// touches a job only between `enter` and `leave`, and the caller returns only when no worker is inside.
///
/// `control` holds the number of helpers inside, the tickets (helpers that may still enter), and whether the caller
/// sleeps until the last helper has left.
struct JobSlot: ~Copyable {
  private static let insideMask: UInt64 = 0xFFFF
  private static let oneTicket: UInt64 = 1 << 16
  private static let ticketMask: UInt64 = 0xFFFF << 16
  private static let callerSleeps: UInt64 = 1 << 63

  /// Helpers that can be admitted at once.
  static let maximumHelpers = 0xFFFF

  private let control = Atomic<UInt64>(0)
  /// Written by the caller while nobody can enter, and so read by nobody.
  private let job = UnsafeMutablePointer<Job>.allocate(capacity: 1)
  private let departure = Monitor()
  private let padding = CacheLinePadding()
  private var lanes = PartLanes()

  deinit {
    departure.destroy()
    job.deallocate()
  }

  /// Empties the slot: after a fork, in the child, where whoever had it does not exist.
  func reset() {
    control.store(0, ordering: .relaxed)
    departure.reset()
  }

  // MARK: The caller's side

  /// Admits up to `helpers` workers to `job`. The slot must be closed and empty.
  mutating func open(_ job: Job, helpers: Int) {
    self.job.initialize(to: job)
    lanes.fill(parts: job.parts, threads: helpers + 1)
    control.store(UInt64(helpers) * Self.oneTicket, ordering: .releasing)
  }

  /// Admits nobody any more. Whoever finds no part left may call it, being inside or the caller.
  func close() { control.bitwiseAnd(~Self.ticketMask, ordering: .acquiringAndReleasing) }

  /// Whether a worker could still enter.
  var admits: Bool { control.load(ordering: .relaxed) & Self.ticketMask != 0 }

  /// Waits until no helper is inside: awake for at most `spin` nanoseconds, then asleep. The slot must be closed.
  func waitUntilEmpty(spin: UInt64) {
    if isEmpty { return }
    if SpinWait.wait(atMost: spin, until: { isEmpty }) { return }
    departure.lock()
    control.bitwiseOr(Self.callerSleeps, ordering: .acquiringAndReleasing)
    while !isEmpty { departure.wait() }
    departure.unlock()
  }

  private var isEmpty: Bool { control.load(ordering: .acquiring) & Self.insideMask == 0 }

  /// Makes the empty slot ready for the next job. True: every part was computed.
  func finish() -> Bool {
    control.store(0, ordering: .relaxed)
    return lanes.areEmpty
  }

  // MARK: The helper's side

  /// Takes a ticket. Returns how many are left, or nil if there was none.
  func enter() -> Int? {
    var seen = control.load(ordering: .relaxed)
    while seen & Self.ticketMask != 0 {
      let (exchanged, original) = control.weakCompareExchange(
        expected: seen, desired: seen - Self.oneTicket + 1,
        successOrdering: .acquiring, failureOrdering: .relaxed)
      if exchanged { return Int(((seen & Self.ticketMask) >> 16) - 1) }
      seen = original
    }
    return nil
  }

  /// Ends a helper's stay; it must not touch the job any more. The slot itself outlives it.
  func leave() {
    let before = control.wrappingSubtract(1, ordering: .acquiringAndReleasing).oldValue
    guard before == Self.callerSleeps | 1 else { return }
    departure.lock()
    departure.signal()
    departure.unlock()
  }

  // MARK: Both

  /// Whether parts are left that nobody has claimed. Only for the caller and helpers inside.
  var hasUnclaimedParts: Bool { !lanes.areEmpty }

  /// Claims and computes parts until none is left or the run is cancelled. Only for the caller.
  func work() {
    let job = self.job.pointee
    var lane = 0
    while true {
      job.giveWay()
      if job.isCancelled { return }
      guard let part = lanes.claim(from: &lane) else { return }
      job.function(job.context, part)
    }
  }

  /// The same for the helper of that number, inside. False: it ended because the helper is wanted elsewhere.
  func help(as helper: Int, unless isWantedElsewhere: (RunPriority) -> Bool) -> Bool {
    let job = self.job.pointee
    let priority = job.priority
    var lane = lanes.lane(of: helper)
    while !job.isCancelled {
      if isWantedElsewhere(priority) { return false }
      guard let part = lanes.claim(from: &lane) else { break }
      job.function(job.context, part)
    }
    return true
  }
}

/// Keeps what stands before it and what follows it on different cache lines (pairs of lines are fetched together).
struct CacheLinePadding {
  private let bytes = InlineArray<15, UInt64>(repeating: 0)
}

/// Waiting awake, for a bounded time.
enum SpinWait {
  /// Asks `condition` again and again for at most `nanoseconds`. Returns its last answer.
  @inline(__always)
  static func wait(atMost nanoseconds: UInt64, until condition: () -> Bool) -> Bool {
    if nanoseconds == 0 { return condition() }
    let end = MonotonicClock.nanoseconds() + nanoseconds
    repeat {
      for _ in 0..<32 {
        if condition() { return true }
        // Drains the pipeline: leaves the core to its other hardware thread, as a pause instruction would.
        atomicMemoryFence(ordering: .sequentiallyConsistent)
      }
    } while MonotonicClock.nanoseconds() < end
    return condition()
  }
}
