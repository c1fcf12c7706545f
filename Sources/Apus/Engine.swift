// What the models of a process share.

import ApusGraph
import ApusRuntime
import ApusTensor
import Synchronization

/// Threads, weights and a limit on memory that models share.
///
/// Any number of models may run on one engine at once: whichever of its threads is idle helps whoever computes, so the
/// threads are no more than one model would have. Weights that are the same in several models, as in two on one file or
/// in versions with equal layers, are in memory once; they go with the last model that uses them.
///
/// With a memory budget, all that the models and their runs hold at a time stays within it: weights, working memory,
/// and the values of runs, results included until they are freed. What does not fit, a load or a run, ends in an error
/// that tells who has how much; before that, working memory that no run uses is given back. Inputs belong to the caller
/// and do not count, nor do files that are mapped.
///
/// More urgent runs go first (`RunPriority`). Asynchronous runs wait in line without a thread, and as many are in
/// progress at a time as the engine has threads.
///
/// Models whose options name no engine share one that the process has for them: with a thread for each processor that
/// the process may use, of which a model takes as many as its options say; models that want more threads than that
/// share another one, and the same weights. It lives as long as one of them does.
public final class Engine: Sendable {
  package let pool: WorkerPool
  let weights: WeightStore
  package let gate: RunGate
  /// Its own line of runs; nil for that of the process.
  private let ownQueue: RunQueue?
  private let budget: MemoryBudget?

  package var queue: RunQueue { ownQueue ?? Engine.queueOfProcess }

  /// The threads that can compute at once for one run, the caller's included.
  public var threads: Int { pool.threadCount }

  /// An engine of its own.
  ///
  /// - Parameters:
  ///   - threads: all threads, the caller of a run included; nil: one for each processor that this process may use.
  ///   - memoryBudget: the bytes that all models and runs on the engine may hold at a time; nil: no limit beside those
  ///     of each (``ModelOptions/limits``).
  public convenience init(threads: Int? = nil, memoryBudget: Int? = nil) {
    self.init(threads: threads, memoryBudget: memoryBudget, named: "memoryBudget")
  }

  /// The same where users know the budget as an option of another name, which errors then tell.
  package init(threads: Int?, memoryBudget: Int?, named name: String) {
    pool = WorkerPool(threads: threads)
    (weights, gate, ownQueue) = (WeightStore(), RunGate(), RunQueue(width: pool.threadCount))
    budget = memoryBudget.map { MemoryBudget(limit: $0, name: name) }
  }

  /// One of those of the process.
  private init(common threads: Int) {
    pool = WorkerPool(threads: threads)
    (weights, gate, ownQueue) = (Engine.weightsOfProcess, Engine.gateOfProcess, nil)
    budget = nil
  }

  /// The limit on what all models and runs on the engine hold at a time, in bytes; nil: there is none.
  public var memoryBudget: Int? { budget?.limit }

  /// The bytes that models and runs on the engine hold at the moment, results that were not freed yet included. Counted
  /// only with a memory budget; else 0.
  public var memoryBytes: Int { budget?.inUse ?? 0 }

  /// The account of a model that is about to be loaded; nil without a budget.
  func account(named name: String) -> MemoryAccount? { budget?.open(named: name) }

  /// Tells that a model of an account is loaded.
  func add(_ program: Program, of account: MemoryAccount?) {
    if let account { budget?.add(program, of: account) }
  }

  /// The bytes of the weights that the models on this engine have in memory, each block once. Blocks of less than 4 KiB
  /// and mapped files do not count.
  public var weightBytes: Int { weights.byteCount }

  /// The threads of this engine that a model may use; nil: all.
  func share(threads: Int?) -> WorkerPool {
    guard let threads, threads < pool.threadCount else { return pool }
    return WorkerPool(sharing: pool, threads: threads)
  }

  // MARK: - Engines of the process

  private struct Reference: Sendable {
    weak let engine: Engine?
  }

  private static let ofProcess = Mutex<[Int: Reference]>([:])
  private static let weightsOfProcess = WeightStore()
  private static let gateOfProcess = RunGate()
  private static let queueOfProcess = RunQueue(width: Topology.processors)

  /// The engine of models that name none.
  static func common(threads: Int?) -> Engine {
    // Without workers there are no threads to share.
    if threads == 1 { return Engine(common: 1) }
    let count = max(threads ?? Topology.processors, Topology.processors)
    return ofProcess.withLock { known in
      if let engine = known[count]?.engine { return engine }
      let engine = Engine(common: count)
      known = known.filter { $0.value.engine != nil }
      known[count] = Reference(engine: engine)
      return engine
    }
  }
}
