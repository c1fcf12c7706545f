// Matrix products and the packing of their right sides.

import CApusKernels

extension KernelWork {
  /// Rows, depth, columns: a token, an encoder, a 1×1 convolution, few channels.
  private static let products = [(1, 768, 3072), (128, 768, 768), (196, 256, 1024), (784, 16, 96)]

  static func matrices(_ line: KernelLine, _ table: KernelTable) -> [KernelWork]? {
    switch line.type {
    case "apus_gemm_f32_fn": products.map { gemm(line, table, $0, $1, $2) } + [convolution(line, table)]
    case "apus_gemm_f32_pack_fn": pack(line, table)
    case "apus_gemm_b16_pack_fn": pack16(line, table)
    case "apus_gemm_bf16_fn": products.map { gemmPairs(line, table, $0, $1, $2) }
    case "apus_gemm_bf16_pack_fn": packPairs(line, table)
    case "apus_gemm_i8_fn": products.map { gemmBytes(line, table, $0, $1, $2) }
    case "apus_gemm_i8_pack_fn": packBytes(line, table)
    case "apus_gemm_f64_fn": gemmDouble(line, table)
    case "apus_peak_fn": peak(line, table)
    default: nil
    }
  }

  static var plainEpilogue: apus_epilogue_f32 {
    apus_epilogue_f32(bias: nil, add: nil, add_ld: 0, activation: APUS_ACTIVATION_NONE, alpha: 0, beta: 0)
  }

  /// The type of packed elements: that behind the last blank.
  private static func packedElement(_ line: KernelLine) -> String { line.elements.last ?? "f32" }

  private static func gemm(_ line: KernelLine, _ table: KernelTable, _ m: Int, _ k: Int, _ n: Int) -> KernelWork {
    let function = line.function(in: table, like: table.pointee.gemm_f32)
    let panels = apus_gemm_panels(n, table.pointee.gemm_f32_nr)
    let packed = KernelMemory(apus_gemm_f32_packed_count(1, k, n, table.pointee.gemm_f32_nr), packedElement(line))
    let (a, c) = (KernelMemory(m * k, "f32"), KernelMemory(m * n, "f32"))
    return KernelWork(size: "\(m)x\(k)x\(n)", limit: .float32, amount: 2 * Double(m * k * n)) {
      var arguments = apus_gemm_f32_args(
        a: a.floats, lda: k, offsets: nil, zeros: nil, taps: 1, kc: k, n: n, b: packed.floats, c: c.floats, ldc: n,
        epilogue: plainEpilogue, row_bias: nil)
      function(&arguments, 0, m, 0, panels)
    }
  }

  /// A 3×3 convolution of 64 channels over 28×28 pixels: rows of A through the table of offsets.
  private static func convolution(_ line: KernelLine, _ table: KernelTable) -> KernelWork {
    let function = line.function(in: table, like: table.pointee.gemm_f32)
    let (side, channels, taps) = (28, 64, 9)
    let (m, row) = (side * side, (side + 2) * channels)
    let panels = apus_gemm_panels(channels, table.pointee.gemm_f32_nr)
    let packed = KernelMemory(
      apus_gemm_f32_packed_count(taps, channels, channels, table.pointee.gemm_f32_nr), packedElement(line))
    let (a, c) = (KernelMemory((side + 2) * row, "f32"), KernelMemory(m * channels, "f32"))
    let (zeros, offsets) = (KernelMemory(channels, "f32"), KernelMemory(m * taps, "i32"))
    for pixel in 0..<m {
      for tap in 0..<taps {
        let (y, x) = (pixel / side + tap / 3, pixel % side + tap % 3)
        offsets.offsets[pixel * taps + tap] = Int32(y * row + x * channels)
      }
    }
    return KernelWork(size: "3x3 64 28x28", limit: .float32, amount: 2 * Double(m * taps * channels * channels)) {
      var arguments = apus_gemm_f32_args(
        a: a.floats, lda: 0, offsets: offsets.offsets, zeros: zeros.floats, taps: taps, kc: channels, n: channels,
        b: packed.floats, c: c.floats, ldc: channels, epilogue: plainEpilogue, row_bias: nil)
      function(&arguments, 0, m, 0, panels)
    }
  }

  private static func source(_ b: KernelMemory, _ k: Int, _ n: Int, transposed: Bool) -> apus_gemm_source {
    apus_gemm_source(
      b: b.start, stride_tap: 0, stride_k: transposed ? 1 : n, stride_n: transposed ? k : 1, taps: 1, kc: k, n: n)
  }

  private static func pack(_ line: KernelLine, _ table: KernelTable) -> [KernelWork] {
    let function = line.function(in: table, like: table.pointee.gemm_f32_pack)
    let (k, n, nr) = (768, 768, table.pointee.gemm_f32_nr)
    let packed = KernelMemory(apus_gemm_f32_packed_count(1, k, n, nr), "f32")
    let b = KernelMemory(k * n, "f32")
    return [false, true].map { transposed in
      moving(8 * k * n, "\(k)x\(n)\(transposed ? " transposed" : "")") {
        var source = source(b, k, n, transposed: transposed)
        function(&source, packed.floats, 0, apus_gemm_panels(n, nr))
      }
    }
  }

