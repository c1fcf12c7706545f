// The threads of the engine: parts of a job are handed to whoever is free, the caller included.

import ApusGraph
import CApusProcess
import Glibc
import Synchronization

/// A fixed set of threads that compute the parts of a job together with the thread that asks.
///
/// Any number of threads may run jobs on one pool at once, and a part may run a job on its own pool: whoever is idle
/// helps, and a caller that finds no help computes its parts alone. Each thread begins at another place of the parts
/// and takes from the others what they have left (`PartLanes`): a result must depend on the part's number alone. Idle
/// workers stay awake for a bounded time and then sleep. Once the threads are up, a run from a function pointer
/// allocates nothing. In a process that was forked the pool starts its threads anew at the first run that wants them.
package final class WorkerPool: Sendable {
  /// How long an idle worker stays awake unless `APUS_SPIN_US` (microseconds) says otherwise.
  package static let defaultSpinMicroseconds = 30
  /// More threads are not started, whatever was asked for.
  package static let maximumThreads = 1024

  /// The threads that can compute at once for one caller, which is one of them.
  package let threadCount: Int
  /// The pool whose threads these are; nil: its own.
  private let owner: WorkerPool?
  private let core: PoolCore
  private let workers: Mutex<[pthread_t]>
  /// The process that the workers live in, as `apus_fork_generation` counts them.
  private let generation = Atomic<UInt32>(apus_fork_generation())

  /// - Parameters:
  ///   - threads: all threads, the caller included; clamped to 1...`maximumThreads`; nil for one a processor. Where the
  ///     system refuses a thread, the pool has fewer: see `threadCount`.
  ///   - spinMicroseconds: how long an idle worker stays awake; nil for the default. With more threads than processors
  ///     nobody stays awake, unless it is asked for here.
  package init(threads: Int? = nil, spinMicroseconds: Int? = nil) {
    // Asked once, if at all: the answer is spread over several files of the system.
    let asks = threads.map { $0 > 1 && spinMicroseconds == nil } ?? true
    let processors = asks ? Topology.availableProcessorCount() : 1
    let wanted = min(max(threads ?? processors, 1), Self.maximumThreads) - 1
    let spin = wanted == 0 ? 0 : spinMicroseconds ?? Self.usualSpin(threads: wanted + 1, processors: processors)
    core = PoolCore(workerCount: wanted, spinNanoseconds: UInt64(min(max(spin, 0), 1_000_000)) * 1000)
    let started = WorkerThread.start(wanted, on: core)
    core.workersMissing(wanted - started.count)
    threadCount = started.count + 1
    workers = Mutex(started)
    owner = nil
  }

  /// A share of another pool: at most `threads` of its threads, the caller's included, compute at once for one caller.
  package init(sharing pool: WorkerPool, threads: Int) {
    owner = pool.owner ?? pool
    core = pool.core
    threadCount = min(max(threads, 1), (pool.owner ?? pool).threadCount)
    workers = Mutex([])
  }

  deinit { shutdown() }

  /// Ends the worker threads and waits for them; runs in progress go on without them, and so do later ones. May be
  /// called twice. Not from a part.
  package func shutdown() {
    let threads = workers.withLock { list in
      defer { list = [] }
      return list
    }
    // Workers of the process that this one was forked from do not exist here.
    if threads.isEmpty || isInherited { return }
    core.stop()
    for thread in threads { pthread_join(thread, nil) }
  }

  /// Processor time that the worker threads have used so far, without the callers' share; 0 after `shutdown`. Of a
  /// share that of the whole pool.
  package var workerNanoseconds: UInt64 {
    if let owner { return owner.workerNanoseconds }
    return workers.withLock { threads in
      if isInherited { return 0 }
      return threads.reduce(0) { sum, thread in
        var clock = clockid_t()
        var time = timespec()
        guard pthread_getcpuclockid(thread, &clock) == 0, clock_gettime(clock, &time) == 0 else { return sum }
        return sum + UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
      }
    }
  }

  // MARK: Running

  /// Calls `function(context, part)` once for each part in `0..<parts`, on the caller's thread and on idle workers, and
  /// returns when all have ended. What the parts wrote is visible to the caller. One part, or one thread: a plain loop.
  ///
  /// - Parameters:
  ///   - cancellation: asked before each part; once it is set no further part begins.
  ///   - turn: the run that this is a part of; more urgent ones go first between two parts.
  ///   - context: must stay valid, and fit for use by several threads, until the call returns.
  /// - Returns: true if every part was computed; false if the run was cancelled before the last part had begun.
  @discardableResult
  package func run(
    parts: Int, cancellation: CancellationFlag? = nil, turn: RunTurn? = nil, context: UnsafeRawPointer,
    _ function: PartFunction
  ) -> Bool {
    let flag = cancellation.map { Unmanaged.passUnretained($0) }
    let job = Job(
      function: function, context: context, parts: parts, cancellation: flag,
      turn: turn.map { Unmanaged.passUnretained($0) })
    let complete: Bool
    let helpers = parts <= 1 || threadCount == 1 ? 0 : min(threadCount - 1, turn?.helpers ?? .max)
    if helpers == 0 {
      complete = job.runSerially()
    } else {
      (owner ?? self).reviveAfterFork()
      complete = core.run(job, helpers: helpers)
    }
    // The job holds both unretained.
    withExtendedLifetime((cancellation, turn)) {}
    return complete
  }

  /// The same with a closure, which several threads may call at once. Where the work is shared, the closure costs a
  /// small allocation; the hot path passes a function pointer.
  @discardableResult
  package func run(
    parts: Int, cancellation: CancellationFlag? = nil, turn: RunTurn? = nil, _ body: (_ part: Int) -> Void
  ) -> Bool {
    if parts <= 1 || threadCount == 1 {
      for part in 0..<max(parts, 0) {
        if let turn, turn.isOutranked { turn.giveWay(cancellation) }
        if cancellation?.isCancelled == true { return false }
        body(part)
      }
      return true
    }
    return withoutActuallyEscaping(body) { escaping in
      withUnsafePointer(to: ClosureContext(body: escaping)) { context in
        run(parts: parts, cancellation: cancellation, turn: turn, context: context) { context, part in
          context.assumingMemoryBound(to: ClosureContext.self).pointee.body(part)
        }
      }
    }
  }

  /// Whether this process was forked from the one that the workers live in.
  private var isInherited: Bool { generation.load(ordering: .acquiring) != apus_fork_generation() }

  private func reviveAfterFork() { if isInherited { restart() } }

  /// Starts workers in place of those that a fork has left behind. Whoever comes first does, and the others wait.
  @inline(never)
  private func restart() {
    workers.withLock { list in
      if !isInherited { return }
      core.reset()
      let count = list.count
      list = WorkerThread.start(count, on: core)
      core.workersMissing(core.workerCount - list.count)
      generation.store(apus_fork_generation(), ordering: .releasing)
    }
  }

  private struct ClosureContext {
    let body: (Int) -> Void
  }

  private static func usualSpin(threads: Int, processors: Int) -> Int {
    threads > processors ? 0 : environmentText.flatMap(microseconds) ?? defaultSpinMicroseconds
  }

  /// What is wrong with the environment variable `APUS_SPIN_US`, which then counts for nothing; nil: nothing.
  package static var environmentFault: String? {
    guard let text = environmentText, microseconds(text) == nil else { return nil }
    return "APUS_SPIN_US is '\(text)'; expected the microseconds that idle threads stay awake, 0 or more"
  }

  /// The value of `APUS_SPIN_US`; nil: it is empty or not set.
  private static var environmentText: String? {
    guard let text = getenv("APUS_SPIN_US").map({ String(cString: $0) }), !text.isEmpty else { return nil }
    return text
  }

  private static func microseconds(_ text: String) -> Int? { Int(text).flatMap { $0 >= 0 ? $0 : nil } }
}
