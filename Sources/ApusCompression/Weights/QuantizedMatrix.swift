// A matrix in few bits while it is made: codes, one scale and one zero point a block.

import ApusTensor
import Glibc

/// How a matrix of `rows` × `depth` numbers is cut into blocks along its rows, and what codes can say.
package struct WeightGrid: Sendable, Hashable {
  package let rows: Int
  package let depth: Int
  package let bits: Int
  /// Elements of a block; the last of a row may have fewer.
  package let block: Int
  /// Whether a block has a zero point of its own; without, it is half the range.
  package let hasZeroPoints: Bool

  /// - Parameters:
  ///   - rows: output channels of a product, rows of a table.
  ///   - block: nil for one block a row.
  package init(rows: Int, depth: Int, bits: Int, block: Int?, hasZeroPoints: Bool) {
    (self.rows, self.depth, self.bits, self.hasZeroPoints) = (rows, depth, bits, hasZeroPoints)
    self.block = min(block ?? depth, max(depth, 1))
  }

  /// Blocks of a row.
  package var blocks: Int { depth == 0 ? 0 : (depth - 1) / block + 1 }
  /// The largest code; the smallest is 0.
  package var maximum: Int { 1 << bits - 1 }
  /// The code of 0 where there are no zero points.
  package var middle: UInt8 { 1 << UInt8(bits - 1) }
}

/// Codes without a sign, one a byte; element = (code - zero point) · scale.
package struct QuantizedMatrix: Sendable {
  package let grid: WeightGrid
  /// [rows, depth].
  package var codes: [UInt8]
  /// [rows, blocks].
  package var scales: [Float]
  /// [rows, blocks].
  package var zeros: [UInt8]

  package init(_ grid: WeightGrid) {
    self.grid = grid
    codes = [UInt8](repeating: grid.middle, count: grid.rows * grid.depth)
    scales = [Float](repeating: 0, count: grid.rows * grid.blocks)
    zeros = [UInt8](repeating: grid.middle, count: grid.rows * grid.blocks)
  }

  /// The numbers that the codes stand for, [rows, depth].
  package func dequantized() -> [Float] {
    [Float](unsafeUninitializedCapacity: codes.count) { buffer, count in
      count = codes.count
      for row in 0..<grid.rows {
        for block in 0..<grid.blocks {
          let (scale, zero) = (scales[row * grid.blocks + block], Int32(zeros[row * grid.blocks + block]))
          let first = row * grid.depth + block * grid.block
          for index in first..<first + min(grid.block, grid.depth - block * grid.block) {
            buffer[index] = Float(Int32(codes[index]) - zero) * scale
          }
        }
      }
    }
  }

  /// The signal-to-noise ratio of the numbers against `weights`, in decibels; infinity if all are equal.
  package func signalToNoise(of weights: [Float]) -> Double {
    decibels(
      signal: weights.reduce(0.0) { $0 + Double($1) * Double($1) },
      noise: zip(weights, dequantized()).reduce(0.0) {
        let difference = Double($1.0) - Double($1.1)
        return $0 + difference * difference
      })
  }
}

/// 10 · log₁₀ of signal / noise; infinity without noise.
package func decibels(signal: Double, noise: Double) -> Double {
  noise <= 0 ? .infinity : 10 * log10(max(signal, .leastNormalMagnitude) / noise)
}
