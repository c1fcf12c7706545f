// How near the numbers of a model come to the true ones.

import ApusFormats
import ApusTensor

/// Sums of the errors of each number that a model gives.
public struct RegressionAccuracy: Sendable {
  public private(set) var samples = 0
  private var columns: [Column] = []
  /// Numbers that are NaN or infinite.
  private var strange = 0

  /// The sums of one number; mean and squares of the truth by B. P. Welford, Technometrics 4 (1962).
  private struct Column: Sendable {
    var (absolute, squares, mean, spread) = (0.0, 0.0, 0.0, 0.0)

    mutating func add(_ prediction: Double, _ truth: Double, count: Double) {
      let error = prediction - truth
      absolute += abs(error)
      squares += error * error
      let before = truth - mean
      mean += before / count
      spread += before * (truth - mean)
    }
  }

  public init() {}

  /// Adds a sample: as many numbers as every other sample has.
  public mutating func add(output: Tensor, truth: Tensor) throws(CompressionError) {
    guard output.count == truth.count, output.dataType != .string, truth.dataType != .string else {
      throw CompressionError(
        .invalidSample,
        "the output is \(output.dataType)\(output.shape), the truth \(truth.dataType)\(truth.shape); expected as many "
          + "numbers")
    }
    try add(output: output.doubles, truth: truth.doubles)
  }

  public mutating func add(output: [Double], truth: [Double]) throws(CompressionError) {
    guard output.count == truth.count, !output.isEmpty, samples == 0 || output.count == columns.count else {
      throw CompressionError(
        .invalidSample,
        "\(output.count) numbers for \(truth.count) true ones"
          + (samples == 0 ? "" : "; earlier samples have \(columns.count)"))
    }
    if columns.isEmpty { columns = [Column](repeating: Column(), count: output.count) }
    samples += 1
    for index in columns.indices {
      strange += output[index].isFinite && truth[index].isFinite ? 0 : 1
      columns[index].add(output[index], truth[index], count: Double(samples))
    }
  }

  /// Means over the numbers of a sample, each by itself: mean absolute error, root of the mean squared error,
  /// coefficient of determination.
  public var report: AccuracyReport {
    let count = Double(columns.count)
    func mean(_ name: String, _ figure: (Column) -> Double) -> AccuracyMetric {
      if samples == 0 { return AccuracyMetric(name, undefined: "there are no samples") }
      if strange > 0 { return AccuracyMetric(name, undefined: "\(strange) numbers are NaN or infinite") }
      return AccuracyMetric(name, columns.reduce(0) { $0 + figure($1) } / count)
    }
    let constant = columns.firstIndex { $0.spread == 0 }
    let determination =
      if let constant, strange == 0 {
        AccuracyMetric(
          "r2",
          undefined: samples == 1
            ? "there is one sample only" : "the true numbers do not vary" + (columns.count > 1 ? " at \(constant)" : "")
        )
      } else {
        mean("r2") { 1 - $0.squares / $0.spread }
      }
    return AccuracyReport(
      samples: samples,
      metrics: [
        mean("mae") { $0.absolute / Double(samples) }, mean("rmse") { ($0.squares / Double(samples)).squareRoot() },
        determination,
      ])
  }
}