  private static func pack16(_ line: KernelLine, _ table: KernelTable) -> [KernelWork] {
    let function = line.function(in: table, like: table.pointee.gemm_b16_pack)
    let (k, n, nr) = (768, 768, table.pointee.gemm_f32_nr)
    let packed = KernelMemory(apus_gemm_f32_packed_count(1, k, n, nr), "f16")
    let b = KernelMemory(k * n, "f16")
    return [false, true].map { transposed in
      moving(4 * k * n, "\(k)x\(n)\(transposed ? " transposed" : "")") {
        var source = source(b, k, n, transposed: transposed)
        function(&source, packed.words, 0, apus_gemm_panels(n, nr))
      }
    }
  }

  private static func gemmPairs(
    _ line: KernelLine, _ table: KernelTable, _ m: Int, _ k: Int, _ n: Int
  ) -> KernelWork {
    let function = line.function(in: table, like: table.pointee.gemm_bf16)
    let nr = table.pointee.gemm_bf16_nr
    let packed = KernelMemory(apus_gemm_bf16_packed_count(1, k, n, nr), "bf16")
    let (a, c) = (KernelMemory(m * k, "f32"), KernelMemory(m * n, "f32"))
    return KernelWork(size: "\(m)x\(k)x\(n)", limit: .float32, amount: 2 * Double(m * k * n)) {
      var arguments = apus_gemm_f32_args(
        a: a.floats, lda: k, offsets: nil, zeros: nil, taps: 1, kc: k, n: n, b: packed.floats, c: c.floats, ldc: n,
        epilogue: plainEpilogue, row_bias: nil)
      function(&arguments, 0, m, 0, apus_gemm_panels(n, nr))
    }
  }

  private static func packPairs(_ line: KernelLine, _ table: KernelTable) -> [KernelWork] {
    let function = line.function(in: table, like: table.pointee.gemm_bf16_pack)
    let (k, nr) = (768, table.pointee.gemm_bf16_nr)
    let (panel, packed) = (KernelMemory(k * nr, "f32"), KernelMemory(k * nr, "bf16"))
    return [
      moving(6 * k * nr, "\(k)x\(nr)") { function(k, panel.floats, packed.words) }
    ]
  }

  private static func gemmBytes(_ line: KernelLine, _ table: KernelTable, _ m: Int, _ k: Int, _ n: Int) -> KernelWork {
    let function = line.function(in: table, like: table.pointee.gemm_i8)
    let nr = table.pointee.gemm_i8_nr
    let packed = packedBytes(table, k, n)
    let (a, c) = (KernelMemory(m * k, "u8"), KernelMemory(m * n, "i32"))
    return KernelWork(size: "\(m)x\(k)x\(n)", limit: .int8, amount: 2 * Double(m * k * n)) {
      var arguments = apus_gemm_i8_args(
        a: a.start, lda: k, offsets: nil, pad: nil, taps: 1, kc: k, n: n, a_signed: false, b_signed: true, a_zero: 3,
        b_zero: 0, a_zeros: nil, b_zeros: nil, b: packed.start, c: c.start, ldc: n, output: APUS_GEMM_I8_TO_I32,
        wide: false, bias: nil, scale: 1, scales: nil, zero: 0, low: 0, high: 0, epilogue: plainEpilogue)
      function(&arguments, 0, m, 0, apus_gemm_panels(n, nr))
    }
  }

  /// A right side that the table's own kernel has packed.
  private static func packedBytes(_ table: KernelTable, _ k: Int, _ n: Int) -> KernelMemory {
    let nr = table.pointee.gemm_i8_nr
    let packed = KernelMemory(apus_gemm_i8_packed_bytes(1, k, n, nr), "u8")
    var source = source(KernelMemory(k * n, "s8"), k, n, transposed: false)
    table.pointee.gemm_i8_pack(&source, true, packed.start, 0, apus_gemm_panels(n, nr))
    return packed
  }

  private static func packBytes(_ line: KernelLine, _ table: KernelTable) -> [KernelWork] {
    let function = line.function(in: table, like: table.pointee.gemm_i8_pack)
    let (k, n, nr) = (768, 768, table.pointee.gemm_i8_nr)
    let packed = KernelMemory(apus_gemm_i8_packed_bytes(1, k, n, nr), "u8")
    let b = KernelMemory(k * n, "s8")
    return [false, true].map { transposed in
      moving(2 * k * n, "\(k)x\(n)\(transposed ? " transposed" : "")") {
        var source = source(b, k, n, transposed: transposed)
        function(&source, true, packed.start, 0, apus_gemm_panels(n, nr))
      }
    }
  }

  private static func gemmDouble(_ line: KernelLine, _ table: KernelTable) -> [KernelWork] {
    let function = line.function(in: table, like: table.pointee.gemm_f64)
    return [16, 128, 384].map { n in
      let (a, b, c) = (KernelMemory(n * n, "f64"), KernelMemory(n * n, "f64"), KernelMemory(n * n, "f64"))
      return KernelWork(size: "\(n)x\(n)x\(n)", limit: .float64, amount: 2 * Double(n * n * n)) {
        var arguments = apus_gemm_f64_args(
          a: a.doubles, a_row: n, a_depth: 1, b: b.doubles, b_depth: n, b_column: 1, c: c.doubles, ldc: n, k: n)
        function(&arguments, 0, n, 0, n)
      }
    }
  }

  private static func peak(_ line: KernelLine, _ table: KernelTable) -> [KernelWork] {
    let function = line.function(in: table, like: table.pointee.peak_f32)
    let rounds = 2000
    return [
      KernelWork(size: "registers", limit: line.name == "peak_i8" ? .int8 : .float32, amount: function(rounds)) {
        _ = function(rounds)
      }
    ]
  }
}
