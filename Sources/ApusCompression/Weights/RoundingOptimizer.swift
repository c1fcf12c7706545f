// Which code each weight gets, when what counts is the error of the product: GPTQ, and sweeps of single changes.
// Frantar et al., GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers, 2022.

import ApusRuntime
import ApusTensor

/// Chooses the codes of the rows w of a matrix for the least Σ (w - ŵ)ᵀ · H · (w - ŵ), where H = Σ x·xᵀ over what the
/// matrix is multiplied with.
package struct RoundingOptimizer {
  package struct Options: Sendable {
    /// Added to the diagonal of H, as a part of its mean.
    package var damping = 0.01
    /// Columns with the largest diagonal of H first. Scales are those of the original weights then.
    package var ordersByActivation = false
    /// How often all codes and scales are looked at again, one at a time, after the errors were spread.
    package var sweeps = 2
    /// nil: scales and zero points are searched for; else those of this matrix stay.
    package var parameters: QuantizedMatrix?
    /// Whether a weight may get no other codes than the two beside it (AdaRound's question); else any.
    package var keepsNeighbours = false

    package init() {}
  }

  private let pool: WorkerPool
  private let factor: InverseFactor
  private let errors: ProductErrors

  package init(on pool: WorkerPool) throws(CompressionError) {
    self.pool = pool
    errors = try ProductErrors(on: pool)
    factor = try InverseFactor(on: pool)
  }

  /// - Parameters:
  ///   - weights: [rows, depth].
  ///   - moments: H, [depth, depth], symmetric and not negative.
  /// - Returns: the codes, and the damping that it took to have an inverse.
  package func optimize(
    _ weights: [Float], _ grid: WeightGrid, moments: [Float], _ options: Options = Options()
  ) throws(CompressionError) -> (matrix: QuantizedMatrix, damping: Double) {
    let depth = grid.depth
    precondition(weights.count == grid.rows * depth && moments.count == depth * depth)
    let order = options.ordersByActivation ? Self.order(moments, depth) : Array(0..<depth)
    let (upper, damping) = try inverse(moments, order, depth, options.damping)
    // In a certain order a block is not whole when its first column comes, so its scale is that of the weights given.
    let isStatic = options.ordersByActivation || options.parameters != nil
    var matrix =
      options.parameters
      ?? (isStatic
        ? QuantizedMatrix(nearest: weights, grid, importance: Self.importance(of: moments, depth), on: pool)
        : QuantizedMatrix(grid))
    spread(
      weights, &matrix, upper, importance: Self.importance(of: moments, depth), order, isStatic: isStatic,
      keepsNeighbours: options.keepsNeighbours)
    if options.sweeps > 0 {
      try sweep(weights, &matrix, moments, damping, options)
    }
    return (matrix, damping)
  }

  /// About the bytes that the work on one matrix takes at a time, its codes included.
  static func workingBytes(rows: Int, depth: Int, withMoments: Bool) -> Int {
    // The elements, those that codes stand for, and errors of products; of H a copy in float64, its factor, and blocks.
    let elements = rows.multipliedReportingOverflow(by: depth * 20).partialValue
    return elements + (withMoments ? depth.multipliedReportingOverflow(by: depth * 28).partialValue : 0)
  }

  private static func diagonal(_ moments: [Float], _ depth: Int) -> [Float] {
    (0..<depth).map { max(moments[$0 * depth + $0], 0) }
  }

  /// What an error in each column counts: the diagonal of H, and a little everywhere, for columns that no sample met.
  package static func importance(of moments: [Float], _ depth: Int) -> [Float] {
    let diagonal = diagonal(moments, depth)
    let mean = diagonal.reduce(0, +) / Float(max(depth, 1))
    return diagonal.map { mean > 0 ? $0 + 0.01 * mean : 1 }
  }

  private static func order(_ moments: [Float], _ depth: Int) -> [Int] {
    let diagonal = diagonal(moments, depth)
    return (0..<depth).sorted { diagonal[$0] != diagonal[$1] ? diagonal[$0] > diagonal[$1] : $0 < $1 }
  }

  /// The factor of the inverse of H in an order. Where H with its damping has none, the damping grows tenfold.
  private func inverse(
    _ moments: [Float], _ order: [Int], _ depth: Int, _ damping: Double
  ) throws(CompressionError) -> (upper: [Float], damping: Double) {
    let mean = Self.diagonal(moments, depth).reduce(0.0) { $0 + Double($1) } / Double(max(depth, 1))
    guard mean.isFinite else {
      throw CompressionError(.invalidSample, "the activations before a product are not finite numbers")
    }
    var damping = damping
    for _ in 0..<8 {
      let added = mean > 0 ? damping * mean : 1
      let matrix = [Double](unsafeUninitializedCapacity: depth * depth) { buffer, count in
        count = depth * depth
        for row in 0..<depth {
          for column in 0..<depth { buffer[row * depth + column] = Double(moments[order[row] * depth + order[column]]) }
          buffer[row * depth + row] += added
        }
      }
      if let upper = try factor.upper(matrix, size: depth) { return (upper, damping) }
      damping = max(damping * 10, 1e-4)
    }
    throw CompressionError(
      .invalidSample, "the second moments of the activations before a product have no inverse",
      remedy: "Give more samples, or a larger damping")
  }

  // MARK: - GPTQ

  /// Column by column in the given order: rounds, and moves the columns that follow so that they make up for the error.
  private func spread(
    _ weights: [Float], _ matrix: inout QuantizedMatrix, _ upper: [Float], importance: [Float],
    _ order: [Int], isStatic: Bool, keepsNeighbours: Bool
  ) {
    let grid = matrix.grid
    let isPlain = order.enumerated().allSatisfy { $0.offset == $0.element }
    let group = Self.rowsOfGroup
    let groups = (grid.rows + group - 1) / group
    matrix.codes.withUnsafeMutableBufferPointer { codes in
      matrix.scales.withUnsafeMutableBufferPointer { scales in
        matrix.zeros.withUnsafeMutableBufferPointer { zeros in
          upper.withUnsafeBufferPointer { upper in
            importance.withUnsafeBufferPointer { importance in
              // Parts write to rows of their own; addresses are within the arrays, whose sizes the grid gives.
              guard let codes = codes.baseAddress, let scales = scales.baseAddress, let zeros = zeros.baseAddress,
                let upper = upper.baseAddress, let importance = importance.baseAddress
              else { return }
              pool.run(parts: groups) { part in
                var spreading = ErrorSpreading(
                  grid, rows: part * group..<min((part + 1) * group, grid.rows), upper: upper,
                  importance: importance, order: order, isStatic: isStatic, original: keepsNeighbours)
                spreading.load(weights)
                spreading.run(codes, scales, zeros, isPlain: isPlain)
              }
            }
          }
        }
      }
    }
  }

  private static let rowsOfGroup = 8

  // MARK: - Sweeps

  /// Moves one code or scale after the other to where the error is least while the others stay.
  private func sweep(
    _ weights: [Float], _ matrix: inout QuantizedMatrix, _ moments: [Float], _ damping: Double, _ options: Options
  ) throws(CompressionError) {
    let grid = matrix.grid
    let mean = Self.diagonal(moments, grid.depth).reduce(0.0) { $0 + Double($1) } / Double(max(grid.depth, 1))
    let added = Float(damping * mean)
    let gradient = try errors.gradient(weights, matrix, moments)
    matrix.fill(on: pool) { row, codes, scales, zeros in
      weights.withUnsafeBufferPointer { weights in
        moments.withUnsafeBufferPointer { moments in
          gradient.withElements(Float.self) { gradient in
            guard let weights = weights.baseAddress, let moments = moments.baseAddress else { return }
            CodeDescent(
              grid, moments, added, keepsNeighbours: options.keepsNeighbours, keepsScales: options.parameters != nil
            ).run(
              weights + row * grid.depth, gradient + row * grid.depth, codes, scales, zeros, sweeps: options.sweeps)
          }
        }
      }
    }
  }
}

