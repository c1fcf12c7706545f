// What the tests of passes share: a graph before and after, its operators, and whether the numbers are the same.

import ApusGraph
import ApusOperators
import ApusOptimizer
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Testing

/// A graph after the passes, run beside the graph before.
struct PassCheck {
  let ops: [String]
  let reports: [PassReport]
  /// The largest difference of any output; infinity where types or shapes differ.
  let difference: Float

  init(
    _ graph: Graph, _ inputs: [Tensor], passes: [any GraphPass] = Optimizer.allPasses, disabled: Set<String> = [],
    stopAfter: Int? = nil, registry: OperatorRegistry = .standard
  ) throws {
    let pool = WorkerPool(threads: 1)
    let values = inputs.map { Value.tensor($0) }
    let before = try Program(graph: graph, registry: registry, pool: pool).run(values, on: pool)
    var optimized = graph
    reports = try Optimizer(registry: registry, passes: passes, disabled: disabled, stopAfter: stopAfter).optimize(
      &optimized)
    try GraphVerifier.verify(optimized, registry: registry)
    let after = try Program(graph: optimized, registry: registry, pool: pool).run(values, on: pool)
    ops = optimized.nodes.map(\.op.description)
    difference = zip(before, after).reduce(0) { largest, pair in
      guard let x = pair.0.tensor, let y = pair.1.tensor else { return .infinity }
      return max(largest, x.dataType == .float32 ? largestDifference(x, y) : x.hasSameElements(as: y) ? 0 : .infinity)
    }
  }
}

extension Tensor {
  fileprivate func hasSameElements(as other: Tensor) -> Bool {
    guard dataType == other.dataType, shape == other.shape else { return false }
    return withUnsafeBytes { a in other.withUnsafeBytes { b in a.elementsEqual(b) } }
  }
}
