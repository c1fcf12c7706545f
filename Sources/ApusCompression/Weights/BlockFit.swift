// The scale and zero point of one block, and its codes: the search for the least squared error.

/// Finds scale and zero point of blocks. Holds the memory for one block, so each thread has its own.
///
/// The unsafe buffers belong to the fit and live as long as it does; all indices are below `capacity`.
struct BlockFit: ~Copyable {
  private let grid: WeightGrid
  /// A block filled up with zeros that count nothing.
  private let values: UnsafeMutablePointer<Float>
  private let importances: UnsafeMutablePointer<Float>
  private let capacity: Int

  /// What stands for a block: element = (code - zero) · scale.
  struct Parameters {
    var scale: Float
    var zero: Int
  }

  /// Scales that are tried lie so many steps above and below that of the largest element, a step being this part of it.
  private static let steps = 9
  private static let stepPart: Float = 1 / 80

  init(_ grid: WeightGrid) {
    self.grid = grid
    capacity = (grid.block + 7) / 8 * 8
    values = .allocate(capacity: max(capacity, 8))
    importances = .allocate(capacity: max(capacity, 8))
    values.initialize(repeating: 0, count: max(capacity, 8))
    importances.initialize(repeating: 0, count: max(capacity, 8))
  }

  deinit {
    values.deallocate()
    importances.deallocate()
  }

  /// The parameters with the least Σ importance · (w - (code - zero) · scale)².
  ///
  /// - Parameters:
  ///   - weights: `count` finite numbers.
  ///   - importance: as many numbers of 0 or more; nil: all alike.
  func parameters(
    _ weights: UnsafePointer<Float>, count: Int, importance: UnsafePointer<Float>? = nil
  ) -> Parameters {
    var (low, high) = (Float(0), Float(0))
    for index in 0..<capacity {
      let weight = index < count ? weights[index] : 0
      values[index] = weight
      importances[index] = index < count ? importance?[index] ?? 1 : 0
      low = min(low, weight)
      high = max(high, weight)
    }
    if low == 0 && high == 0 { return Parameters(scale: 0, zero: Int(grid.middle)) }
    return grid.hasZeroPoints ? ranged(low, high) : centred(low, high)
  }

  /// Without a zero point: the largest element becomes the least code, which is one further from the middle than the
  /// greatest, or the greatest; of 8 bits scales stay positive.
  private func centred(_ low: Float, _ high: Float) -> Parameters {
    let half = Float(grid.middle)
    let isLow = -low >= high
    let extreme = isLow ? low : high
    var best = (score: -Double.infinity, scale: Float(0))
    func consider(_ levels: Float) {
      let score = self.score(levels / extreme, zero: grid.middle)
      if score.0 > best.score { best = (score.0, score.1) }
    }
    for step in -Self.steps...Self.steps {
      let change = Float(step) * half * Self.stepPart
      if isLow || grid.bits < 8 { consider(-(half + change)) }
      if half > 1 { consider((isLow ? -1 : 1) * (half - 1 + change)) } else { consider(isLow ? -1 : 1 + change) }
    }
    return Parameters(scale: best.scale, zero: Int(grid.middle))
  }

  /// With a zero point: the range becomes that of the codes, a little wider or narrower.
  private func ranged(_ low: Float, _ high: Float) -> Parameters {
    let maximum = Float(grid.maximum)
    var best = (score: -Double.infinity, scale: Float(0), zero: 0)
    for step in -Self.steps...Self.steps {
      let inverse = maximum * (1 + Float(step) * 2 * Self.stepPart) / (high - low)
      if !inverse.isFinite { continue }
      let exact = min(max(-low * inverse, 0), maximum)
      let floor = Int(exact)
      for zero in floor...min(floor + 1, grid.maximum) {
        let score = self.score(inverse, zero: UInt8(zero))
        if score.0 > best.score { best = (score.0, score.1, zero) }
      }
    }
    return Parameters(scale: best.scale, zero: best.zero)
  }

  /// How much of Σ w² the codes of a scale explain with the scale that fits them best: (Σ w·q)² / Σ q², and that scale.
  private func score(_ inverse: Float, zero: UInt8) -> (Double, Float) {
    if !inverse.isFinite { return (-.infinity, 0) }
    let rounding = SIMD8<Float>(repeating: CodeRounding.shift)
    let least = SIMD8<Float>(repeating: -Float(zero))
    let most = SIMD8<Float>(repeating: Float(grid.maximum) - Float(zero))
    var (products, squares) = (SIMD8<Float>.zero, SIMD8<Float>.zero)
    for start in stride(from: 0, to: capacity, by: 8) {
      let weight = UnsafeRawPointer(values + start).loadUnaligned(as: SIMD8<Float>.self)
      let importance = UnsafeRawPointer(importances + start).loadUnaligned(as: SIMD8<Float>.self)
      var code = weight * inverse
      code.clamp(lowerBound: least, upperBound: most)
      code = (code + rounding) - rounding
      let weighted = code * importance
      products += weight * weighted
      squares += code * weighted
    }
    let (product, square) = (Double(products.sum()), Double(squares.sum()))
    // A scale of the other sign would turn the codes round.
    guard square > 0, product != 0 else { return (-.infinity, 0) }
    return (product * product / square, Float(product / square))
  }
}

/// Rounding of codes.
enum CodeRounding {
  /// Added to a number and taken off again it leaves the nearest integer, ties to the even one, of less than 2²² either
  /// way.
  static let shift: Float = 12_582_912

  /// 1 / scale; 0 where that is no number, as all codes of such a block stand for next to nothing.
  @inline(__always)
  static func inverse(of scale: Float) -> Float {
    let inverse = 1 / scale
    return inverse.isFinite ? inverse : 0
  }

  /// The code of a number.
  @inline(__always)
  static func code(_ weight: Float, inverse: Float, zero: Float, maximum: Float) -> UInt8 {
    var position = weight * inverse
    if position < -zero { position = -zero }
    if position > maximum - zero { position = maximum - zero }
    // In 0...255 by the bounds above.
    return UInt8(truncatingIfNeeded: Int32((position + shift) - shift + zero))
  }
}
