// The float64 GEMM: the sums of its contract, bit for bit, in every layout and however the work is split; and against
// OpenBLAS.

import CApusKernels
import COpenBLAS
import Testing

@Suite struct GemmF64Tests {
  private static let rows = [1, 2, 3, 5, 7, 8, 13, 14, 15, 29]
  private static let columns = [1, 3, 4, 7, 8, 9, 15, 16, 17, 33]
  /// Around the depth of a block, which is 256 products or a power of two below.
  private static let depths = [0, 1, 2, 5, 127, 128, 129, 255, 257, 513]

  @Test(arguments: levels.indices) func sumsInAscendingOrder(level: Int) {
    let kernels = levels[level]
    var numbers = Numbers(level)
    for (index, m) in Self.rows.enumerated() {
      for (shift, n) in Self.columns.enumerated() {
        let k = Self.depths[(index + shift) % Self.depths.count]
        let a = Buffer<Double>(m * k) { _ in Double(numbers.float()) }
        let b = Buffer<Double>(k * n) { _ in Double(numbers.float()) }
        let (transposesA, transposesB) = (index % 2 == 1, shift % 3 == 1)
        let ldc = n + 1
        let c = Buffer<Double>(m * ldc, repeating: .nan)
        var arguments = apus_gemm_f64_args(
          a: a.base, a_row: transposesA ? 1 : k, a_depth: transposesA ? m : 1,
          b: b.base, b_depth: transposesB ? 1 : n, b_column: transposesB ? k : 1, c: c.base, ldc: ldc, k: k)
        let (row, column) = (numbers.below(m + 1), numbers.below(n + 1))
        kernels.gemm_f64(&arguments, 0, row, 0, n)
        kernels.gemm_f64(&arguments, row, m, 0, column)
        kernels.gemm_f64(&arguments, row, m, column, n)
        #expect(
          c.array.map(\.bitPattern) == expected(kernels, arguments, m, n, ldc: ldc).map(\.bitPattern),
          "\(kernels.label) m \(m) n \(n) k \(k), transposed \(transposesA) \(transposesB)")
      }
    }
  }

  @Test(arguments: levels.indices) func agreesWithOpenBLAS(level: Int) {
    let kernels = levels[level]
    var numbers = Numbers(level)
    for (m, n, k) in [(1, 1, 1), (7, 9, 31), (64, 48, 300), (33, 130, 257)] {
      let a = Buffer<Double>(m * k) { _ in Double(numbers.float()) }
      let b = Buffer<Double>(k * n) { _ in Double(numbers.float()) }
      let c = Buffer<Double>(m * n, repeating: .nan)
      let oracle = Buffer<Double>(m * n, repeating: .nan)
      var arguments = apus_gemm_f64_args(
        a: a.base, a_row: k, a_depth: 1, b: b.base, b_depth: n, b_column: 1, c: c.base, ldc: n, k: k)
      kernels.gemm_f64(&arguments, 0, m, 0, n)
      cblas_dgemm(
        CblasRowMajor, CblasNoTrans, CblasNoTrans, Int32(m), Int32(n), Int32(k), 1, a.base, Int32(k), b.base, Int32(n),
        0,
        oracle.base, Int32(n))
      // Both sum k products of numbers below 1, in orders of their own.
      let bound = Double(k) * Double.ulpOfOne * 2
      let largest = zip(c.array, oracle.array).map { abs($0 - $1) }.max() ?? .infinity
      #expect(largest <= bound, "\(kernels.label) m \(m) n \(n) k \(k): \(largest)")
    }
  }

  /// The sums one term at a time; what lies between the rows stays as it was.
  private func expected(_ kernels: Kernels, _ g: apus_gemm_f64_args, _ m: Int, _ n: Int, ldc: Int) -> [Double] {
    // Where a compiler may take fused multiply-adds for granted, the portable level has them.
    #if arch(arm64)
      let isFused = true
    #else
      let isFused = kernels.level != APUS_LEVEL_PORTABLE || levels.count == 1
    #endif
    var result = [Double](repeating: .nan, count: m * ldc)
    for row in 0..<m {
      for column in 0..<n {
        var sum = 0.0
        for i in 0..<Int(g.k) {
          let (x, y) = (g.a[row * g.a_row + i * g.a_depth], g.b[i * g.b_depth + column * g.b_column])
          sum = isFused ? sum.addingProduct(x, y) : sum + x * y
        }
        result[row * ldc + column] = sum
      }
    }
    return result
  }
}
