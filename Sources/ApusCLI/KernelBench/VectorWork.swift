// Element-wise kernels and conversions, at working sets of each level of memory.

import CApusKernels

extension KernelWork {
  static func vectors(_ line: KernelLine, _ table: KernelTable) -> [KernelWork]? {
    switch line.type {
    case "apus_unary_f32_fn": unary(line, table)
    case "apus_binary_fn": binary(line, table)
    case "apus_convert_fn": convert(line, table)
    case "apus_dequantize_fn": dequantize(line, table)
    case "apus_quantize_fn": quantize(line, table)
    case "apus_accumulate_f32_fn": accumulate(line, table)
    case "apus_transpose_fn": transpose(line, table)
    default: nil
    }
  }

  private static func unary(_ line: KernelLine, _ table: KernelTable) -> [KernelWork] {
    let function = line.function(in: table, like: table.pointee.exp_f32)
    let parameters = KernelMemory(2, "f32")
    return KernelPlaces.counts(bytes: 8).map { place, n in
      let (x, y) = (KernelMemory(n, "f32"), KernelMemory(n, "f32"))
      return moving(8 * n, place) { function(n, x.floats, y.floats, parameters.floats) }
    }
  }

  /// The form _vs has one element on the right, _sv on the left.
  private static func binary(_ line: KernelLine, _ table: KernelTable) -> [KernelWork] {
    let function = line.function(in: table, like: table.pointee.add_f32_vv)
    let width = line.bytes(0)
    let operands = line.name.hasSuffix("_vv") ? 2 : 1
    return KernelPlaces.counts(bytes: (operands + 1) * width).map { place, n in
      let (a, b, y) = (
        KernelMemory(line.name.hasSuffix("_sv") ? 1 : n, line.element(0)),
        KernelMemory(line.name.hasSuffix("_vs") ? 1 : n, line.element(0)), KernelMemory(n, line.element(0))
      )
      return moving((operands + 1) * width * n, place) { function(n, a.start, b.start, y.start) }
    }
  }

  private static func convert(_ line: KernelLine, _ table: KernelTable) -> [KernelWork] {
    let function = line.function(in: table, like: table.pointee.f16_to_f32)
    let width = line.bytes(0) + line.bytes(1)
    return KernelPlaces.counts(bytes: width).map { place, n in
      let (x, y) = (KernelMemory(n, line.element(0)), KernelMemory(n, line.element(1)))
      return moving(width * n, place) { function(n, x.start, y.start) }
    }
  }

  private static func dequantize(_ line: KernelLine, _ table: KernelTable) -> [KernelWork] {
    let function = line.function(in: table, like: table.pointee.dequantize_u8)
    let width = line.bytes(0) + 4
    return KernelPlaces.counts(bytes: width).map { place, n in
      let (x, y) = (KernelMemory(n, line.element(0)), KernelMemory(n, "f32"))
      return moving(width * n, place) { function(n, x.start, y.floats, 0.02, 3) }
    }
  }

  private static func quantize(_ line: KernelLine, _ table: KernelTable) -> [KernelWork] {
    let function = line.function(in: table, like: table.pointee.quantize_u8)
    let width = 4 + line.bytes(1)
    return KernelPlaces.counts(bytes: width).map { place, n in
      let (x, y) = (KernelMemory(n, "f32"), KernelMemory(n, line.element(1)))
      return moving(width * n, place) { function(n, x.floats, y.start, 0.02, 3) }
    }
  }

  private static func accumulate(_ line: KernelLine, _ table: KernelTable) -> [KernelWork] {
    let function = line.function(in: table, like: table.pointee.accumulate_f32)
    return KernelPlaces.counts(bytes: 8).map { place, n in
      let (x, y) = (KernelMemory(n, "f32"), KernelMemory(n, "f32"))
      return moving(12 * n, place) { function(n, x.floats, y.floats) }
    }
  }

  private static func transpose(_ line: KernelLine, _ table: KernelTable) -> [KernelWork] {
    let function = line.function(in: table, like: table.pointee.transpose_4)
    let width = line.bytes(0)
    return [(32, 32), (128, 64), (784, 256), (2048, 1024)].map { rows, columns in
      let (x, y) = (KernelMemory(rows * columns * width, "u8"), KernelMemory(rows * columns * width, "u8"))
      return moving(2 * rows * columns * width, "\(rows)x\(columns)") {
        function(rows, columns, x.start, columns, y.start, rows)
      }
    }
  }
}
