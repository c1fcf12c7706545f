// Where the elements of a tensor lay, in bins that those of other samples can be added to.

import ApusTensor

/// How many elements lay in each of some bins of equal width, which together span [-2^exponent, 2^exponent): whatever
/// the exponents of two histograms are, the bins of one lie each within one bin of the other.
package struct Histogram: Sendable, Hashable {
  package private(set) var exponent: Int
  /// An even number of them, the same in all histograms of one calibration.
  package private(set) var counts: [Int]

  /// Magnitudes below 2^lowestExponent count as 0.
  package static let lowestExponent = -100
  package static let usualBins = 4096

  package init(exponent: Int, counts: [Int]) { (self.exponent, self.counts) = (exponent, counts) }

  /// The exponent of the bins for elements of this magnitude at most.
  package static func exponent(forMagnitude magnitude: Float) -> Int {
    guard magnitude.isFinite, magnitude > 0 else { return lowestExponent }
    return max(Int(magnitude.exponent) + (magnitude.significand == 1 ? 0 : 1), lowestExponent)
  }

  package var binWidth: Double { Double(sign: .plus, exponent: exponent + 1, significand: 1) / Double(counts.count) }
  /// The number in the middle of a bin.
  package func centre(_ bin: Int) -> Double { (Double(bin - counts.count / 2) + 0.5) * binWidth }
  package var total: Int { counts.reduce(0, +) }

  /// Adds the elements that another histogram counts.
  package mutating func add(_ other: Histogram) {
    widen(to: other.exponent)
    var other = other
    other.widen(to: exponent)
    other.counts.withUnsafeBufferPointer { added in
      counts.withUnsafeMutableBufferPointer { counts in
        for bin in counts.indices { counts[bin] &+= added[bin] }
      }
    }
  }

  /// Joins bins until they span that much.
  private mutating func widen(to wanted: Int) {
    if wanted <= exponent { return }
    let shift = min(wanted - exponent, Int.bitWidth - 1)
    let half = counts.count / 2
    var joined = [Int](repeating: 0, count: counts.count)
    for bin in counts.indices where counts[bin] != 0 { joined[(bin - half) >> shift + half] += counts[bin] }
    (counts, exponent) = (joined, wanted)
  }

  /// The elements by magnitude, in half as many bins over [0, 2^exponent].
  package var magnitudes: [Int] {
    let half = counts.count / 2
    return (0..<half).map { counts[half + $0] + counts[half - 1 - $0] }
  }
}
