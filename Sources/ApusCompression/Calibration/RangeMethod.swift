// From what was seen of a tensor to the range that its integers shall span.

import ApusTensor

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// How the range of a tensor that is quantized follows from the elements that calibration has seen.
public enum RangeMethod: Sendable, Hashable {
  /// From the least to the greatest element: nothing is cut off.
  case minMax
  /// From the mean of the least to the mean of the greatest elements of the samples.
  case movingAverage
  /// The range whose integers tell most of the distribution: least Kullback-Leibler divergence between the magnitudes
  /// and their quantized form (S. Migacz, 8-bit inference with TensorRT, 2017).
  case entropy
  /// So that this percentage of the elements lies inside, as 99.99: half of the others may be cut off at either side.
  case percentile(Double)
  /// The range of least mean squared error.
  case meanSquaredError

  /// What options call the methods.
  package static let names = ["minmax", "average", "entropy", "percentile", "mse"]

  /// The method of that name; nil if there is none.
  package init?(named name: String, percentile: Double) {
    switch name {
    case "minmax": self = .minMax
    case "average": self = .movingAverage
    case "entropy": self = .entropy
    case "percentile": self = .percentile(percentile)
    case "mse": self = .meanSquaredError
    default: return nil
    }
  }

  /// Whether it needs more of a tensor than its extremes.
  package var needsHistogram: Bool {
    switch self {
    case .minMax, .movingAverage: false
    case .entropy, .percentile, .meanSquaredError: true
    }
  }

  /// The range for integers with so many steps from the least to the greatest, within what was seen. With `isSymmetric`
  /// the range will be as wide on both sides of zero.
  package func range(
    of statistics: TensorStatistics, steps: Int, isSymmetric: Bool
  ) -> (low: Float, high: Float) {
    let all = (low: statistics.minimum, high: statistics.maximum)
    switch self {
    case .minMax: return all
    case .movingAverage: return (statistics.averageMinimum, statistics.averageMaximum)
    case .entropy:
      guard let histogram = statistics.histogram else { return all }
      let errors = ErrorSearch(histogram, steps: steps, isSymmetric: isSymmetric)
      let search = DivergenceSearch(histogram, levels: steps / 2 + 1) { bound in
        errors.isNoWorse(RangeMethod.clipped(all, to: Float(bound)), than: all)
      }
      return RangeMethod.clipped(all, to: Float(search.bound))
    case .percentile(let percentage):
      guard let histogram = statistics.histogram else { return all }
      if isSymmetric {
        let bound = Float(histogram.magnitude(below: percentage / 100))
        return RangeMethod.clipped(all, to: bound)
      }
      let outside = (1 - percentage / 100) / 2
      let (low, high) = (Float(histogram.quantile(outside)), Float(histogram.quantile(1 - outside)))
      return (max(all.low, low), min(all.high, high))
    case .meanSquaredError:
      guard let histogram = statistics.histogram else { return all }
      return ErrorSearch(histogram, steps: steps, isSymmetric: isSymmetric).range(within: all)
    }
  }

  private static func clipped(_ range: (low: Float, high: Float), to bound: Float) -> (low: Float, high: Float) {
    (max(range.low, -bound), min(range.high, bound))
  }
}

extension Histogram {
  /// The number below which that share of the elements lies, to within a bin.
  func quantile(_ share: Double) -> Double {
    let wanted = share * Double(total)
    var below = 0.0
    for (bin, count) in counts.enumerated() where count > 0 {
      if below + Double(count) >= wanted {
        return centre(bin) + ((wanted - below) / Double(count) - 0.5) * binWidth
      }
      below += Double(count)
    }
    return centre(counts.count - 1) + binWidth / 2
  }

  /// The magnitude below which that share of the elements lies, to within a bin.
  func magnitude(below share: Double) -> Double {
    let counts = magnitudes
    let wanted = share * Double(counts.reduce(0, +))
    var below = 0.0
    for (bin, count) in counts.enumerated() where count > 0 {
      if below + Double(count) >= wanted { return (Double(bin) + (wanted - below) / Double(count)) * binWidth }
      below += Double(count)
    }
    return Double(counts.count) * binWidth
  }
}

/// Searches the range of least mean squared error.
private struct ErrorSearch {
  /// The bins with elements: the number that they stand for, and how many.
  private let bins: [(value: Double, count: Double)]
  private let steps: Int
  private let isSymmetric: Bool

  /// Ranges that are tried: from all of what was seen down to this share of it.
  private static let leastShare = 0.15
  private static let candidates = 96

  init(_ histogram: Histogram, steps: Int, isSymmetric: Bool) {
    bins = histogram.counts.indices.compactMap { bin in
      histogram.counts[bin] == 0 ? nil : (histogram.centre(bin), Double(histogram.counts[bin]))
    }
    (self.steps, self.isSymmetric) = (steps, isSymmetric)
  }

