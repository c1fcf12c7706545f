// What a calibration knows of one tensor after some samples.

import ApusTensor

/// What was seen of the elements of one tensor in all samples of a calibration.
public struct TensorStatistics: Sendable, Hashable {
  /// The least and the greatest element of all samples.
  public internal(set) var minimum: Float
  public internal(set) var maximum: Float
  /// The mean over samples of the least, and of the greatest, element.
  public var averageMinimum: Float { Float(sumOfMinima / Double(samples)) }
  public var averageMaximum: Float { Float(sumOfMaxima / Double(samples)) }
  public internal(set) var samples: Int
  /// The elements of all samples.
  public internal(set) var elements: Int
  /// nil: the method of the calibration needs none.
  package internal(set) var histogram: Histogram?
  var sumOfMinima: Double
  var sumOfMaxima: Double

  /// The statistics of one sample, as an `Observation` gives them; nil for a tensor without elements.
  ///
  /// - Throws: the number of elements that are no finite numbers.
  init?(_ observed: ArraySlice<Double>) throws(NotFinite) {
    let head = Array(observed.prefix(Observation.headCount))
    if head[2] == 0 { return nil }
    if head[3] > 0 { throw NotFinite(count: Int(head[3])) }
    (minimum, maximum) = (Float(head[0]), Float(head[1]))
    (sumOfMinima, sumOfMaxima) = (head[0], head[1])
    (samples, elements) = (1, Int(head[2]))
    let bins = observed.dropFirst(Observation.headCount)
    histogram = bins.isEmpty ? nil : Histogram(exponent: Int(head[4]), counts: bins.map { Int($0) })
  }

  init(
    minimum: Float, maximum: Float, sumOfMinima: Double, sumOfMaxima: Double, samples: Int, elements: Int,
    histogram: Histogram?
  ) {
    (self.minimum, self.maximum, self.samples, self.elements) = (minimum, maximum, samples, elements)
    (self.sumOfMinima, self.sumOfMaxima, self.histogram) = (sumOfMinima, sumOfMaxima, histogram)
  }

  struct NotFinite: Error { let count: Int }

  /// Adds what was seen of other samples.
  package mutating func add(_ other: TensorStatistics) {
    (minimum, maximum) = (min(minimum, other.minimum), max(maximum, other.maximum))
    (sumOfMinima, sumOfMaxima) = (sumOfMinima + other.sumOfMinima, sumOfMaxima + other.sumOfMaxima)
    (samples, elements) = (samples + other.samples, elements + other.elements)
    if let added = other.histogram { histogram?.add(added) } else { histogram = nil }
  }

  /// Of several tensors that get one range: as one.
  package static func joined(_ all: [TensorStatistics]) -> TensorStatistics? {
    guard var result = all.first else { return nil }
    for other in all.dropFirst() {
      (result.minimum, result.maximum) = (min(result.minimum, other.minimum), max(result.maximum, other.maximum))
      let (low, high) = (
        min(result.averageMinimum, other.averageMinimum), max(result.averageMaximum, other.averageMaximum)
      )
      (result.sumOfMinima, result.sumOfMaxima) = (
        Double(low) * Double(result.samples), Double(high) * Double(result.samples)
      )
      result.elements += other.elements
      if let added = other.histogram, result.histogram != nil { result.histogram?.add(added) }
    }
    return result
  }
}
