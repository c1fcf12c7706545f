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
  /// All that preparing, runs and statistics hold at a time is charged here; nil: nobody counts.
  package var memory: MemoryAccount?
  package var cancellation: CancellationFlag?

  package init(pool: WorkerPool) { self.pool = pool }

  var allowance: Allowance { .loading(memory: memory, cancellation: cancellation) }

  /// Charges the memory of arrays as long as the result lives. `what` they hold is for the message.
  func reserve(_ bytes: Int, for what: String) throws(CompressionError) -> MemoryReservation {
    do throws(TensorError) {
      return try MemoryReservation(bytes, of: memory)
    } catch {
      throw CompressionError(.limitExceeded, "\(what): \(error.message)", remedy: error.remedy)
    }
  }
}

/// Bytes that are charged to an account as long as this lives.
final class MemoryReservation: Sendable {
  private let bytes: Int
  private let account: MemoryAccount?

  fileprivate init(_ bytes: Int, of account: MemoryAccount?) throws(TensorError) {
    try account?.charge(bytes)
    (self.bytes, self.account) = (bytes, account)
  }

  deinit { account?.credit(bytes) }
}

/// A graph, optimized and prepared. Any number of threads may run it at once.
package struct GraphRun: Sendable {
  private let program: Program
  private let surroundings: RunSurroundings
  private let inputs: [(name: String, fact: ValueFact)]

  /// - Parameters:
  ///   - graph: typed; it is not changed.
  ///   - registry: the standard one, or one that holds more.
  package init(
    _ graph: Graph, registry: OperatorRegistry = .standard, in surroundings: RunSurroundings
  ) throws(CompressionError) {
    var graph = graph
    self.surroundings = surroundings
    inputs = graph.inputs.map { (graph[$0].name, graph.fact($0)) }
    do throws(OperatorError) {
      _ = try Optimizer(registry: registry).optimize(&graph, allowance: surroundings.allowance)
    } catch {
      throw CompressionError(error)
    }
    do throws(PreparationError) {
      program = try Program(
        graph: graph, registry: registry, pool: surroundings.pool,
        packedWeights: PackedWeights(allowance: surroundings.allowance, releasesSources: true),
        account: surroundings.memory)
    } catch {
      throw CompressionError(error.errors[0])
    }
  }

  /// The outputs of the graph for a sample: a tensor for each of its inputs by name. `number` counts samples from 1.
  package func outputs(for sample: [String: Tensor], number: Int) throws(CompressionError) -> [Value] {
    try outputs(for: try inputs(of: sample, number: number))
  }

  /// The inputs of the graph in its order, for a sample, which must fit them.
  package func inputs(of sample: [String: Tensor], number: Int) throws(CompressionError) -> [Value] {
    var ordered: [Value] = []
    for (name, fact) in inputs {
      guard let tensor = sample[name] else {
        throw CompressionError(.invalidSample, "sample \(number) has no value for the input '\(name)'")
      }
      guard fact.takes(tensor) else {
        throw CompressionError(
          .invalidSample,
          "the input '\(name)' of sample \(number) is \(tensor.dataType)\(tensor.shape); expected \(fact)")
      }
      ordered.append(.tensor(tensor))
    }
    return ordered
  }

  /// The outputs of the graph for `inputs`, both in its order.
  package func outputs(for inputs: [Value]) throws(CompressionError) -> [Value] {
    let settings = RunSettings(
      cancellation: surroundings.cancellation, maximumBytes: surroundings.maximumRunMemory,
      account: surroundings.memory)
    do throws(OperatorError) {
      return try program.run(inputs, on: surroundings.pool, settings: settings)
    } catch {
      throw CompressionError(error)
    }
  }
}

extension ValueFact {
  /// Whether a tensor may be a value of which this is known.
  fileprivate func takes(_ value: Tensor) -> Bool {
    guard let wanted = tensor else { return false }
    if value.dataType != wanted.dataType { return false }
    guard let dims = wanted.shape else { return true }
    return dims.count == value.rank && !zip(dims, value.shape).contains { Dim($1).isSurelyDifferent(from: $0) }
  }
}
