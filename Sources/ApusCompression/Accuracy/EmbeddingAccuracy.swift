// How alike vectors are: a model's and the true ones, or the similarities that two models see in pairs.

import ApusFormats
import ApusTensor

/// The cosine of two vectors.
public enum Cosine {
  /// nil if one of them is zero or not finite.
  public static func of(_ a: [Double], _ b: [Double]) -> Double? {
    precondition(a.count == b.count, "\(a.count) numbers against \(b.count)")
    var (squareA, squareB, product) = (0.0, 0.0, 0.0)
    for (x, y) in zip(a, b) {
      squareA += x * x
      squareB += y * y
      product += x * y
    }
    let length = squareA.squareRoot() * squareB.squareRoot()
    guard length > 0, length.isFinite, product.isFinite else { return nil }
    return min(1, max(-1, product / length))
  }
}

/// The cosine of each vector of a model with the true one.
public struct EmbeddingAccuracy: Sendable {
  public private(set) var samples = 0
  private var sum = 0.0
  private var least = 1.0
  /// Pairs with a vector that is zero or not finite.
  private var undefined = 0

  public init() {}

  /// Adds a sample: two vectors of as many numbers, whatever their shapes.
  public mutating func add(output: Tensor, truth: Tensor) throws(CompressionError) {
    guard output.count == truth.count, output.count > 0, output.dataType != .string, truth.dataType != .string else {
      throw CompressionError(
        .invalidSample,
        "the output is \(output.dataType)\(output.shape), the truth \(truth.dataType)\(truth.shape); expected as many "
          + "numbers")
    }
    add(output: output.doubles, truth: truth.doubles)
  }

  public mutating func add(output: [Double], truth: [Double]) {
    samples += 1
    guard let cosine = Cosine.of(output, truth) else {
      undefined += 1
      return
    }
    sum += cosine
    least = min(least, cosine)
  }

  public var report: AccuracyReport {
    func metric(_ name: String, _ value: Double) -> AccuracyMetric {
      if samples == 0 { return AccuracyMetric(name, undefined: "there are no samples") }
      if undefined > 0 {
        return AccuracyMetric(name, undefined: "of \(undefined) samples a vector is zero or not finite")
      }
      return AccuracyMetric(name, value)
    }
    return AccuracyReport(
      samples: samples, metrics: [metric("cosine", sum / Double(samples)), metric("least_cosine", least)])
  }
}

/// The cosines of pairs of vectors, and how their order follows that of true similarities.
public struct PairAccuracy: Sendable {
  public private(set) var cosines: [Double] = []
  private var truths: [Double] = []
  private var first: [Double]?
  private var undefined = 0

  public init() {}

  /// Adds a vector: the first, third, … of all begin a pair, the others end it. `truth`, of either, is the similarity
  /// that a person sees.
  public mutating func add(output: Tensor, truth: Double?) throws(CompressionError) {
    guard output.count > 0, output.dataType != .string else {
      throw CompressionError(.invalidSample, "the output is \(output.dataType)\(output.shape); expected numbers")
    }
    let vector = output.doubles
    guard let begun = first else {
      first = vector
      return
    }
    guard begun.count == vector.count else {
      throw CompressionError(.invalidSample, "a pair of \(begun.count) and \(vector.count) numbers")
    }
    first = nil
    guard let cosine = Cosine.of(begun, vector) else {
      undefined += 1
      return
    }
    cosines.append(cosine)
    if let truth { truths.append(truth) }
  }

  public var report: AccuracyReport {
    AccuracyReport(
      samples: cosines.count + undefined,
      metrics: [correlation("spearman", RankStatistics.spearman), correlation("pearson", RankStatistics.pearson)])
  }

  private func correlation(_ name: String, _ figure: ([Double], [Double]) -> Double?) -> AccuracyMetric {
    if undefined > 0 {
      return AccuracyMetric(name, undefined: "of \(undefined) pairs a vector is zero or not finite")
    }
    if truths.count != cosines.count || truths.isEmpty {
      return AccuracyMetric(name, undefined: "\(truths.count) of \(cosines.count) pairs have a true similarity")
    }
    return figure(cosines, truths).map { AccuracyMetric(name, $0) }
      ?? AccuracyMetric(name, undefined: "fewer than two pairs, or similarities that do not vary or are no numbers")
  }
}
