// Row-wise kernels against double precision.

import CApusKernels
import Foundation
import Testing

@Suite struct RowTests {
  private static let lengths = [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 100, 127, 128, 129, 1000]

  private func near(_ got: Float, _ expected: Double, _ tolerance: Double = 2e-6) -> Bool {
    (Double(got) - expected).magnitude <= tolerance * max(1, expected.magnitude)
  }

  @Test(arguments: levels.indices) func reductions(level: Int) {
    let kernels = levels[level]
    var numbers = Numbers(21)
    #expect(
      kernels.sum_f32(0, [0]) == 0 && kernels.max_f32(0, [0]) == -.infinity && kernels.min_f32(0, [0]) == .infinity)
    for n in Self.lengths {
      let x = numbers.floats(n)
      let exact = x.array.map(Double.init)
      let label = "\(kernels.label) n \(n)"
      #expect(near(kernels.sum_f32(n, x.pointer), exact.reduce(0, +), 1e-5), "\(label)")
      #expect(near(kernels.mean_f32(n, x.pointer), exact.reduce(0, +) / Double(n)), "\(label)")
      #expect(near(kernels.sum_abs_f32(n, x.pointer), exact.reduce(0) { $0 + $1.magnitude }), "\(label)")
      #expect(near(kernels.sum_squares_f32(n, x.pointer), exact.reduce(0) { $0 + $1 * $1 }), "\(label)")
      #expect(
        kernels.max_f32(n, x.pointer) == x.array.max() && kernels.min_f32(n, x.pointer) == x.array.min(), "\(label)")
      let moved = Buffer<Float>(n + 1) { $0 == 0 ? 9 : x[$0 - 1] }
      #expect(kernels.sum_f32(n, moved.pointer + 1) == kernels.sum_f32(n, x.pointer), "\(label): address")
      for place in [0, n / 2, n - 1] {
        let y = Buffer<Float>(n) { $0 == place ? .nan : x[$0] }
        #expect(kernels.max_f32(n, y.pointer).isNaN && kernels.min_f32(n, y.pointer).isNaN, "\(label): NaN at \(place)")
      }
    }
  }

  @Test(arguments: levels.indices) func softmax(level: Int) {
    let kernels = levels[level]
    var numbers = Numbers(22)
    for n in Self.lengths {
      for masked in [false, true] {
        let x = numbers.floats(n, scale: 20)
        let mask = numbers.floats(n, scale: 3)
        let y = Buffer<Float>(n, repeating: 0)
        if n > 2 { mask[1] = -.infinity }
        let scale: Float = masked ? 0.125 : 1
        let logits = (0..<n).map { Double(x[$0]) * Double(scale) + (masked ? Double(mask[$0]) : 0) }
        let top = logits.max()!
        let sum = logits.reduce(0) { $0 + exp($1 - top) }
        kernels.softmax_f32(n, x.pointer, y.base, scale, masked ? mask.pointer : nil)
        for i in 0..<n { #expect(near(y[i], exp(logits[i] - top) / sum, 5e-6), "\(kernels.label) n \(n)") }
        let z = Buffer<Float>(n) { x[$0] }
        kernels.softmax_f32(n, z.pointer, z.base, scale, masked ? mask.pointer : nil)
        #expect(same(y.array, z.array), "\(kernels.label) n \(n): in place")
        kernels.log_softmax_f32(n, x.pointer, y.base, scale, masked ? mask.pointer : nil)
        for i in 0..<n where logits[i].isFinite {
          #expect(near(y[i], logits[i] - top - log(sum), 5e-6), "\(kernels.label) n \(n)")
        }
        kernels.log_softmax_f32(n, x.pointer, x.base, scale, masked ? mask.pointer : nil)
        #expect(same(x.array, y.array), "\(kernels.label) n \(n): logarithm in place")
      }
    }
  }

  /// What a mask of -100 leaves is no subnormal number, which whoever multiplies with it would wait for.
  @Test(arguments: levels.indices) func softmaxLeavesNothingSubnormal(level: Int) {
    let kernels = levels[level]
    for n in Self.lengths where n > 1 {
      let x = Buffer<Float>(n) { $0 == 0 ? 0 : -86.5 - Float($0 % 18) }
      let y = Buffer<Float>(n, repeating: 1)
      kernels.softmax_f32(n, x.pointer, y.base, 1, nil)
      #expect((0..<n).allSatisfy { y[$0].isNormal || y[$0] == 0 }, "\(kernels.label) n \(n)")
      #expect(y[0] == 1)
      #expect(near(y[1], 0, 1e-37))
    }
  }

  /// Many lines at once, of neighbours and side by side.
  @Test(arguments: levels.indices) func softmaxOfManyLines(level: Int) {
    let kernels = levels[level]
    var numbers = Numbers(25)
    for n in Self.lengths {
      let count = n % 19 + (n % 2 == 0 ? 1 : 33)
      let x = numbers.floats(count * n, scale: 8)
      if n > 2 { x[1] = -.infinity }
      if n > 3 { x[n + 1] = 60 }
      let line = Buffer<Float>(n, repeating: 0)
      for isLogarithm in [false, true] {
        let one = isLogarithm ? kernels.log_softmax_f32 : kernels.softmax_f32
        let rows = isLogarithm ? kernels.log_softmax_rows_f32 : kernels.softmax_rows_f32
        let columns = isLogarithm ? kernels.log_softmax_columns_f32 : kernels.softmax_columns_f32
        let y = Buffer<Float>(count * n) { x[$0] }
        rows(count, n, y.pointer, y.base)
        let ld = count + 1
        let z = Buffer<Float>(n * ld - 1) { $0 % ld < count ? x[$0 % ld * n + $0 / ld] : 7 }
        columns(n, count, z.pointer, ld, z.base)
        for row in 0..<count {
          one(n, x.pointer + row * n, line.base, 1, nil)
          #expect(same(line.array, Array(y.array[row * n..<(row + 1) * n])), "\(kernels.label) row of \(n)")
          for j in 0..<n {
            let other = z[j * ld + row]
            #expect(other == line[j] || near(other, Double(line[j]), 5e-6), "\(kernels.label) column of \(n)")
          }
        }
        for r in 0..<n - 1 { #expect(z[r * ld + count] == 7, "\(kernels.label) beside \(n)") }
      }
      // A NaN takes its row only.
      let y = Buffer<Float>(2 * n) { $0 == n - 1 ? .nan : 1 }
      kernels.softmax_rows_f32(2, n, y.pointer, y.base)
      #expect((0..<n).allSatisfy { y[$0].isNaN && near(y[n + $0], 1 / Double(n)) }, "\(kernels.label) \(n)")
    }
  }

  @Test(arguments: levels.indices) func normalizations(level: Int) {
    let kernels = levels[level]
    var numbers = Numbers(23)
    for n in Self.lengths {
      let x = numbers.floats(n)
      let scale = numbers.floats(n)
      let bias = numbers.floats(n)
      let exact = x.array.map(Double.init)
      let y = Buffer<Float>(n, repeating: 0)
      let statistics = Buffer<Float>(2, repeating: 0)
      let mean = exact.reduce(0, +) / Double(n)
      let inverse = 1 / (exact.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(n) + 1e-3).squareRoot()
      kernels.layer_norm_f32(n, x.pointer, y.base, scale.pointer, bias.pointer, 1e-3, statistics.base)
      #expect(near(statistics[0], mean) && near(statistics[1], inverse, 1e-5), "\(kernels.label) n \(n)")
      for i in 0..<n {
        #expect(
          near(y[i], (exact[i] - mean) * inverse * Double(scale[i]) + Double(bias[i]), 2e-5), "\(kernels.label) n \(n)")
      }
      let root = (exact.reduce(0) { $0 + $1 * $1 } / Double(n) + 1e-3).squareRoot()
      kernels.moments_f32(n, x.pointer, statistics.base)
      #expect(
        near(statistics[0], mean) && near(statistics[1], 1 / (inverse * inverse) - 1e-3, 1e-5),
        "\(kernels.label) n \(n)")
      for each in [false, true] {
        kernels.affine_f32(n, x.pointer, y.base, bias.pointer, scale.pointer, scale.pointer, each)
        for i in 0..<n {
          let (center, factor) = (Double(bias[each ? i : 0]), Double(scale[each ? i : 0]))
          #expect(near(y[i], (exact[i] - center) * factor + factor), "\(kernels.label) n \(n)")
        }
      }
      kernels.rms_norm_f32(n, x.pointer, x.base, scale.pointer, 1e-3)
      for i in 0..<n { #expect(near(x[i], exact[i] / root * Double(scale[i]), 1e-5), "\(kernels.label) n \(n)") }
    }
  }

  @Test(arguments: levels.indices) func rotations(level: Int) {
    var numbers = Numbers(27)
    for pairs in [0, 1, 3, 4, 7, 8, 15, 16, 17, 32, 40, 64, 67] {
      for isInterleaved in [false, true] {
        let x = numbers.floats(2 * pairs)
        let angles = (0..<pairs).map { Double($0) * 0.37 - 3 }
        let cosines = Buffer<Float>(pairs) { Float(cos(angles[$0])) }
        let sines = Buffer<Float>(pairs) { Float(sin(angles[$0])) }
        let y = Buffer<Float>(2 * pairs, repeating: 7)
        levels[level].rotate_f32(pairs, x.pointer, y.base, cosines.pointer, sines.pointer, isInterleaved)
        for i in 0..<pairs {
          let (a, b) = isInterleaved ? (2 * i, 2 * i + 1) : (i, pairs + i)
          let (c, s) = (Double(cosines[i]), Double(sines[i]))
          let label = "\(levels[level].label) \(pairs) \(isInterleaved)"
          #expect(abs(Double(y[a]) - (c * Double(x[a]) - s * Double(x[b]))) < 2e-7, "\(label)")
          #expect(abs(Double(y[b]) - (s * Double(x[a]) + c * Double(x[b]))) < 2e-7, "\(label)")
        }
        let result = y.array
        levels[level].rotate_f32(pairs, x.pointer, x.base, cosines.pointer, sines.pointer, isInterleaved)
        #expect(x.array == result, "in place")
      }
    }
  }

  @Test(arguments: levels.indices) func columns(level: Int) {
    let kernels = levels[level]
    var numbers = Numbers(24)
    for (rows, n) in [(0, 3), (1, 1), (3, 17), (4, 16), (49, 33), (50, 5)] {
      let ld = n + 1
      let x = numbers.floats(max(0, rows * ld - 1))
      let y = Buffer<Float>(n, repeating: 5)
      kernels.column_sums_f32(rows, n, x.pointer, ld, y.base)
      let sums = (0..<n).map { j in (0..<rows).reduce(0.0) { $0 + Double(x[$1 * ld + j]) } }
      for j in 0..<n { #expect(near(y[j], sums[j], 1e-5), "\(kernels.label) \(rows)x\(n)") }
      kernels.accumulate_f32(n, y.pointer, y.base)
      for j in 0..<n { #expect(near(y[j], 2 * sums[j], 1e-5), "\(kernels.label) \(rows)x\(n)") }
      guard rows > 0 else { continue }
      kernels.column_means_f32(rows, n, x.pointer, ld, y.base)
      for j in 0..<n { #expect(near(y[j], sums[j] / Double(rows)), "\(kernels.label) \(rows)x\(n)") }
      let part = Buffer<Float>(1, repeating: 0)
      kernels.column_means_f32(rows, 1, x.pointer + n - 1, ld, part.base)
      #expect(part[0] == y[n - 1], "\(kernels.label) \(rows)x\(n): one column")
    }
  }
}
