// Activation-aware scaling (AWQ): the columns that large activations meet are scaled up before they are rounded.
// Lin et al., AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration, 2023.

import ApusRuntime
import Glibc

/// Searches the factors of the columns of all matrices that one value is multiplied with.
struct ChannelScaling {
  /// A matrix [rows, depth] and how it will be cut.
  struct Factor {
    var weights: [Float]
    var grid: WeightGrid
  }

  /// Exponents that are tried: 0, 1/20, …, 1.
  private static let steps = 20
  /// Rows of a matrix that the search looks at.
  private static let sampledRows = 64

  private let pool: WorkerPool
  private let errors: ProductErrors

  init(on pool: WorkerPool) throws(CompressionError) {
    self.pool = pool
    errors = try ProductErrors(on: pool)
  }

  /// The factors s = mean|x|^α, around 1, with the α that leaves the least error of the products; nil if that is α = 0.
  func factors(for matrices: [Factor], _ moments: ActivationMoments) throws(CompressionError) -> [Float]? {
    let samples = matrices.map { Self.sampled($0) }
    var best: (factors: [Float]?, loss: Double) = (nil, .infinity)
    for step in 0...Self.steps {
      let factors = Self.factors(moments.magnitudes, exponent: Double(step) / Double(Self.steps))
      var loss = 0.0
      for sample in samples { loss += try self.loss(sample, factors, moments) }
      if loss < best.loss { best = (step == 0 ? nil : factors, loss) }
    }
    return best.factors
  }

  private static func sampled(_ factor: Factor) -> Factor {
    let (grid, depth) = (factor.grid, factor.grid.depth)
    let rows = min(grid.rows, sampledRows)
    var weights: [Float] = []
    weights.reserveCapacity(rows * depth)
    for index in 0..<rows {
      let row = index * grid.rows / rows
      weights += factor.weights[row * depth..<(row + 1) * depth]
    }
    return Factor(
      weights: weights,
      grid: WeightGrid(
        rows: rows, depth: depth, bits: grid.bits, block: grid.block, hasZeroPoints: grid.hasZeroPoints))
  }

  private static func factors(_ magnitudes: [Float], exponent: Double) -> [Float] {
    let largest = Double(magnitudes.max() ?? 0)
    if largest == 0 || exponent == 0 { return [Float](repeating: 1, count: magnitudes.count) }
    let powers = magnitudes.map { pow(max(Double($0) / largest, 1e-4), exponent) }
    let middle = ((powers.max() ?? 1) * (powers.min() ?? 1)).squareRoot()
    return powers.map { Float($0 / middle) }
  }

  private func loss(
    _ sample: Factor, _ factors: [Float], _ moments: ActivationMoments
  ) throws(CompressionError) -> Double {
    let depth = sample.grid.depth
    let scaled = sample.weights.enumerated().map { $0.element * factors[$0.offset % depth] }
    let importance = Self.importance(moments, factors)
    let matrix = QuantizedMatrix(nearest: scaled, sample.grid, importance: importance, on: pool)
    var rest = matrix.dequantized()
    for index in rest.indices { rest[index] = rest[index] / factors[index % depth] - sample.weights[index] }
    return try errors.energy(rest, moments: moments.products, depth: depth)
  }

  /// What an error in a scaled column counts.
  private static func importance(_ moments: ActivationMoments, _ factors: [Float]) -> [Float] {
    zip(RoundingOptimizer.importance(of: moments.products, moments.depth), factors).map { $0 / ($1 * $1) }
  }
}
