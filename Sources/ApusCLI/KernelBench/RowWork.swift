// Kernels on a row: reductions, softmax, normalizations; and on columns.

import CApusKernels

extension KernelWork {
  private static let lengths = [17, 100, 768, 50_000]

  static func rows(_ line: KernelLine, _ table: KernelTable) -> [KernelWork]? {
    switch line.type {
    case "apus_reduce_f32_fn": reduce(line, table)
    case "apus_softmax_f32_fn": softmax(line, table)
    case "apus_layer_norm_f32_fn": layerNorm(line, table)
    case "apus_rms_norm_f32_fn": rmsNorm(line, table)
    case "apus_columns_f32_fn": columns(line, table)
    default: nil
    }
  }

  private static func reduce(_ line: KernelLine, _ table: KernelTable) -> [KernelWork] {
    let function = line.function(in: table, like: table.pointee.sum_f32)
    return lengths.map { n in
      let x = KernelMemory(n, "f32")
      return moving(4 * n, "row of \(n)") { _ = function(n, x.floats) }
    }
  }

  private static func softmax(_ line: KernelLine, _ table: KernelTable) -> [KernelWork] {
    let function = line.function(in: table, like: table.pointee.softmax_f32)
    return lengths.map { n in
      let (x, y) = (KernelMemory(n, "f32"), KernelMemory(n, "f32"))
      return moving(8 * n, "row of \(n)") { function(n, x.floats, y.floats, 0.125, nil) }
    }
  }

  private static func layerNorm(_ line: KernelLine, _ table: KernelTable) -> [KernelWork] {
    let function = line.function(in: table, like: table.pointee.layer_norm_f32)
    return lengths.map { n in
      let (x, y, scale) = (KernelMemory(n, "f32"), KernelMemory(n, "f32"), KernelMemory(n, "f32"))
      return moving(16 * n, "row of \(n)") { function(n, x.floats, y.floats, scale.floats, scale.floats, 1e-5, nil) }
    }
  }

  private static func rmsNorm(_ line: KernelLine, _ table: KernelTable) -> [KernelWork] {
    let function = line.function(in: table, like: table.pointee.rms_norm_f32)
    return lengths.map { n in
      let (x, y, scale) = (KernelMemory(n, "f32"), KernelMemory(n, "f32"), KernelMemory(n, "f32"))
      return moving(12 * n, "row of \(n)") { function(n, x.floats, y.floats, scale.floats, 1e-5) }
    }
  }

  private static func columns(_ line: KernelLine, _ table: KernelTable) -> [KernelWork] {
    let function = line.function(in: table, like: table.pointee.column_sums_f32)
    return [(49, 960), (128, 768), (3136, 64)].map { rows, n in
      let (x, y) = (KernelMemory(rows * n, "f32"), KernelMemory(n, "f32"))
      return moving(4 * rows * n, "\(rows)x\(n)") { function(rows, n, x.floats, n, y.floats) }
    }
  }
}
