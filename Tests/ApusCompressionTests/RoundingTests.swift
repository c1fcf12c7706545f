// Codes, scales and zero points: against searches that try everything, and against arithmetic in double.

import ApusCompression
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct RoundingTests {
  private let pool = WorkerPool(threads: 2)

  private func numbers(_ count: Int, seed: Int) -> [Float] {
    sampleTensor([count], seed: seed).elements(as: Float.self) ?? []
  }

  /// Σ (w - ŵ)² of one row.
  private func error(_ weights: [Float], _ matrix: QuantizedMatrix) -> Double {
    zip(weights, matrix.dequantized()).reduce(0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
  }

  @Test(arguments: [(2, false), (2, true), (4, false), (4, true), (8, false), (8, true)])
  func nearestIsCloseToTheBestScale(_ bits: Int, _ hasZeroPoints: Bool) {
    for seed in 1...6 {
      let weights = numbers(32, seed: seed)
      let grid = WeightGrid(rows: 1, depth: 32, bits: bits, block: 32, hasZeroPoints: hasZeroPoints)
      let found = QuantizedMatrix(nearest: weights, grid, on: pool)
      // Every scale on a fine lattice, with every zero point.
      var best = Double.infinity
      let largest = weights.map { abs($0) }.max() ?? 0
      for zero in hasZeroPoints ? Array(0...grid.maximum) : [Int(grid.middle)] {
        for step in 20...400 {
          for sign in [Float(1), -1] {
            let scale = sign * largest * Float(step) / 100 / Float(grid.maximum)
            var sum = 0.0
            for weight in weights {
              let code = min(max((weight / scale).rounded() + Float(zero), 0), Float(grid.maximum))
              let rest = Double(weight - (code - Float(zero)) * scale)
              sum += rest * rest
            }
            best = min(best, sum)
          }
        }
        if bits == 8, hasZeroPoints, zero > 140 { break }
      }
      #expect(error(weights, found) <= best * (bits == 8 ? 2.5 : 1.35), "\(bits) bits, seed \(seed)")
      for (code, zero) in zip(found.codes, found.zeros) { #expect(Int(max(code, zero)) <= grid.maximum) }
    }
  }

  @Test func extremeBlocks() {
    let grid = WeightGrid(rows: 5, depth: 20, bits: 4, block: 16, hasZeroPoints: true)
    var weights = [Float](repeating: 0, count: 100)
    for index in 20..<40 { weights[index] = 3 }
    for index in 40..<60 { weights[index] = index == 50 ? 1e30 : -1e-30 }
    for index in 60..<80 { weights[index] = -0.25 }
    weights[95] = .leastNonzeroMagnitude
    for hasZeroPoints in [true, false] {
      let grid = WeightGrid(rows: 5, depth: 20, bits: grid.bits, block: grid.block, hasZeroPoints: hasZeroPoints)
      for matrix in [
        QuantizedMatrix(nearest: weights, grid, on: pool), QuantizedMatrix(halfQuadratic: weights, grid, on: pool),
      ] {
        let result = matrix.dequantized()
        #expect(result[..<20].allSatisfy { $0 == 0 })
        #expect(result[20..<40].allSatisfy { abs($0 - 3) < 1e-4 })
        #expect(result[60..<80].allSatisfy { abs($0 + 0.25) < 1e-5 })
        #expect(result.allSatisfy { $0.isFinite })
      }
    }
  }

  @Test func halfQuadraticLeavesLessOfItsError() {
    var weights = numbers(64 * 64, seed: 3)
    for index in stride(from: 0, to: weights.count, by: 97) { weights[index] *= 8 }
    let grid = WeightGrid(rows: 64, depth: 64, bits: 4, block: 64, hasZeroPoints: true)
    func loss(_ matrix: QuantizedMatrix) -> Float {
      zip(weights, matrix.dequantized()).reduce(0) { $0 + powerOf7Tenths(abs($1.0 - $1.1)) }
    }
    let nearest = QuantizedMatrix(nearest: weights, grid, on: pool)
    let solved = QuantizedMatrix(halfQuadratic: weights, grid, on: pool)
    #expect(loss(solved) < loss(nearest))
  }

  private func powerOf7Tenths(_ number: Float) -> Float {
    // x^0.7 = (x^7)^0.1 by halving: close enough to compare sums.
    var (low, high) = (Float(0), max(1, number))
    for _ in 0..<60 {
      let middle = (low + high) / 2
      var power = middle
      for _ in 1..<10 { power *= middle }
      var seventh = number
      for _ in 1..<7 { seventh *= number }
      if power < seventh { low = middle } else { high = middle }
    }
    return low
  }

  /// X·Xᵀ of correlated columns, and weights [rows, depth].
  private func problem(_ rows: Int, _ depth: Int, seed: Int) -> (weights: [Float], moments: [Float]) {
    let samples = 2 * depth
    let (raw, common) = (numbers(samples * depth, seed: seed), numbers(samples, seed: seed + 50))
    var moments = [Float](repeating: 0, count: depth * depth)
    for sample in 0..<samples {
      let x = (0..<depth).map { raw[sample * depth + $0] + 2 * common[sample] * Float($0 % 3) }
      for i in 0..<depth { for j in 0..<depth { moments[i * depth + j] += x[i] * x[j] } }
    }
    return (numbers(rows * depth, seed: seed + 1), moments)
  }

  private func loss(_ weights: [Float], _ matrix: QuantizedMatrix, _ moments: [Float]) -> Double {
    let (depth, numbers) = (matrix.grid.depth, matrix.dequantized())
    var total = 0.0
    for row in 0..<matrix.grid.rows {
      let rest = (0..<depth).map { Double(weights[row * depth + $0] - numbers[row * depth + $0]) }
      for i in 0..<depth { for j in 0..<depth { total += rest[i] * rest[j] * Double(moments[i * depth + j]) } }
    }
    return total
  }

  @Test(arguments: [(3, 45, 16), (20, 150, 32), (9, 300, 300), (1, 7, 16)])
  func compensationLeavesLess(_ rows: Int, _ depth: Int, _ block: Int) throws {
    let (weights, moments) = problem(rows, depth, seed: rows)
    let optimizer = try RoundingOptimizer(on: pool)
    let grid = WeightGrid(rows: rows, depth: depth, bits: 4, block: block, hasZeroPoints: true)
    let nearest = loss(weights, QuantizedMatrix(nearest: weights, grid, on: pool), moments)
    for ordersByActivation in [false, true] {
      var options = RoundingOptimizer.Options()
      options.ordersByActivation = ordersByActivation
      options.sweeps = 0
      let spread = loss(weights, try optimizer.optimize(weights, grid, moments: moments, options).matrix, moments)
      options.sweeps = 3
      let swept = loss(weights, try optimizer.optimize(weights, grid, moments: moments, options).matrix, moments)
      #expect(spread < nearest)
      #expect(swept <= spread * 1.0001)
    }
  }

  /// GPTQ as its paper has it, in double, for one row and scales that are given.
  @Test func compensationIsThatOfThePaper() throws {
    let depth = 40
    let (weights, moments) = problem(1, depth, seed: 7)
    let grid = WeightGrid(rows: 1, depth: depth, bits: 4, block: 16, hasZeroPoints: false)
    let scales = QuantizedMatrix(nearest: weights, grid, on: pool)
    var options = RoundingOptimizer.Options()
    (options.sweeps, options.parameters) = (0, scales)
    let found = try RoundingOptimizer(on: pool).optimize(weights, grid, moments: moments, options).matrix
    let mean = (0..<depth).reduce(0.0) { $0 + Double(moments[$1 * depth + $1]) } / Double(depth)
    var h = moments.map(Double.init)
    for i in 0..<depth { h[i * depth + i] += 0.01 * mean }
    var work = weights.map(Double.init)
    for column in 0..<depth {
      // The inverse of what is left of H, whose first row says how an error is spread.
      let inverse = inverted(h, depth, from: column)
      let (scale, size) = (Double(scales.scales[column / 16]), depth - column)
      let code = min(max((work[column] / scale).rounded(.toNearestOrEven), -8), 7)
      #expect(found.codes[column] == UInt8(code + 8), "column \(column)")
      let error = (work[column] - code * scale) / inverse[0]
      for other in 0..<size { work[column + other] -= error * inverse[other] }
    }
  }

  /// The inverse of the part of a matrix from a row and column on, by Gauss and Jordan.
  private func inverted(_ matrix: [Double], _ depth: Int, from first: Int) -> [Double] {
    let n = depth - first
    var a = (0..<n * n).map { matrix[(first + $0 / n) * depth + first + $0 % n] }
    var b = (0..<n * n).map { $0 / n == $0 % n ? 1.0 : 0 }
    for i in 0..<n {
      let pivot = a[i * n + i]
      for j in 0..<n { (a[i * n + j], b[i * n + j]) = (a[i * n + j] / pivot, b[i * n + j] / pivot) }
      for row in 0..<n where row != i {
        let factor = a[row * n + i]
        for j in 0..<n {
          a[row * n + j] -= factor * a[i * n + j]
          b[row * n + j] -= factor * b[i * n + j]
        }
      }
    }
    return b
  }

  @Test func neighboursOnly() throws {
    let (weights, moments) = problem(6, 64, seed: 11)
    let grid = WeightGrid(rows: 6, depth: 64, bits: 4, block: 32, hasZeroPoints: true)
    let nearest = QuantizedMatrix(nearest: weights, grid, on: pool)
    var options = RoundingOptimizer.Options()
    (options.parameters, options.keepsNeighbours) = (nearest, true)
    let found = try RoundingOptimizer(on: pool).optimize(weights, grid, moments: moments, options).matrix
    #expect(found.scales == nearest.scales && found.zeros == nearest.zeros)
    for (index, (weight, number)) in zip(weights, found.dequantized()).enumerated() {
      let scale = abs(found.scales[index / 32])
      #expect(abs(weight - number) <= scale * 1.001 || [0, 15].contains(found.codes[index]))
    }
    #expect(loss(weights, found, moments) < loss(weights, nearest, moments))
  }

  @Test func momentsWithoutAnInverse() throws {
    let weights = numbers(4 * 24, seed: 2)
    let grid = WeightGrid(rows: 4, depth: 24, bits: 4, block: 16, hasZeroPoints: true)
    let optimizer = try RoundingOptimizer(on: pool)
    let nothing = [Float](repeating: 0, count: 24 * 24)
    #expect(try optimizer.optimize(weights, grid, moments: nothing).matrix.signalToNoise(of: weights) > 15)
    let ones = [Float](repeating: 5, count: 24 * 24)
    #expect(try optimizer.optimize(weights, grid, moments: ones).matrix.dequantized().allSatisfy { $0.isFinite })
    let infinite = [Float](repeating: .infinity, count: 24 * 24)
    #expect(throws: CompressionError.self) { try optimizer.optimize(weights, grid, moments: infinite) }
  }

  @Test func threadsDoNotMatter() throws {
    let (weights, moments) = problem(37, 200, seed: 4)
    let grid = WeightGrid(rows: 37, depth: 200, bits: 4, block: 32, hasZeroPoints: true)
    let one = try RoundingOptimizer(on: WorkerPool(threads: 1)).optimize(weights, grid, moments: moments).matrix
    let two = try RoundingOptimizer(on: pool).optimize(weights, grid, moments: moments).matrix
    #expect(one.codes == two.codes && one.scales == two.scales)
  }
}
