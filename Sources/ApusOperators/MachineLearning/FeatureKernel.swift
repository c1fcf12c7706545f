// Element-wise work on features: each element with the position of its column.

import ApusGraph
import ApusTensor

/// Runs over all elements in blocks held as float64.
enum FeatureKernel {
  /// The extent of the last axis; 1 for a scalar.
  static func columns(_ shape: Shape) -> Int { shape.last ?? 1 }

  /// Throws if a list has neither one element nor one for each column.
  static func check(_ count: Int, columns: Int, _ name: String) throws(OperatorError) {
    guard count == 1 || count == columns else {
      throw .mismatch("\(name) has \(count) elements; expected 1 or \(columns), as there are features")
    }
  }

  /// `body` gets a block of values and the column of the first of them.
  static func prepare(
    _ context: PrepareContext,
    check: @escaping @Sendable (_ columns: Int) throws(OperatorError) -> Void = { _ in },
    body: @escaping @Sendable (UnsafeMutablePointer<Double>, _ count: Int, _ column: Int, _ columns: Int) -> Void
  ) throws(OperatorError) -> PreparedKernel {
    let (input, output) = (try context.type(0), context.outputType(0) ?? .float32)
    guard let load = Lane.float64.load(input), let store = Lane.float64.store(output) else {
      throw context.unsupportedType(input)
    }
    return .planned { (plan) throws(OperatorError) in
      let columns = columns(plan.shape(0))
      try check(columns)
      let partition = Partition(plan.shape(0).elementCount, of: .medium)
      return .parallel(parts: partition.parts) { run, part in
        withUnsafeTemporaryAllocation(of: Double.self, capacity: Lane.blockLength) { block in
          guard let values = block.baseAddress else { return }
          let range = partition.range(part)
          var start = range.lowerBound
          while start < range.upperBound {
            let count = min(Lane.blockLength, range.upperBound &- start)
            load(run.inputBytes(0), start, values, count)
            body(values, count, start % columns, columns)
            store(values, run.outputBytes(0), start, count)
            start &+= count
          }
        }
      }
    }
  }
}
