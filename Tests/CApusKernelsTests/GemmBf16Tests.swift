// The bfloat16 GEMM against sums of rounded operands in double precision; its epilogue and its splits against itself.

import CApusKernels
import Testing

/// One product with everything it needs in memory.
private struct Problem {
  let m, n, taps, kc, lda: Int
  let isIndirect: Bool
  let a, b, zeros, bias, add: Buffer<Float>
  let offsets: Buffer<Int32>
  let packed: Buffer<UInt16>
  let panels: Int

  init(_ kernels: Kernels, m: Int, n: Int, taps: Int, kc: Int, isIndirect: Bool, numbers: inout Numbers) {
    let taps = isIndirect ? taps : 1
    (self.m, self.n, self.taps, self.kc, self.isIndirect) = (m, n, taps, kc, isIndirect)
    lda = kc + 2
    a = numbers.floats(max(0, m * lda - 2))
    b = numbers.floats(taps * kc * n)
    bias = numbers.floats(n)
    add = numbers.floats(m * n)
    zeros = Buffer(kc, repeating: 0)
    let stride = lda
    offsets = Buffer(isIndirect ? m * taps : 0) { _ in
      numbers.below(5) == 0 ? Int32.min : Int32(numbers.below(m) * stride)
    }
    let nr = kernels.gemm_bf16_nr
    panels = apus_gemm_panels(n, nr)
    packed = Buffer(apus_gemm_bf16_packed_count(taps, kc, n, nr), repeating: 0)
    let panelCount = apus_gemm_bf16_panel_count(taps, kc, nr)
    for panel in 0..<panels {
      for tap in 0..<taps {
        let rows = Buffer<Float>(kc * nr) { index in
          let (k, column) = (index / nr, panel * nr + index % nr)
          return column < n ? b[(tap * kc + k) * n + column] : 0
        }
        let place = panel * panelCount + tap * ((kc + 1) / 2 * 2) * nr
        kernels.gemm_bf16_pack(kc, rows.pointer, packed.base + place)
      }
    }
  }

  func multiply(_ kernels: Kernels, _ c: Buffer<Float>, ldc: Int, _ activation: apus_activation, rows: Range<Int>) {
    var arguments = apus_gemm_f32_args(
      a: a.base, lda: lda, offsets: isIndirect ? offsets.pointer : nil, zeros: zeros.pointer, taps: taps, kc: kc, n: n,
      b: UnsafeRawPointer(packed.base).assumingMemoryBound(to: Float.self), c: c.base, ldc: ldc,
      epilogue: apus_epilogue_f32(
        bias: bias.pointer, add: add.pointer, add_ld: n, activation: activation, alpha: -0.5, beta: 0.5), row_bias: nil)
    let cut = panels / 2
    kernels.gemm_bf16(&arguments, rows.lowerBound, rows.upperBound, 0, cut)
    kernels.gemm_bf16(&arguments, rows.lowerBound, rows.upperBound, cut, panels)
  }

  /// The exact sum of rounded operands and the sum of magnitudes, which bounds its rounding error.
  func reference(_ row: Int, _ column: Int) -> (sum: Double, size: Double) {
    var (sum, size) = (Double(bias[column]) + Double(add[row * n + column]), 2.0)
    for tap in 0..<taps {
      let offset = isIndirect ? Int(offsets[row * taps + tap]) : row * lda
      if offset == Int(Int32.min) { continue }
      for k in 0..<kc {
        let product = Double(rounded(a[offset + k])) * Double(rounded(b[(tap * kc + k) * n + column]))
        sum += product
        size += product.magnitude
      }
    }
    return (sum, size)
  }
}