/// What the errors of codes are in a product.
package struct ProductErrors: Sendable {
  private let products: MatrixProducts<Float>

  package init(on pool: WorkerPool) throws(CompressionError) { products = try MatrixProducts(on: pool) }

  /// (W - Ŵ) · H, [rows, depth].
  func gradient(
    _ weights: [Float], _ matrix: QuantizedMatrix, _ moments: [Float]
  ) throws(CompressionError) -> Tensor {
    let numbers = matrix.dequantized()
    return try product(zip(weights, numbers).map { $0 - $1 }, moments, matrix.grid.depth)
  }

  private func product(_ rows: [Float], _ moments: [Float], _ depth: Int) throws(CompressionError) -> Tensor {
    let left = try Tensor.matrix(rows.count / max(depth, 1), depth) { (target: UnsafeMutablePointer<Float>) in
      for index in rows.indices { target[index] = rows[index] }
    }
    let right = try Tensor.matrix(depth, depth) { (target: UnsafeMutablePointer<Float>) in
      for index in moments.indices { target[index] = moments[index] }
    }
    return try products(left, right)
  }

  /// Σ over rows v of vᵀ · H · v.
  package func energy(_ rows: [Float], moments: [Float], depth: Int) throws(CompressionError) -> Double {
    let product = try product(rows, moments, depth)
    var sum = 0.0
    product.withElements(Float.self) { product in
      for index in rows.indices { sum += Double(rows[index]) * Double(product[index]) }
    }
    return max(sum, 0)
  }

  /// The signal-to-noise ratio of a product with codes, in decibels.
  package func signalToNoise(
    of weights: [Float], _ matrix: QuantizedMatrix, moments: [Float]
  ) throws(CompressionError) -> Double {
    let depth = matrix.grid.depth
    let errors = zip(weights, matrix.dequantized()).map { $0 - $1 }
    return decibels(
      signal: try energy(weights, moments: moments, depth: depth),
      noise: try energy(errors, moments: moments, depth: depth))
  }
}
