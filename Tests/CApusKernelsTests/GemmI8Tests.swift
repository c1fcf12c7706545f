// The 8-bit GEMM against exact integer sums, for all signs, zero points and outputs.

import CApusKernels
import Testing

@Suite struct GemmI8Tests {
  private struct Shape { let m, n, taps, kc: Int }

  private func check(
    _ kernels: Kernels, _ s: Shape, signs: (a: Bool, b: Bool), indirect: Bool, perRow: Bool,
    perColumn: Bool, zeros: (a: Int32, b: Int32), output: apus_gemm_i8_output, wide: Bool = false, rare: Bool = false,
    seed: Int
  ) {
    var numbers = Numbers(seed)
    let taps = indirect ? s.taps : 1
    let depth = taps * s.kc
    let lda = s.kc + 1
    let rows = s.m + 2
    // Extremes are frequent, to catch saturation on the way.
    let a = Buffer<UInt8>(rows * lda - 1) { _ in numbers.below(3) == 0 ? 255 : UInt8(numbers.below(256)) }
    let b = Buffer<UInt8>(depth * s.n) { _ in
      if !rare { return numbers.below(3) == 0 ? 128 : UInt8(numbers.below(256)) }
      let small = numbers.below(60) == 0 ? 100 + numbers.below(28) : numbers.below(60)
      return UInt8(truncatingIfNeeded: (numbers.below(2) == 0 ? small : -small - 1) + (signs.b ? 0 : 128))
    }
    let pad = Buffer<UInt8>(s.kc, repeating: UInt8(truncatingIfNeeded: zeros.a))
    let offsets = Buffer<Int32>(indirect ? s.m * taps : 0) { _ in
      numbers.below(4) == 0 ? Int32.min : Int32(numbers.below(rows) * lda)
    }
    let aZeros = Buffer<Int32>(s.m) { _ in zeros.a + Int32(numbers.below(3)) - 1 }
    let bZeros = Buffer<Int32>(s.n) { _ in zeros.b + Int32(numbers.below(5)) - 2 }
    let bias = Buffer<Int32>(s.n) { _ in Int32(numbers.below(2000)) - 1000 }
    let scales = Buffer<Float>(s.n) { _ in 0.001 + numbers.float().magnitude * 0.001 }
    let floatBias = numbers.floats(s.n)
    let panels = apus_gemm_panels(s.n, kernels.gemm_i8_nr)
    let bytes = apus_gemm_i8_packed_bytes(taps, s.kc, s.n, kernels.gemm_i8_nr)
    let packed = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64)
    defer { packed.deallocate() }
    var source = apus_gemm_source(
      b: b.base, stride_tap: s.kc * s.n, stride_k: s.n, stride_n: 1, taps: taps, kc: s.kc, n: s.n)
    for p in 0..<panels { kernels.gemm_i8_pack(&source, signs.b, packed, p, p + 1) }

    let ldc = s.n + 3
    let wide = output == APUS_GEMM_I8_TO_I32 || output == APUS_GEMM_I8_TO_F32
    let c = Buffer<UInt8>(s.m * ldc * (wide ? 4 : 1), repeating: 0x5a)
    let isSigned = output == APUS_GEMM_I8_TO_S8
    let (low, high): (Int32, Int32) = isSigned ? (-128, 127) : (0, 255)
    var arguments = apus_gemm_i8_args(
      a: a.base, lda: lda, offsets: indirect ? offsets.pointer : nil, pad: UnsafeRawPointer(pad.base), taps: taps,
      kc: s.kc, n: s.n, a_signed: signs.a, b_signed: signs.b, a_zero: zeros.a, b_zero: zeros.b,
      a_zeros: perRow ? aZeros.pointer : nil, b_zeros: perColumn ? bZeros.pointer : nil, b: packed, c: c.base,
      ldc: ldc, output: output, wide: wide, bias: bias.pointer, scale: 0.002, scales: perColumn ? scales.pointer : nil,
      zero: 3,
      low: low, high: high,
      epilogue: apus_epilogue_f32(
        bias: floatBias.pointer, add: nil, add_ld: 0, activation: APUS_ACTIVATION_CLIP, alpha: -5, beta: 5))
    var row = 0
    while row < s.m {
      let end = min(s.m, row + 1 + numbers.below(s.m > 32 ? 48 : 16))
      let half = panels / 2
      kernels.gemm_i8(&arguments, row, end, 0, half)
      kernels.gemm_i8(&arguments, row, end, half, panels)
      row = end
    }