/// The nearest bfloat16, ties to even, of a finite number.
private func rounded(_ x: Float) -> Float {
  let bits = x.bitPattern
  return Float(bitPattern: (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

@Suite struct GemmBf16Tests {
  @Test(arguments: levels.indices) func matchesRoundedOperandsInDoublePrecision(level: Int) {
    let kernels = levels[level]
    var numbers = Numbers(level + 1)
    for trial in 0..<60 {
      let (m, n) = (1 + numbers.below(70), 1 + numbers.below(140))
      let kc = [0, 1, 2, 3, 21, 31, 32, 33, 64, 200, 513, 1100][trial % 12]
      let p = Problem(
        kernels, m: m, n: n, taps: 1 + numbers.below(10), kc: kc, isIndirect: trial % 2 == 0, numbers: &numbers)
      let ldc = n + 3
      let c = Buffer<Float>(m * ldc, repeating: 777)
      p.multiply(kernels, c, ldc: ldc, APUS_ACTIVATION_NONE, rows: 0..<m)
      var worst = 0.0
      for row in 0..<m {
        for column in 0..<n {
          let (sum, size) = p.reference(row, column)
          worst = max(worst, (Double(c[row * ldc + column]) - sum).magnitude / size)
        }
        for column in n..<ldc { #expect(c[row * ldc + column] == 777, "\(kernels.label) wrote past a row") }
      }
      #expect(worst < 1e-6, "\(kernels.label) \(m)x\(n) taps \(p.taps) kc \(kc)")
    }
  }

  /// Any cut into rows has the bits of the whole, with the activation fused or behind it.
  @Test(arguments: levels.indices) func splitsAndFusionChangeNoBit(level: Int) {
    let kernels = levels[level]
    var numbers = Numbers(7)
    let activations: [(apus_activation, String)] = [
      (APUS_ACTIVATION_NONE, ""), (APUS_ACTIVATION_RELU, "relu"), (APUS_ACTIVATION_CLIP, "clip"),
      (APUS_ACTIVATION_TANH, "tanh"), (APUS_ACTIVATION_GELU, "gelu"),
    ]
    for (index, (activation, name)) in activations.enumerated() {
      for (m, n, kc) in [(1, 300, 40), (37, 129, 700), (64, 8, 21)] {
        let p = Problem(
          kernels, m: m, n: n, taps: 2, kc: kc, isIndirect: index % 2 == 0, numbers: &numbers)
        let whole = Buffer<Float>(m * n, repeating: 0)
        let parts = Buffer<Float>(m * n, repeating: 0)
        p.multiply(kernels, whole, ldc: n, APUS_ACTIVATION_NONE, rows: 0..<m)
        // Machines without the instructions have the portable kernel, activations included.
        let isNative = kernels.features & APUS_FEATURES_BF16_PRODUCTS.rawValue != 0
        let activate = unary(isNative ? kernels : levels[0], name)
        activate?(m * n, whole.base, whole.base, [-0.5, 0.5])
        var row = 0
        while row < m {
          let end = min(m, row + 1 + numbers.below(20))
          p.multiply(kernels, parts, ldc: n, activation, rows: row..<end)
          row = end
        }
        #expect(same(whole.array, parts.array), "\(kernels.label) \(name) \(m)x\(n)")
      }
    }
  }

  /// NaN and infinities of A reach their row, and no other.
  @Test(arguments: levels.indices) func specialNumbers(level: Int) {
    let kernels = levels[level]
    var numbers = Numbers(9)
    let p = Problem(kernels, m: 20, n: 40, taps: 1, kc: 50, isIndirect: false, numbers: &numbers)
    // Half a step beyond the largest bfloat16 is infinite, too; signalling NaN stays NaN.
    let specials: [Float] = [.nan, .infinity, -.infinity, .greatestFiniteMagnitude, Float(bitPattern: 0x7f80_0001)]
    for (index, value) in specials.enumerated() { p.a[index * 3 * p.lda + 7] = value }
    let c = Buffer<Float>(20 * 40, repeating: 0)
    p.multiply(kernels, c, ldc: 40, APUS_ACTIVATION_NONE, rows: 0..<20)
    for row in 0..<20 {
      let isSpecial = row % 3 == 0 && row / 3 < specials.count
      for column in 0..<40 {
        let value = c[row * 40 + column]
        #expect(value.isFinite != isSpecial, "\(kernels.label) row \(row)")
        if row == 0 || row == 12 { #expect(value.isNaN) }
        if row == 3 || row == 9 { #expect(value == (p.b[7 * 40 + column] > 0 ? .infinity : -.infinity)) }
      }
    }
  }

  /// What an earlier product left in memory does not reach the sums: where a row ends within a step, zeros follow.
  @Test(arguments: levels.indices) func restOfAStep(level: Int) {
    let kernels = levels[level]
    var numbers = Numbers(10)
    let before = Problem(kernels, m: 32, n: 40, taps: 1, kc: 512, isIndirect: false, numbers: &numbers)
    for index in 0..<before.a.count { before.a[index] = .nan }
    for (taps, kc) in [(1, 50), (1, 33), (2, 24), (3, 24), (3, 7), (1, 300)] {
      let p = Problem(kernels, m: 20, n: 40, taps: taps, kc: kc, isIndirect: taps > 1, numbers: &numbers)
      let c = Buffer<Float>(32 * 40, repeating: 0)
      before.multiply(kernels, c, ldc: 40, APUS_ACTIVATION_NONE, rows: 0..<32)
      #expect(c.array.allSatisfy { $0.isNaN }, "\(kernels.label)")
      p.multiply(kernels, c, ldc: 40, APUS_ACTIVATION_NONE, rows: 0..<20)
      #expect(c.array[..<(20 * 40)].allSatisfy { $0.isFinite }, "\(kernels.label) \(taps) taps of \(kc)")
    }
  }
}