  func range(within all: (low: Float, high: Float)) -> (low: Float, high: Float) {
    let whole = (low: Double(min(all.low, 0)), high: Double(max(all.high, 0)))
    var best = (range: whole, error: error(of: whole))
    for candidate in 1..<ErrorSearch.candidates {
      let share = 1 - (1 - ErrorSearch.leastShare) * Double(candidate) / Double(ErrorSearch.candidates)
      let range = (low: whole.low * share, high: whole.high * share)
      let error = error(of: range)
      if error < best.error { best = (range, error) }
    }
    return (Float(best.range.low), Float(best.range.high))
  }

  /// Whether the squared errors with one range add up to no more than with another, both widened to hold zero.
  func isNoWorse(_ range: (low: Float, high: Float), than other: (low: Float, high: Float)) -> Bool {
    func widened(_ range: (low: Float, high: Float)) -> (low: Double, high: Double) {
      (Double(min(range.low, 0)), Double(max(range.high, 0)))
    }
    return error(of: widened(range)) <= error(of: widened(other))
  }

  /// The sum of the squared errors.
  private func error(of range: (low: Double, high: Double)) -> Double {
    let magnitude = max(-range.low, range.high)
    let width = isSymmetric ? 2 * magnitude : range.high - range.low
    let scale = width / Double(steps)
    if scale <= 0 { return .infinity }
    let zero = isSymmetric ? (Double(steps) / 2).rounded(.down) : (-range.low / scale).rounded(.toNearestOrEven)
    var error = 0.0
    for bin in bins {
      let step = min(max((bin.value / scale).rounded(.toNearestOrEven) + zero, 0), Double(steps))
      let distance = (step - zero) * scale - bin.value
      error += bin.count * distance * distance
    }
    return error
  }
}

/// Searches the bound of magnitudes whose quantized distribution differs least from that of the tensor.
/// S. Migacz, 8-bit Inference with TensorRT, 2017.
///
/// A divergence knows no distances: that many small elements share a level counts more than that some large ones, with
/// most of the energy, are cut off. So a bound must leave out few elements only, or cost less than finer steps save.
private struct DivergenceSearch {
  private let magnitudes: [Int]
  private let width: Double
  private let levels: Int

  private let isCheap: (_ bound: Double) -> Bool

  /// Bounds that are tried.
  private static let candidates = 256
  /// The share of the elements that may be left out whatever they are, that of the usual percentile.
  private static let rareShare = 1e-4

  /// - Parameter isCheap: whether a bound costs less than it saves.
  init(_ histogram: Histogram, levels: Int, isCheap: @escaping (Double) -> Bool) {
    (magnitudes, width, self.levels, self.isCheap) = (histogram.magnitudes, histogram.binWidth, levels, isCheap)
  }

  /// Whether the elements from bin `bins` on may be cut off.
  private func mayCut(from bins: Int) -> Bool {
    let outside = magnitudes[bins...].reduce(0, +)
    let all = magnitudes.reduce(0, +)
    return Double(outside) <= DivergenceSearch.rareShare * Double(all) || isCheap(Double(bins) * width)
  }

  var bound: Double {
    guard let last = magnitudes.lastIndex(where: { $0 > 0 }), last >= levels else {
      return Double(magnitudes.count) * width
    }
    var best = (bins: last + 1, divergence: Double.infinity)
    let step = max(1, (last + 1 - levels) / DivergenceSearch.candidates)
    for bins in stride(from: last + 1, through: levels, by: -step) {
      let divergence = divergence(bins)
      if divergence < best.divergence, mayCut(from: bins) { best = (bins, divergence) }
    }
    return Double(best.bins) * width
  }

  /// Of the elements below bin `bins`, with those above in the last one, from the same in `levels` levels. Zeros, which
  /// are exact in any form, do not count: they lie in the first bin.
  private func divergence(_ bins: Int) -> Double {
    var wanted = magnitudes[..<bins].map { Double($0) }
    wanted[0] = 0
    let inside = wanted
    wanted[bins - 1] += Double(magnitudes[bins...].reduce(0, +))
    let total = wanted.reduce(0, +)
    let insideTotal = inside.reduce(0, +)
    guard total > 0, insideTotal > 0 else { return .infinity }
    var divergence = 0.0
    for level in 0..<levels {
      let (first, end) = (level * bins / levels, (level + 1) * bins / levels)
      let slice = first..<end
      let filled = slice.count { inside[$0] > 0 }
      guard filled > 0 else {
        // What was there has no place in the quantized form.
        for bin in slice where wanted[bin] > 0 { divergence += wanted[bin] / total * DivergenceSearch.lost }
        continue
      }
      let even = slice.reduce(0) { $0 + inside[$1] } / Double(filled) / insideTotal
      for bin in slice where wanted[bin] > 0 {
        let share = wanted[bin] / total
        divergence += share * (inside[bin] > 0 ? log(share / even) : DivergenceSearch.lost)
      }
    }
    return divergence
  }

  /// What an element counts that the quantized form gives no probability.
  private static let lost = 20.0
}