    func value(_ byte: UInt8, _ isSigned: Bool) -> Int { isSigned ? Int(Int8(bitPattern: byte)) : Int(byte) }
    let raw = UnsafeRawPointer(c.base)
    var wrong = 0
    for r in 0..<s.m {
      for j in 0..<s.n {
        let za = Int(perRow ? aZeros[r] : zeros.a)
        let zb = Int(perColumn ? bZeros[j] : zeros.b)
        var sum = Int(bias[j])
        for t in 0..<taps {
          let offset = indirect ? Int(offsets[r * taps + t]) : r * lda
          for k in 0..<s.kc {
            let x = offset == Int(Int32.min) ? pad[k] : a[offset + k]
            sum += (value(x, signs.a) - za) * (value(b[(t * s.kc + k) * s.n + j], signs.b) - zb)
          }
        }
        let at = r * ldc + j
        let scaled = Float(sum) * (perColumn ? scales[j] : 0.002)
        switch output {
        case APUS_GEMM_I8_TO_I32: wrong += raw.load(fromByteOffset: 4 * at, as: Int32.self) == Int32(sum) ? 0 : 1
        case APUS_GEMM_I8_TO_F32:
          let expected = min(max(scaled + floatBias[j], -5), 5)
          wrong += raw.load(fromByteOffset: 4 * at, as: Float.self) == expected ? 0 : 1
        default:
          let product = wide ? Double(sum) * Double(perColumn ? scales[j] : 0.002) : Double(scaled)
          let expected = Int(min(max(product.rounded(.toNearestOrEven) + 3, Double(low)), Double(high)))
          wrong += value(c[at], isSigned) == expected ? 0 : 1
        }
      }
      let width = wide ? 4 : 1
      for i in (r * ldc + s.n) * width..<(r + 1) * ldc * width { wrong += c[i] == 0x5a ? 0 : 1 }
    }
    #expect(
      wrong == 0,
      "\(kernels.label) \(s) signs \(signs) indirect \(indirect) rows \(perRow) columns \(perColumn) to \(output)")
  }

  @Test(arguments: levels.indices) func isExact(level: Int) {
    let kernels = levels[level]
    let outputs = [APUS_GEMM_I8_TO_I32, APUS_GEMM_I8_TO_F32, APUS_GEMM_I8_TO_U8, APUS_GEMM_I8_TO_S8]
    var seed = 0
    for m in [0, 1, 2, 3, 4, 5, 11, 12, 13, 27] {
      for n in [0, 1, 15, 16, 17, 31, 32, 33, 64, 65, 130] {
        for kc in [0, 1, 3, 4, 5, 8, 33] {
          seed += 1
          let signs = (a: seed & 1 != 0, b: seed & 2 != 0)
          let zeros = (a: Int32(signs.a ? -7 : 120), b: Int32(seed % 3 == 0 ? 0 : signs.b ? 5 : 131))
          check(
            kernels, Shape(m: m, n: n, taps: 1 + seed % 3, kc: kc), signs: signs, indirect: seed % 5 < 2,
            perRow: seed % 7 == 0 && seed % 5 >= 2, perColumn: seed % 4 == 0, zeros: zeros,
            output: outputs[seed / 4 % 4], seed: seed)
        }
      }
    }
  }

  /// Many rows, and depths that are copied in one piece, in several, or not at all.
  @Test(arguments: levels.indices) func manyRows(level: Int) {
    let outputs = [APUS_GEMM_I8_TO_I32, APUS_GEMM_I8_TO_F32, APUS_GEMM_I8_TO_U8, APUS_GEMM_I8_TO_S8]
    var seed = 0
    for (m, n, taps, kc) in [
      (33, 70, 9, 64), (48, 33, 9, 129), (90, 300, 1, 128), (47, 40, 3, 64), (64, 96, 1, 1216), (70, 310, 1, 1201),
      (65, 20, 7, 21), (40, 64, 25, 60),
    ] {
      for indirect in [false, true] {
        for perRow in [false, true] where !(perRow && indirect) {
          for output in outputs {
            seed += 1
            check(
              levels[level], Shape(m: m, n: n, taps: taps, kc: kc), signs: (seed & 1 != 0, seed & 2 != 0),
              indirect: indirect, perRow: perRow, perColumn: seed % 3 == 0, zeros: (17, seed % 5 == 0 ? 0 : 3),
              output: output, wide: seed % 4 > 1, seed: seed)
          }
        }
      }
    }
  }

  /// Right sides in which few neighbours are too large to be added in 16 bits.
  @Test(arguments: levels.indices) func largeNeighbours(level: Int) {
    let outputs = [APUS_GEMM_I8_TO_I32, APUS_GEMM_I8_TO_U8, APUS_GEMM_I8_TO_S8]
    var seed = 0
    for (m, n, taps, kc) in [(1, 16, 1, 64), (5, 33, 3, 21), (9, 40, 9, 16), (23, 17, 1, 2), (40, 70, 2, 130)] {
      for indirect in [false, true] {
        for output in outputs {
          seed += 1
          check(
            levels[level], Shape(m: m, n: n, taps: taps, kc: kc), signs: (seed & 1 != 0, seed & 2 != 0),
            indirect: indirect, perRow: false, perColumn: seed % 3 == 0, zeros: (17, 3), output: output,
            wide: seed % 4 > 1, rare: true, seed: seed)
        }
      }
    }
  }

  /// A depth at which sums of extremes would saturate 16 bits many times over.
  @Test(arguments: levels.indices) func doesNotSaturate(level: Int) {
    for signs in [(a: false, b: true), (a: true, b: false)] {
      for rows in [3, 40] {
        check(
          levels[level], Shape(m: rows, n: 17, taps: 1, kc: 2050), signs: signs, indirect: false, perRow: false,
          perColumn: false, zeros: (0, 0), output: APUS_GEMM_I8_TO_I32, seed: 99)
      }
    }
  }
}
