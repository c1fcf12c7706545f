// Half-quadratic quantization (HQQ): scales and zero points for an error that outliers count little in, without data.
// Badri and Shaji, Half-Quadratic Quantization of Large Machine Learning Models, 2023.

import ApusRuntime
import Glibc

extension QuantizedMatrix {
  /// The codes of `weights`, [rows, depth], for the least Σ |w - ŵ|^p with p = 0.7, by turns: what is left of the error
  /// after shrinking it, then the zero point (or, without one, the scale) for the rest. Zero points are whole numbers.
  package init(halfQuadratic weights: [Float], _ grid: WeightGrid, on pool: WorkerPool) {
    self.init(grid)
    fill(on: pool) { row, codes, scales, zeros in
      var solver = HalfQuadraticBlock(grid)
      let fit = BlockFit(grid)
      weights.withUnsafeBufferPointer { weights in
        guard let base = weights.baseAddress else { return }
        for index in 0..<grid.blocks {
          let count = min(grid.block, grid.depth - index * grid.block)
          let source = UnsafeBufferPointer(start: base + row * grid.depth + index * grid.block, count: count)
          let start = fit.parameters(base + row * grid.depth + index * grid.block, count: count)
          let found = solver.solve(source, from: start)
          scales[index] = found.scale
          zeros[index] = UInt8(found.zero)
          encode(
            base + row * grid.depth + index * grid.block, count, scale: found.scale, zero: found.zero,
            maximum: grid.maximum, codes + index * grid.block)
        }
      }
    }
  }
}

/// The solver for one block at a time.
private struct HalfQuadraticBlock {
  /// The exponent of the error, the weight of the quadratic term, by what it grows, and how often: those of the paper.
  private static let exponent: Float = 0.7
  private static let weight: Float = 10
  private static let growth: Float = 1.01
  private static let iterations = 20

  private let grid: WeightGrid
  /// What is left of the errors.
  private var rest: [Float]

  init(_ grid: WeightGrid) {
    self.grid = grid
    rest = [Float](repeating: 0, count: grid.block)
  }

  mutating func solve(_ weights: UnsafeBufferPointer<Float>, from start: BlockFit.Parameters) -> BlockFit.Parameters {
    if start.scale == 0 { return start }
    var best = (parameters: start, error: error(weights, start.scale, Float(start.zero)))
    var (scale, zero) = (start.scale, Float(start.zero))
    var beta = Self.weight
    var former = Float.infinity
    for _ in 0..<Self.iterations {
      let error = shrink(weights, scale, zero, beta)
      if error >= former { break }
      former = error
      if grid.hasZeroPoints {
        zero = centre(weights, scale, zero)
        for candidate in [zero.rounded(.down), zero.rounded(.up)] {
          keep(weights, scale, min(max(candidate, 0), Float(grid.maximum)), in: &best)
        }
      } else {
        scale = slope(weights, scale, zero)
        if scale == 0 || !scale.isFinite { break }
        keep(weights, scale, zero, in: &best)
      }
      beta *= Self.growth
    }
    return best.parameters
  }

  private func keep(
    _ weights: UnsafeBufferPointer<Float>, _ scale: Float, _ zero: Float,
    in best: inout (parameters: BlockFit.Parameters, error: Float)
  ) {
    let error = error(weights, scale, zero)
    if error < best.error { best = (.init(scale: scale, zero: Int(zero)), error) }
  }

  @inline(__always)
  private func code(_ weight: Float, _ scale: Float, _ zero: Float) -> Float {
    let position = (weight / scale + zero).rounded(.toNearestOrEven)
    return min(max(position, 0), Float(grid.maximum))
  }

  private func error(_ weights: UnsafeBufferPointer<Float>, _ scale: Float, _ zero: Float) -> Float {
    var sum: Float = 0
    for weight in weights {
      sum += powf(abs(weight - (code(weight, scale, zero) - zero) * scale), Self.exponent)
    }
    return sum
  }

  /// Shrinks the errors towards 0, small ones to it; returns the sum of the errors before.
  private mutating func shrink(
    _ weights: UnsafeBufferPointer<Float>, _ scale: Float, _ zero: Float, _ beta: Float
  ) -> Float {
    var sum: Float = 0
    for (index, weight) in weights.enumerated() {
      let difference = weight - (code(weight, scale, zero) - zero) * scale
      let magnitude = abs(difference)
      sum += magnitude
      let shrunk = magnitude == 0 ? 0 : max(magnitude - powf(magnitude, Self.exponent - 1) / beta, 0)
      rest[index] = difference < 0 ? -shrunk : shrunk
    }
    return sum
  }

  /// The zero point that centres the codes over what the rest leaves.
  private func centre(_ weights: UnsafeBufferPointer<Float>, _ scale: Float, _ zero: Float) -> Float {
    var sum: Float = 0
    for (index, weight) in weights.enumerated() {
      sum += code(weight, scale, zero) - (weight - rest[index]) / scale
    }
    return sum / Float(weights.count)
  }

  /// The scale that fits the codes to what the rest leaves.
  private func slope(_ weights: UnsafeBufferPointer<Float>, _ scale: Float, _ zero: Float) -> Float {
    var (products, squares) = (Float(0), Float(0))
    for (index, weight) in weights.enumerated() {
      let code = code(weight, scale, zero) - zero
      products += (weight - rest[index]) * code
      squares += code * code
    }
    return squares == 0 ? 0 : products / squares
  }
}
