// Products with weights of few bits: the weights against their definition, the products against gemm_f32 on them.

import CApusKernels
import Testing

/// One matrix of weights in panels.
private struct Weights {
  let k, n, block, bits, panels, width: Int
  let codes, scales, floatZeros: Buffer<Float>
  let zeros: Buffer<UInt8>
  /// 0: the middle of the range; 1: bytes; 2: floats.
  let kind: Int

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
  }

  var arguments: apus_nbits_weights {
    apus_nbits_weights(
      k: k, n: n, block: block, bits: UInt32(bits), codes: codes.pointer, scales: scales.pointer,
      zeros: kind == 1 ? zeros.pointer : nil, float_zeros: kind == 2 ? floatZeros.pointer : nil)
  }

  func weight(_ depth: Int, _ column: Int) -> Float {
    let (panel, lane) = column.quotientAndRemainder(dividingBy: width)
    let (index, place) = depth.quotientAndRemainder(dividingBy: block)
    let group = (panel * blocks + index) * width + lane
    let word = codes[((panel * blocks + index) * words + place * bits / 32) * width + lane].bitPattern
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
      let weights = Weights(
        kernels, k: k, n: n, block: 16 << numbers.below(4), bits: 2 << (trial % 3), kind: trial / 3 % 3,
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
          bias: bias?.pointer, add: nil, add_ld: 0, activation: APUS_ACTIVATION_NONE, alpha: 0, beta: 0))
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
}
