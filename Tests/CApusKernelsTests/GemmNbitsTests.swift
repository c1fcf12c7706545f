// Products with weights of few bits: the weights against their definition, the products against gemm_f32 on them.

import CApusKernels
import Testing

/// One matrix of weights in panels.
private struct Weights {
  let k, n, block, bits, panels, width: Int
  let codes, scales, floatZeros: Buffer<Float>
  let zeros: Buffer<UInt8>
  /// Zero points: 0: the middle of the range; 1: bytes; 2: floats. 3: a table, for 4 bits.
  let kind: Int
  let table: Buffer<Float>

  private var blocks: Int { (k + block - 1) / block }
  private var words: Int { block * bits / 32 }

  init(_ kernels: Kernels, k: Int, n: Int, block: Int, bits: Int, kind: Int, numbers: inout Numbers) {
    (self.k, self.n, self.block, self.bits, self.kind) = (k, n, block, bits, kind)
    width = kernels.gemm_f32_nr
    panels = apus_gemm_panels(n, width)
    let count = panels * ((k + block - 1) / block) * width
    codes = Buffer(count * block * bits / 32) { _ in Float(bitPattern: UInt32(truncatingIfNeeded: numbers.next())) }
    scales = numbers.floats(count)
    floatZeros = numbers.floats(count, scale: 9)
    zeros = Buffer(count) { _ in UInt8(numbers.below(1 << bits)) }
    table = numbers.floats(16)
  }

  var arguments: apus_nbits_weights {
    apus_nbits_weights(
      k: k, n: n, block: block, bits: UInt32(bits), codes: codes.pointer, scales: scales.pointer,
      zeros: kind == 1 ? zeros.pointer : nil, float_zeros: kind == 2 ? floatZeros.pointer : nil,
      table: kind == 3 ? table.pointer : nil)
  }

  func scale(_ depth: Int, _ column: Int) -> Float {
    scales[(column / width * blocks + depth / block) * width + column % width]
  }

  func weight(_ depth: Int, _ column: Int) -> Float {
    let (panel, lane) = column.quotientAndRemainder(dividingBy: width)
    let (index, place) = depth.quotientAndRemainder(dividingBy: block)
    let group = (panel * blocks + index) * width + lane
    let word = codes[((panel * blocks + index) * words + place * bits / 32) * width + lane].bitPattern
    if kind == 3 { return table[Int(word >> UInt32((place ^ 1) * bits % 32) & 15)] * scales[group] }
    let code = word >> UInt32(place * bits % 32) & (1 << UInt32(bits) - 1)
    let zero: Float = [Float(1 << (bits - 1)), Float(zeros[group]), floatZeros[group]][kind]
    return (Float(code) - zero) * scales[group]
  }
}

@Suite struct GemmNbitsTests {
  @Test(arguments: levels.indices) func hasTheBitsOfGemmF32(level: Int) {
    let kernels = levels[level]
    var numbers = Numbers(11)
    for trial in 0..<240 {
      let (m, n, k) = (numbers.below(11), 1 + numbers.below(140), 1 + numbers.below(150))
      let bits = 2 << (trial % 3)
      let weights = Weights(
        kernels, k: k, n: n, block: 16 << numbers.below(4), bits: bits, kind: trial / 3 % (bits == 4 ? 4 : 3),
        numbers: &numbers)
      let label = "\(kernels.label) \(m)x\(n)x\(k) block \(weights.block) bits \(weights.bits) kind \(weights.kind)"
      var source = weights.arguments
      let packed = Buffer<Float>(weights.panels * k * weights.width, repeating: .nan)
      let cut = numbers.below(weights.panels + 1)
      kernels.nbits_panels(&source, packed.base, 0, cut)
      kernels.nbits_panels(&source, packed.base + cut * k * weights.width, cut, weights.panels)
      var isExact = true
      for column in 0..<n {
        for depth in 0..<k {
          let place = (column / weights.width * k + depth) * weights.width + column % weights.width
          isExact = isExact && same(packed[place], weights.weight(depth, column))
        }
      }
      #expect(isExact, "\(label)")

      let a = numbers.floats(m * (k + 3))
      if m > 1 { a[k + 3] = trial % 2 == 0 ? .infinity : .nan }
      let bias = trial % 2 == 0 ? numbers.floats(n) : nil
      let (expected, found) = (Buffer<Float>(m * (n + 2), repeating: 7), Buffer<Float>(m * (n + 2), repeating: 7))
      var wide = apus_gemm_f32_args(
        a: a.base, lda: k + 3, offsets: nil, zeros: nil, taps: 1, kc: k, n: n, b: packed.base, c: expected.base,
        ldc: n + 2,
        epilogue: apus_epilogue_f32(
          bias: bias?.pointer, add: nil, add_ld: 0, activation: APUS_ACTIVATION_NONE, alpha: 0, beta: 0), row_bias: nil)
      kernels.gemm_f32(&wide, 0, m, 0, weights.panels)
      var args = apus_gemm_nbits_args(
        weights: source, a: a.base, lda: k + 3, c: found.base, ldc: n + 2, bias: bias?.pointer)
      let (row, panel) = (numbers.below(m + 1), numbers.below(weights.panels + 1))
      for rows in [0..<row, row..<m] {
        kernels.gemm_nbits(&args, rows.lowerBound, rows.upperBound, 0, panel)
        kernels.gemm_nbits(&args, rows.lowerBound, rows.upperBound, panel, weights.panels)
      }
      #expect(same(expected.array, found.array), "\(label)")
    }
  }

