// The float32 GEMM against sums in double precision; its epilogue and its splits against itself, bit for bit.

import CApusKernels
import Testing

/// One product with everything it needs in memory.
private struct Problem {
  enum Layout: Int, CaseIterable { case rowMajor, transposed, convolution }

  let m, n, taps, kc, lda: Int
  let indirect: Bool
  let source: apus_gemm_source
  let a, b, zeros, bias, add: Buffer<Float>
  let offsets: Buffer<Int32>
  let packed: Buffer<Float>
  let panels: Int

  init(_ kernels: Kernels, m: Int, n: Int, taps: Int, kc: Int, indirect: Bool, layout: Layout, seed: Int) {
    var numbers = Numbers(seed)
    let taps = indirect ? taps : 1
    (self.m, self.n, self.taps, self.kc, self.indirect) = (m, n, taps, kc, indirect)
    lda = kc + 2
    let rows = indirect ? m + 3 : m
    a = numbers.floats(max(0, rows * lda - 2))
    b = numbers.floats(taps * kc * n)
    bias = numbers.floats(n)
    add = numbers.floats(m * n)
    zeros = Buffer(kc, repeating: 0)
    let stride = lda
    offsets = Buffer(indirect ? m * taps : 0) { _ in
      numbers.below(5) == 0 ? Int32.min : Int32(numbers.below(rows) * stride)
    }
    source =
      switch layout {
      case .rowMajor:
        apus_gemm_source(b: b.base, stride_tap: kc * n, stride_k: n, stride_n: 1, taps: taps, kc: kc, n: n)
      case .transposed:
        apus_gemm_source(b: b.base, stride_tap: kc, stride_k: 1, stride_n: taps * kc, taps: taps, kc: kc, n: n)
      case .convolution:
        apus_gemm_source(b: b.base, stride_tap: 1, stride_k: taps, stride_n: taps * kc, taps: taps, kc: kc, n: n)
      }
    panels = apus_gemm_panels(n, kernels.gemm_f32_nr)
    packed = Buffer(apus_gemm_f32_packed_count(taps, kc, n, kernels.gemm_f32_nr), repeating: .nan)
    withUnsafePointer(to: source) {
      for p in 0..<panels { kernels.gemm_f32_pack($0, packed.base, p, p + 1) }
    }
  }

  func arguments(_ c: Buffer<Float>, ldc: Int, epilogue: apus_epilogue_f32) -> apus_gemm_f32_args {
    apus_gemm_f32_args(
      a: a.base, lda: lda, offsets: indirect ? offsets.pointer : nil, zeros: zeros.pointer, taps: taps, kc: kc, n: n,
      b: packed.base, c: c.base, ldc: ldc, epilogue: epilogue, row_bias: nil)
  }

  /// The exact sum and the sum of magnitudes, which bounds its rounding error.
  func reference(_ row: Int, _ column: Int) -> (sum: Double, size: Double) {
    var (sum, size) = (0.0, 0.0)
    for t in 0..<taps {
      let offset = indirect ? Int(offsets[row * taps + t]) : row * lda
      if offset == Int(Int32.min) { continue }
      for k in 0..<kc {
        let element = b[t * source.stride_tap + k * source.stride_k + column * source.stride_n]
        let product = Double(a[offset + k]) * Double(element)
        sum += product
        size += product.magnitude
      }
    }
    return (sum, size)
  }
}

@Suite struct GemmF32Tests {
  private static let rows = [0, 1, 2, 3, 4, 5, 6, 7, 13, 14, 15, 29]
  private static let columns = [0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 40, 63, 64, 65, 129]
  private static let depths = [0, 1, 2, 3, 4, 5, 9, 18]

