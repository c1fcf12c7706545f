// What the models of a process share.

import ApusGraph
import ApusRuntime
import Synchronization

/// Threads and weights that models share.
///
/// Any number of models may run on one engine at once: whichever of its threads is idle helps whoever computes, so the
/// threads are no more than one model would have. Weights that are the same in several models, as in two on one file or
/// in versions with equal layers, are in memory once; they go with the last model that uses them.
///
/// Models whose options name no engine share one that the process has for them: with a thread for each processor that
/// the process may use, of which a model takes as many as its options say; models that want more threads than that
/// share another one, and the same weights. It lives as long as one of them does.
public final class Engine: Sendable {
  package let pool: WorkerPool
  let weights: WeightStore

  /// The threads that can compute at once for one run, the caller's included.
  public var threads: Int { pool.threadCount }

  /// An engine of its own.
  ///
  /// - Parameter threads: all threads, the caller of a run included; nil: one for each processor that this process may
  ///   use.
  public convenience init(threads: Int? = nil) { self.init(threads: threads, weights: WeightStore()) }

  private init(threads: Int?, weights: WeightStore) {
    (pool, self.weights) = (WorkerPool(threads: threads), weights)
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

  /// The engine of models that name none.
  static func common(threads: Int?) -> Engine {
    // Without workers there are no threads to share.
    if threads == 1 { return Engine(threads: 1, weights: weightsOfProcess) }
    let processors = Topology.availableProcessorCount()
    let count = max(threads ?? processors, processors)
    return ofProcess.withLock { known in
      if let engine = known[count]?.engine { return engine }
      let engine = Engine(threads: count, weights: weightsOfProcess)
      known = known.filter { $0.value.engine != nil }
      known[count] = Reference(engine: engine)
      return engine
    }
  }
}
