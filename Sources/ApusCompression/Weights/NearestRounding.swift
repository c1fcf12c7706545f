// Round-to-nearest: every block by itself, with the best scale for it.

import ApusRuntime

/// The rows of a matrix as a part of a parallel loop.
///
/// Parts write to rows of their own only, so the unsafe pointers into the result are never written to by two threads.
struct RowParts {
  private static let rowsOfPart = 16
  let rows: Int
  var count: Int { (rows + Self.rowsOfPart - 1) / Self.rowsOfPart }

  func range(_ part: Int) -> Range<Int> {
    part * Self.rowsOfPart..<min((part + 1) * Self.rowsOfPart, rows)
  }
}

extension QuantizedMatrix {
  /// The codes of `weights`, [rows, depth], each block with the scale (and zero point) of the least squared error.
  ///
  /// - Parameters:
  ///   - importance: [depth], what an error in a column counts; nil: all columns alike.
  package init(nearest weights: [Float], _ grid: WeightGrid, importance: [Float]? = nil, on pool: WorkerPool) {
    self.init(grid)
    let (depth, block) = (grid.depth, grid.block)
    fill(on: pool) { row, codes, scales, zeros in
      let fit = BlockFit(grid)
      weights.withUnsafeBufferPointer { weights in
        guard let base = weights.baseAddress else { return }
        for index in 0..<grid.blocks {
          let count = min(block, depth - index * block)
          let source = base + row * depth + index * block
          let found =
            importance.map { list in
              list.withUnsafeBufferPointer {
                fit.parameters(source, count: count, importance: $0.baseAddress.map { $0 + index * block })
              }
            } ?? fit.parameters(source, count: count)
          scales[index] = found.scale
          zeros[index] = UInt8(found.zero)
          encode(source, count, scale: found.scale, zero: found.zero, maximum: grid.maximum, codes + index * block)
        }
      }
    }
  }

  /// Calls `body` for each row, on all threads, with the row's codes, scales and zero points to fill.
  mutating func fill(
    on pool: WorkerPool,
    _ body: (
      _ row: Int, _ codes: UnsafeMutablePointer<UInt8>, _ scales: UnsafeMutablePointer<Float>,
      _ zeros: UnsafeMutablePointer<UInt8>
    ) -> Void
  ) {
    let (grid, parts) = (grid, RowParts(rows: grid.rows))
    codes.withUnsafeMutableBufferPointer { codes in
      scales.withUnsafeMutableBufferPointer { scales in
        zeros.withUnsafeMutableBufferPointer { zeros in
          guard let codes = codes.baseAddress, let scales = scales.baseAddress, let zeros = zeros.baseAddress
          else { return }
          pool.run(parts: parts.count) { part in
            for row in parts.range(part) {
              body(row, codes + row * grid.depth, scales + row * grid.blocks, zeros + row * grid.blocks)
            }
          }
        }
      }
    }
  }
}

/// Writes the nearest codes of `count` numbers.
@inline(__always)
func encode(
  _ source: UnsafePointer<Float>, _ count: Int, scale: Float, zero: Int, maximum: Int,
  _ target: UnsafeMutablePointer<UInt8>
) {
  let inverse = CodeRounding.inverse(of: scale)
  let (zero, maximum) = (Float(zero), Float(maximum))
  for index in 0..<count {
    target[index] = CodeRounding.code(source[index], inverse: inverse, zero: zero, maximum: maximum)
  }
}
