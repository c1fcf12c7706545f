// A graph prepared for the runs of a compression: calibration, and comparison with what was made of it.

import ApusGraph
import ApusOperators
import ApusOptimizer
import ApusRuntime
import ApusTensor

/// What the runs of a compression may use.
package struct RunSurroundings: Sendable {
  package let pool: WorkerPool
  /// The bytes that one run may hold at a time.
  package var maximumRunMemory = Int.max
  /// The memory and the time of preparing.
  package var allowance = Allowance.unlimited
  package var cancellation: CancellationFlag?

  package init(pool: WorkerPool) { self.pool = pool }
}

/// A graph, optimized and prepared. Any number of threads may run it at once.
package struct GraphRun: Sendable {
  private let program: Program
  private let surroundings: RunSurroundings

  /// - Parameters:
  ///   - graph: typed; it is not changed.
  ///   - registry: the standard one, or one that holds more.
  package init(
    _ graph: Graph, registry: OperatorRegistry = .standard, in surroundings: RunSurroundings
  ) throws(CompressionError) {
    var graph = graph
    self.surroundings = surroundings
    do throws(OperatorError) {
      _ = try Optimizer(registry: registry).optimize(&graph, allowance: surroundings.allowance)
    } catch {
      throw CompressionError(error)
    }
    do throws(PreparationError) {
      program = try Program(
        graph: graph, registry: registry, pool: surroundings.pool,
        packedWeights: PackedWeights(allowance: surroundings.allowance, releasesSources: true))
    } catch {
      throw CompressionError(error.errors[0])
    }
  }

  /// The outputs of the graph for `inputs`, both in its order.
  package func outputs(for inputs: [Value]) throws(CompressionError) -> [Value] {
    let settings = RunSettings(
      cancellation: surroundings.cancellation, maximumBytes: surroundings.maximumRunMemory)
    do throws(OperatorError) {
      return try program.run(inputs, on: surroundings.pool, settings: settings)
    } catch {
      throw CompressionError(error)
    }
  }
}
