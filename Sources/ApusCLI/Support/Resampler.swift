// Sound at another rate: interpolation by a windowed sinc, one set of weights for each phase.
// J. O. Smith, Digital Audio Resampling, https://ccrma.stanford.edu/~jos/resample/

import Foundation

/// Brings samples from one rate to another. Frequencies that both rates hold stay within 0.1 dB up to 88 % of the lower
/// one's half; what the new rate cannot hold is at least 80 dB down.
struct Resampler {
  /// Of the rates without their common divisor: output sample n lies at input position n · step / phases.
  private let phases: Int
  private let step: Int
  /// The cut-off, in cycles an input sample.
  private let cutoff: Double
  /// Input samples on each side that have a weight.
  private let reach: Int
  /// By phase: the weights of the inputs around its position; empty until used.
  private var table: [[Float]]
  private let keepsTable: Bool

  /// Zero crossings of the sinc on each side; with this window, the transition band ends at half of the lower rate.
  private static let crossings = 48
  /// Of the Kaiser window: more is less ripple and a wider transition.
  private static let beta = 9.0
  /// The middle of the transition band, as a part of half of the lower rate.
  private static let rollOff = 0.95
  private static let maximumTableWeights = 1 << 23

  init(from source: Int, to target: Int) {
    let divisor = Resampler.greatestCommonDivisor(source, target)
    (phases, step) = (target / divisor, source / divisor)
    cutoff = 0.5 * Resampler.rollOff * min(1, Double(target) / Double(source))
    reach = Int((Double(Resampler.crossings) / (2 * cutoff)).rounded(.up))
    keepsTable = phases.multipliedReportingOverflow(by: 2 * reach).partialValue <= Resampler.maximumTableWeights
    table = [[Float]](repeating: [], count: keepsTable ? phases : 0)
  }

  /// The number of samples that `count` become.
  func outputCount(_ count: Int) -> Int {
    let (product, overflow) = count.multipliedReportingOverflow(by: phases)
    return overflow ? Int.max : (product + step - 1) / step
  }

  /// The number of input samples that the first `count` samples of the result depend on.
  func inputCount(_ count: Int) -> Int {
    let (product, overflow) = count.multipliedReportingOverflow(by: step)
    return overflow ? Int.max : product / phases + reach + 1
  }

  /// The samples at the new rate. Beyond both ends there is silence.
  mutating func resample(_ samples: [Float]) -> [Float] {
    var result = [Float](repeating: 0, count: outputCount(samples.count))
    for index in result.indices {
      let position = index * step
      let (whole, phase) = position.quotientAndRemainder(dividingBy: phases)
      let weights = self.weights(of: phase)
      let first = whole - reach + 1
      var sum = 0.0
      for place in max(0, -first)..<max(0, min(weights.count, samples.count - first), -first) {
        sum += Double(weights[place] * samples[first + place])
      }
      result[index] = Float(sum)
    }
    return result
  }

  private mutating func weights(of phase: Int) -> [Float] {
    if !keepsTable { return computed(phase) }
    if table[phase].isEmpty { table[phase] = computed(phase) }
    return table[phase]
  }

  /// Weights for the inputs from `reach - 1` before the position to `reach` after it, whose sum is 1.
  private func computed(_ phase: Int) -> [Float] {
    let fraction = Double(phase) / Double(phases)
    let scale = Resampler.besselI0(Resampler.beta)
    let weights = (0..<2 * reach).map { place -> Double in
      let distance = Double(place - reach + 1) - fraction
      let edge = distance / Double(reach)
      if abs(edge) >= 1 { return 0 }
      let angle = 2 * .pi * cutoff * distance
      let sinc = abs(angle) < 1e-9 ? 1 : sin(angle) / angle
      return sinc * Resampler.besselI0(Resampler.beta * (1 - edge * edge).squareRoot()) / scale
    }
    let total = weights.reduce(0, +)
    return weights.map { Float($0 / total) }
  }

  /// The modified Bessel function of order 0, by its series.
  private static func besselI0(_ x: Double) -> Double {
    var (sum, term, k) = (1.0, 1.0, 1.0)
    while term > sum * 1e-16 {
      term *= (x / (2 * k)) * (x / (2 * k))
      sum += term
      k += 1
    }
    return sum
  }

  private static func greatestCommonDivisor(_ a: Int, _ b: Int) -> Int { b == 0 ? a : greatestCommonDivisor(b, a % b) }
}
