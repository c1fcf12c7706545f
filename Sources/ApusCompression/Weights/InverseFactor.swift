// The upper triangle U with Uᵀ·U = H⁻¹, by which GPTQ spreads errors.

import ApusRuntime
import ApusTensor

/// Factorizes symmetric positive definite matrices in float64, in blocks whose products the engine computes.
///
/// H⁻¹ is never formed: with the rows and columns of H in reverse order, H' = L·Lᵀ, and U is L⁻¹ in reverse
/// order again.
struct InverseFactor {
  private static let block = 128
  private let pool: WorkerPool
  private let products: MatrixProducts<Double>

  init(on pool: WorkerPool) throws(CompressionError) {
    self.pool = pool
    products = try MatrixProducts(on: pool)
  }

  /// The upper triangle of size `n`, zeros below; nil if the matrix is not positive definite.
  ///
  /// - Parameter matrix: [n, n], symmetric.
  func upper(_ matrix: [Double], size n: Int) throws(CompressionError) -> [Float]? {
    var work = [Double](unsafeUninitializedCapacity: n * n) { buffer, count in
      count = n * n
      for index in 0..<n * n { buffer[index] = matrix[n * n - 1 - index] }
    }
    guard try factorize(&work, n) else { return nil }
    try invert(&work, n)
    return [Float](unsafeUninitializedCapacity: n * n) { buffer, count in
      count = n * n
      for row in 0..<n {
        for column in 0..<n {
          buffer[row * n + column] = column < row ? 0 : Float(work[(n - 1 - row) * n + n - 1 - column])
        }
      }
    }
  }

  /// Replaces the lower triangle by L, block column by block column; false if a pivot is not positive.
  private func factorize(_ a: inout [Double], _ n: Int) throws(CompressionError) -> Bool {
    for start in stride(from: 0, to: n, by: Self.block) {
      let end = min(start + Self.block, n)
      if start > 0 {
        // A[start…, start ..< end] -= L[start…, …start] · L[start ..< end, …start]ᵀ
        let left = try copy(a, n, rows: start..<n, columns: 0..<start)
        let right = try turned(a, n, rows: start..<end, columns: 0..<start)
        let product = try products(left, right)
        product.withElements(Double.self) { product in
          for row in start..<n {
            for column in start..<end { a[row * n + column] -= product[(row - start) * (end - start) + column - start] }
          }
        }
      }
      guard factorizeDiagonal(&a, n, start..<end) else { return false }
      solveBelow(&a, n, start..<end)
    }
    return true
  }

  private func factorizeDiagonal(_ a: inout [Double], _ n: Int, _ range: Range<Int>) -> Bool {
    for column in range {
      var pivot = a[column * n + column]
      for k in range.lowerBound..<column { pivot -= a[column * n + k] * a[column * n + k] }
      guard pivot > 0, pivot.isFinite else { return false }
      let root = pivot.squareRoot()
      a[column * n + column] = root
      for row in column + 1..<max(range.upperBound, column + 1) {
        var sum = a[row * n + column]
        for k in range.lowerBound..<column { sum -= a[row * n + k] * a[column * n + k] }
        a[row * n + column] = sum / root
      }
    }
    return true
  }

  /// The rows below a diagonal block times the inverse of its transpose: each row by itself.
  private func solveBelow(_ a: inout [Double], _ n: Int, _ range: Range<Int>) {
    let parts = RowParts(rows: n - range.upperBound)
    a.withUnsafeMutableBufferPointer { a in
      // Parts write to different rows, and read the block above.
      guard let base = a.baseAddress else { return }
      pool.run(parts: parts.count) { part in
        for row in parts.range(part) {
          let target = base + (range.upperBound + row) * n
          for column in range {
            let factor = base + column * n
            var sums = SIMD4<Double>.zero
            var k = range.lowerBound
            while k + 4 <= column {
              sums +=
                UnsafeRawPointer(target + k).loadUnaligned(as: SIMD4<Double>.self)
                * UnsafeRawPointer(factor + k).loadUnaligned(as: SIMD4<Double>.self)
              k += 4
            }
            var sum = target[column] - sums.sum()
            while k < column {
              sum -= target[k] * factor[k]
              k += 1
            }
            target[column] = sum / factor[column]
          }
        }
      }
    }
  }

  /// Replaces the lower triangle L by its inverse, block row by block row.
  private func invert(_ a: inout [Double], _ n: Int) throws(CompressionError) {
    for start in stride(from: 0, to: n, by: Self.block) {
      let end = min(start + Self.block, n)
      invertDiagonal(&a, n, start..<end)
      if start == 0 { continue }
      // X[start ..< end, …start] = -X[block] · (L[start ..< end, …start] · X[…start, …start])
      let below = try copy(a, n, rows: start..<end, columns: 0..<start)
      let above = try copy(a, n, rows: 0..<start, columns: 0..<start, isLower: true)
      let diagonal = try copy(a, n, rows: start..<end, columns: start..<end, isLower: true)
      let product = try products(diagonal, try products(below, above))
      product.withElements(Double.self) { product in
        for row in start..<end {
          for column in 0..<start { a[row * n + column] = -product[(row - start) * start + column] }
        }
      }
    }
  }

  private func invertDiagonal(_ a: inout [Double], _ n: Int, _ range: Range<Int>) {
    for row in range {
      let inverse = 1 / a[row * n + row]
      for column in range.lowerBound..<row {
        var sum = 0.0
        for k in column..<row { sum += a[row * n + k] * a[k * n + column] }
        a[row * n + column] = -sum * inverse
      }
      a[row * n + row] = inverse
    }
  }

  /// `isLower`: with zeros above the diagonal.
  private func copy(
    _ a: [Double], _ n: Int, rows: Range<Int>, columns: Range<Int>, isLower: Bool = false
  ) throws(CompressionError) -> Tensor {
    try Tensor.matrix(rows.count, columns.count) { (target: UnsafeMutablePointer<Double>) in
      for row in 0..<rows.count {
        for column in 0..<columns.count {
          let isZero = isLower && column > row
          target[row * columns.count + column] =
            isZero ? 0 : a[(rows.lowerBound + row) * n + columns.lowerBound + column]
        }
      }
    }
  }

  private func turned(
    _ a: [Double], _ n: Int, rows: Range<Int>, columns: Range<Int>
  ) throws(CompressionError) -> Tensor {
    try Tensor.matrix(columns.count, rows.count) { (target: UnsafeMutablePointer<Double>) in
      for row in 0..<rows.count {
        for column in 0..<columns.count {
          target[column * rows.count + row] = a[(rows.lowerBound + row) * n + columns.lowerBound + column]
        }
      }
    }
  }
}