  /// The rounding of rows by its definition, and products of what it gives in double precision.
  @Test(arguments: levels.indices) func productsOfRowsOfBytes(level: Int) {
    let kernels = levels[level]
    var numbers = Numbers(12)
    for trial in 0..<120 {
      let (m, n, k) = (1 + numbers.below(9), 1 + numbers.below(140), 1 + numbers.below(200))
      let weights = Weights(
        kernels, k: k, n: n, block: 16 << numbers.below(4), bits: 2 << (trial % 3), kind: trial / 3 % 3,
        numbers: &numbers)
      let label = "\(kernels.label) \(m)x\(n)x\(k) block \(weights.block) bits \(weights.bits) kind \(weights.kind)"
      let (blocks, quads) = ((k + weights.block - 1) / weights.block, 8 / weights.bits)
      let a = numbers.floats(m * k, scale: 3)
      let rows = Buffer<Int8>(m * blocks * weights.block, repeating: 99)
      let (scales, sums) = (Buffer<Float>(m * blocks, repeating: .nan), Buffer<Int32>(m * blocks, repeating: 99))
      for row in 0..<m {
        let made = kernels.nbits_row(
          k, weights.block, UInt32(weights.bits), a.base + row * k, rows.base + row * blocks * weights.block,
          scales.base + row * blocks, sums.base + row * blocks)
        #expect(made, "\(label)")
      }
      /// The number that stands for (row, depth).
      func number(_ row: Int, _ depth: Int) -> Int {
        let (block, place) = depth.quotientAndRemainder(dividingBy: weights.block)
        let (word, code) = place.quotientAndRemainder(dividingBy: 4 * quads)
        return Int(rows[(row * blocks + block) * weights.block + word * 4 * quads + code % quads * 4 + code / quads])
      }
      var isNear = true
      for row in 0..<m {
        for depth in 0..<k {
          let scale = scales[row * blocks + depth / weights.block]
          isNear = isNear && abs(Float(number(row, depth)) * scale - a[row * k + depth]) <= scale * 0.5001
        }
      }
      #expect(isNear, "\(label)")

      let bias = trial % 2 == 0 ? numbers.floats(n) : nil
      let c = Buffer<Float>(m * (n + 1), repeating: 7)
      var args = apus_gemm_nbits_i8_args(
        weights: weights.arguments, rows: rows.pointer, row_scales: scales.pointer, row_sums: sums.pointer, c: c.base,
        ldc: n + 1, bias: bias?.pointer)
      let (row, panel) = (numbers.below(m + 1), numbers.below(weights.panels + 1))
      for part in [0..<row, row..<m] {
        kernels.gemm_nbits_i8(&args, part.lowerBound, part.upperBound, 0, panel)
        kernels.gemm_nbits_i8(&args, part.lowerBound, part.upperBound, panel, weights.panels)
      }
      var worst = 0.0
      for row in 0..<m {
        for column in 0..<n {
          var (sum, size) = (Double(bias?[column] ?? 0), 1.0)
          for depth in 0..<k {
            let scale = Double(scales[row * blocks + depth / weights.block])
            let term = Double(number(row, depth)) * scale * Double(weights.weight(depth, column))
            sum += term
            size += abs(Double(number(row, depth)) * scale * Double(weights.scale(depth, column))) * 256
          }
          worst = max(worst, abs(sum - Double(c[row * (n + 1) + column])) / size)
        }
        #expect(c[row * (n + 1) + n] == 7, "\(label) wrote past a row")
      }
      #expect(worst < 1e-6, "\(label)")
    }
  }

  @Test(arguments: levels.indices) func rowsThatBytesCannotHold(level: Int) {
    let kernels = levels[level]
    let (row, scales, sums) = (
      Buffer<Int8>(64, repeating: 0), Buffer<Float>(2, repeating: 0), Buffer<Int32>(2, repeating: 0)
    )
    for (value, isHeld) in [(1, true), (.infinity, false), (.nan, false), (0x1p101, false)] as [(Float, Bool)] {
      let a = Buffer<Float>(40) { $0 == 37 ? value : 0.5 }
      #expect(kernels.nbits_row(40, 32, 4, a.base, row.base, scales.base, sums.base) == isHeld)
    }
    let tiny = Buffer<Float>(40, repeating: 1e-40)
    #expect(!kernels.nbits_row(40, 32, 4, tiny.base, row.base, scales.base, sums.base))
    let zero = Buffer<Float>(40, repeating: 0)
    #expect(kernels.nbits_row(40, 32, 4, zero.base, row.base, scales.base, sums.base))
    #expect(scales.array == [0, 0] && sums.array == [0, 0])
  }
}