  @Test(arguments: levels.indices) func matchesDoublePrecision(level: Int) {
    let kernels = levels[level]
    var seed = 0
    for m in Self.rows {
      for n in Self.columns {
        seed += 1
        let p = Problem(
          kernels, m: m, n: n, taps: 1 + seed % 4, kc: Self.depths[seed % 8], indirect: seed % 3 != 0,
          layout: Problem.Layout(rawValue: seed / 3 % 3)!, seed: seed)
        let ldc = n + 2
        let c = Buffer<Float>(m * ldc, repeating: 777)
        let epilogue = apus_epilogue_f32(
          bias: p.bias.pointer, add: p.add.pointer, add_ld: n, activation: APUS_ACTIVATION_NONE, alpha: 0, beta: 0)
        var arguments = p.arguments(c, ldc: ldc, epilogue: epilogue)
        kernels.gemm_f32(&arguments, 0, m, 0, p.panels)
        var worst = 0.0
        for r in 0..<m {
          for j in 0..<n {
            let (sum, size) = p.reference(r, j)
            let expected = sum + Double(p.bias[j]) + Double(p.add[r * n + j])
            worst = max(worst, (Double(c[r * ldc + j]) - expected).magnitude / (size + 2))
          }
          for j in n..<ldc { #expect(c[r * ldc + j] == 777, "\(kernels.label) \(m)x\(n) wrote past a row") }
        }
        #expect(worst < 2e-6, "\(kernels.label) m \(m) n \(n) taps \(p.taps) kc \(p.kc)")
      }
    }
  }

  /// Any cut into rows and panels, with the activation fused, has the bits of the whole with the activation after it.
  @Test(arguments: levels.indices) func splitsAndFusionChangeNoBit(level: Int) {
    let kernels = levels[level]
    var numbers = Numbers(5)
    let activations: [(apus_activation, String)] = [
      (APUS_ACTIVATION_NONE, ""), (APUS_ACTIVATION_RELU, "relu"), (APUS_ACTIVATION_CLIP, "clip"),
      (APUS_ACTIVATION_LEAKY_RELU, "leaky_relu"), (APUS_ACTIVATION_SIGMOID, "sigmoid"),
      (APUS_ACTIVATION_TANH, "tanh"), (APUS_ACTIVATION_HARD_SIGMOID, "hard_sigmoid"),
      (APUS_ACTIVATION_HARD_SWISH, "hard_swish"), (APUS_ACTIVATION_SILU, "silu"), (APUS_ACTIVATION_GELU, "gelu"),
      (APUS_ACTIVATION_GELU_TANH, "gelu_tanh"),
    ]
    for (index, (activation, name)) in activations.enumerated() {
      for (m, n) in [(1, 300), (5, 33), (37, 129), (64, 8)] {
        let p = Problem(
          kernels, m: m, n: n, taps: 3, kc: 21, indirect: index % 2 == 0, layout: .rowMajor, seed: index)
        let whole = Buffer<Float>(m * n, repeating: 0)
        let parts = Buffer<Float>(m * n, repeating: 0)
        var epilogue = apus_epilogue_f32(
          bias: p.bias.pointer, add: p.add.pointer, add_ld: n, activation: APUS_ACTIVATION_NONE, alpha: 0.2, beta: 0.7)
        var arguments = p.arguments(whole, ldc: n, epilogue: epilogue)
        kernels.gemm_f32(&arguments, 0, m, 0, p.panels)
        if let function = unary(kernels, name) { function(m * n, whole.base, whole.base, [0.2, 0.7]) }

        epilogue.activation = activation
        arguments = p.arguments(parts, ldc: n, epilogue: epilogue)
        var row = 0
        while row < m {
          let end = min(m, row + 1 + numbers.below(20))
          var panel = 0
          while panel < p.panels {
            let next = panel + 1 + numbers.below(3)
            kernels.gemm_f32(&arguments, row, end, panel, next)
            panel = next
          }
          row = end
        }
        #expect(same(whole.array, parts.array), "\(kernels.label) \(name) \(m)x\(n)")
      }
    }
  }

  /// The bias of rows, which comes before that of columns, on C whose rows are pages apart and on others.
  @Test(arguments: levels.indices) func biasOfRows(level: Int) {
    let kernels = levels[level]
    var numbers = Numbers(9)
    for (m, n, ldc) in [(1, 40, 40), (5, 33, 33), (37, 129, 1100), (64, 8, 2000)] {
      let p = Problem(kernels, m: m, n: n, taps: 1, kc: 21, indirect: false, layout: .rowMajor, seed: m)
      let bias = numbers.floats(m)
      let (sums, found) = (Buffer<Float>(m * ldc, repeating: 0), Buffer<Float>(m * ldc, repeating: 0))
      var arguments = p.arguments(sums, ldc: ldc, epilogue: apus_epilogue_f32())
      kernels.gemm_f32(&arguments, 0, m, 0, p.panels)
      arguments = p.arguments(
        found, ldc: ldc,
        epilogue: apus_epilogue_f32(
          bias: p.bias.pointer, add: nil, add_ld: 0, activation: APUS_ACTIVATION_RELU, alpha: 0, beta: 0))
      arguments.row_bias = bias.pointer
      kernels.gemm_f32(&arguments, 0, m, 0, p.panels)
      let expected = (0..<m * ldc).map { position -> Float in
        let (row, column) = (position / ldc, position % ldc)
        return column < n ? max(sums[position] + bias[row] + p.bias[column], 0) : 0
      }
      #expect(found.array == expected, "\(kernels.label) \(m)x\(n)")
    }
  }

  /// A residual that is the output itself, and a B that starts at an odd address.
  @Test(arguments: levels.indices) func addsInPlaceAndPacksUnaligned(level: Int) {
    let kernels = levels[level]
    let (m, n, kc) = (9, 37, 11)
    let p = Problem(kernels, m: m, n: n, taps: 1, kc: kc, indirect: false, layout: .transposed, seed: 3)
    let bytes = Buffer<UInt8>(4 * n * kc + 1, repeating: 0)
    let shifted = UnsafeMutableRawPointer(bytes.base + 1)
    shifted.copyMemory(from: p.b.base, byteCount: 4 * n * kc)
    var source = p.source
    source.b = UnsafeRawPointer(shifted)
    let packed = Buffer<Float>(p.packed.count, repeating: .nan)
    kernels.gemm_f32_pack(&source, packed.base, 0, p.panels)
    #expect(same(packed.array, p.packed.array))

    let apart = Buffer<Float>(m * n, repeating: 0)
    let inPlace = Buffer<Float>(m * n) { p.add[$0] }
    var epilogue = apus_epilogue_f32(
      bias: nil, add: p.add.pointer, add_ld: n, activation: APUS_ACTIVATION_TANH, alpha: 0, beta: 0)
    var arguments = p.arguments(apart, ldc: n, epilogue: epilogue)
    kernels.gemm_f32(&arguments, 0, m, 0, p.panels)
    epilogue.add = inPlace.pointer
    arguments = p.arguments(inPlace, ldc: n, epilogue: epilogue)
    kernels.gemm_f32(&arguments, 0, m, 0, p.panels)
    #expect(same(apart.array, inPlace.array))
  }

  /// B in 16 bits gives the bits of the float32 product with the widened B.
  @Test(arguments: levels.indices) func halvesOfBAreWidenedExactly(level: Int) {
    let kernels = levels[level]
    let nr = kernels.gemm_f32_nr
    var numbers = Numbers(17)
    for (m, n, taps, kc) in [(1, 130, 1, 9), (3, 33, 1, 20), (17, 40, 2, 5), (30, 15, 9, 4)] {
      let depth = taps * kc
      let panels = apus_gemm_panels(n, nr)
      let count = apus_gemm_f32_packed_count(taps, kc, n, nr)
      let offsets = Buffer<Int32>(m * taps) { _ in Int32(numbers.below(m) * kc) }
      let a = numbers.floats(m * kc)
      let exact = numbers.floats(n * depth)
      for isBrain in [false, true] {
        let b = Buffer<UInt16>(n * depth, repeating: 0)
        let wide = Buffer<Float>(n * depth, repeating: 0)
        (isBrain ? kernels.f32_to_bf16 : kernels.f32_to_f16)(n * depth, exact.base, b.base)
        (isBrain ? kernels.bf16_to_f32 : kernels.f16_to_f32)(n * depth, b.base, wide.base)
        for strides in [(tap: kc, k: 1, n: depth), (tap: 1, k: taps, n: depth), (tap: kc * n, k: n, n: 1)] {
          var source = apus_gemm_source(
            b: wide.base, stride_tap: strides.tap, stride_k: strides.k, stride_n: strides.n, taps: taps, kc: kc, n: n)
          let packed = Buffer<Float>(count, repeating: .nan)
          let half = Buffer<UInt16>(count, repeating: 0xffff)
          kernels.gemm_f32_pack(&source, packed.base, 0, panels)
          source.b = UnsafeRawPointer(b.base)
          kernels.gemm_b16_pack(&source, half.base, 0, panels)
          let expected = Buffer<Float>(m * n, repeating: 0)
          let got = Buffer<Float>(m * n, repeating: 0)
          var arguments = apus_gemm_f32_args(
            a: a.pointer, lda: kc, offsets: offsets.pointer, zeros: a.pointer, taps: taps, kc: kc, n: n,
            b: packed.pointer, c: expected.base, ldc: n, epilogue: apus_epilogue_f32(), row_bias: nil)
          kernels.gemm_f32(&arguments, 0, m, 0, panels)
          arguments.c = got.base
          arguments.b = UnsafeRawPointer(half.base).assumingMemoryBound(to: Float.self)
          (isBrain ? kernels.gemm_f32_bf16 : kernels.gemm_f32_f16)(&arguments, 0, m, 0, panels)
          #expect(same(expected.array, got.array), "\(kernels.label) \(m)x\(n) bfloat16 \(isBrain)")
        }
      }
    }
  }

  /// B as it lies gives the bits of packed B, with the epilogue and in any cut into columns.
  @Test(arguments: levels.indices) func directProductHasTheBitsOfPanels(level: Int) {
    let kernels = levels[level]
    let activations = [APUS_ACTIVATION_NONE, APUS_ACTIVATION_RELU, APUS_ACTIVATION_TANH]
    for (index, m) in [0, 1, 2, 3, 4, 5, 9].enumerated() {
      for (n, kc) in [(1, 7), (15, 8), (33, 0), (130, 19), (1061, 24)] {
        let p = Problem(kernels, m: m, n: n, taps: 1, kc: kc, indirect: false, layout: .rowMajor, seed: index + n)
        let epilogue = apus_epilogue_f32(
          bias: p.bias.pointer, add: p.add.pointer, add_ld: n, activation: activations[index % 3], alpha: 0, beta: 0)
        let (panels, direct) = (Buffer<Float>(m * n, repeating: 7), Buffer<Float>(m * n, repeating: 7))
        var arguments = p.arguments(panels, ldc: n, epilogue: epilogue)
        kernels.gemm_f32(&arguments, 0, m, 0, p.panels)
        arguments = p.arguments(direct, ldc: n, epilogue: epilogue)
        arguments.b = p.b.pointer
        let half = n / 32 * 16
        kernels.gemm_f32_direct(&arguments, n, 0, m, 0, half)
        kernels.gemm_f32_direct(&arguments, n, 0, m, half, n)
        #expect(same(panels.array, direct.array), "\(kernels.label) \(m)x\(n)x\(kc)")
      }
    }
  }

  /// The same of columns as they lie, further apart than they are long.
  @Test(arguments: levels.indices) func turnedProductHasTheBitsOfPanels(level: Int) {
    let kernels = levels[level]
    let activations = [APUS_ACTIVATION_NONE, APUS_ACTIVATION_RELU, APUS_ACTIVATION_TANH]
    for (index, m) in [0, 1, 2, 3, 4, 5, 9].enumerated() {
      for (n, kc) in [(1, 7), (15, 8), (16, 3), (33, 0), (130, 19), (161, 24)] {
        let p = Problem(kernels, m: m, n: n, taps: 1, kc: kc, indirect: false, layout: .transposed, seed: index + n)
        let epilogue = apus_epilogue_f32(
          bias: p.bias.pointer, add: p.add.pointer, add_ld: n, activation: activations[index % 3], alpha: 0, beta: 0)
        let (panels, turned) = (Buffer<Float>(m * n, repeating: 7), Buffer<Float>(m * n, repeating: 7))
        var arguments = p.arguments(panels, ldc: n, epilogue: epilogue)
        kernels.gemm_f32(&arguments, 0, m, 0, p.panels)
        arguments = p.arguments(turned, ldc: n, epilogue: epilogue)
        let distance = kc + 3
        let columns = Buffer<Float>(max(0, n * distance - 3)) { at in
          at % distance < kc ? p.b[at / distance * kc + at % distance] : .nan
        }
        arguments.b = columns.pointer
        let half = n / 32 * 16
        kernels.gemm_f32_turned(&arguments, distance, 0, m, 0, half)
        kernels.gemm_f32_turned(&arguments, distance, 0, m, half, n)
        #expect(same(panels.array, turned.array), "\(kernels.label) \(m)x\(n)x\(kc)")
      }
    }
  }
}
