// The integer matrix kernel of this machine, and constant matrices of bytes in its packed form.

import ApusGraph
import ApusTensor
import CApusKernels

/// The 8-bit matrix micro-kernels of this machine.
///
/// `@unchecked Sendable`: function pointers to C code without state.
struct ByteKernels: @unchecked Sendable {
  let multiply: @convention(c) (UnsafePointer<apus_gemm_i8_args>, Int, Int, Int, Int) -> Void
  let pack: @convention(c) (UnsafePointer<apus_gemm_source>, Bool, UnsafeMutableRawPointer, Int, Int) -> Void
  /// Rows of a register tile, and columns of a packed panel.
  let tileRows: Int
  let panelColumns: Int
  let pace: GemmTiling.Pace
  let name: String

  static var current: ByteKernels { ByteKernels(apus_kernels()) }

  init(_ table: UnsafePointer<apus_kernel_table>) {
    multiply = table.pointee.gemm_i8
    pack = table.pointee.gemm_i8_pack
    tileRows = table.pointee.gemm_i8_mr
    panelColumns = table.pointee.gemm_i8_nr
    pace = ByteKernels.pace(table.pointee)
    name = "gemm_i8 \(String(cString: table.pointee.name))"
  }

  /// Tile registers take rows that are copied together before.
  private static func pace(_ table: apus_kernel_table) -> GemmTiling.Pace {
    if table.features & APUS_FEATURE_AMX_INT8.rawValue != 0 {
      return GemmTiling.Pace(speed: 8, bytes: 1, rowColumns: 96)
    }
    let hasDotProduct = table.features & APUS_FEATURES_DOT_PRODUCTS.rawValue != 0
    return GemmTiling.Pace(speed: hasDotProduct ? 3 : 1, bytes: 1, rowColumns: 16)
  }

  /// How panels lie, as part of the name of a packed form: those of sixteen columns with what was taken off them.
  var format: String { "\(panelColumns)x64\(panelColumns == 16 ? " and rests" : "")" }

  func panelCount(_ n: Int) -> Int { apus_gemm_panels(n, panelColumns) }
  func panelBytes(k: Int) -> Int { apus_gemm_i8_panel_bytes(1, k, panelColumns) }
  /// Bytes of a packed [k, n] matrix, a multiple of 64.
  func packedBytes(k: Int, n: Int) -> Int { aligned(panelCount(n) &* panelBytes(k: k)) }

  /// The same as it would be without the limits of integers.
  func estimatedBytes(k: Int, n: Int) -> Double {
    (Double(n) + Double(panelColumns)) * (Double(k) + 8) + 64
  }

  /// Packs panels of a [k, n] matrix in rows, or of its transpose; `target` is where the first panel of all lies.
  func pack(
    _ b: UnsafeRawPointer, k: Int, n: Int, isTransposed: Bool, isSigned: Bool, to target: UnsafeMutableRawPointer,
    panels: Range<Int>
  ) {
    var source = ByteKernels.source(b, k: k, n: n, isTransposed: isTransposed)
    pack(&source, isSigned, target, panels.lowerBound, panels.upperBound)
  }

  /// A [k, n] matrix in rows, or [n, k] if it is transposed, from a column on.
  static func source(
    _ b: UnsafeRawPointer, k: Int, n: Int, isTransposed: Bool, fromColumn column: Int = 0
  ) -> apus_gemm_source {
    let (row, step) = isTransposed ? (1, k) : (n, 1)
    return apus_gemm_source(
      b: b + column &* step, stride_tap: 0, stride_k: row, stride_n: step, taps: 1, kc: k, n: n &- column)
  }
}

/// Constant [k, n] matrices of bytes, packed.
struct PackedBytes: Sendable {
  let storage: TensorStorage
  /// Bytes from one matrix to the next.
  let stride: Int

  /// Matrices so narrow that their packed form would be many times as large are not packed.
  private static let smallBytes = 64 << 10
  private static let largestGrowth = 4

  /// Packs the matrices of the last two axes of a constant int8 or uint8 tensor, of which a vector is one column, or
  /// the transpose of a matrix; nil if it is no such tensor, without elements, or not worth the memory.
  init?(_ tensor: Tensor?, isTransposed: Bool, in weights: PackedWeights) throws(OperatorError) {
    guard let tensor, tensor.dataType == .int8 || tensor.dataType == .uint8, tensor.rank > 0, tensor.count > 0 else {
      return nil
    }
    let kernels = ByteKernels.current
    let shape = tensor.shape.asRightFactor(isTransposed: isTransposed)
    let (k, n) = (shape[shape.rank - 2], shape[shape.rank - 1])
    let count = tensor.count / k / n
    guard
      kernels.estimatedBytes(k: k, n: n) * Double(count)
        <= Double(PackedBytes.largestGrowth) * Double(tensor.count) + Double(PackedBytes.smallBytes)
    else { return nil }
    let stride = kernels.packedBytes(k: k, n: n)
    self.stride = stride
    let isSigned = tensor.dataType == .int8
    let form = isTransposed ? "transposed " : ""
    let format = "gemm_i8/\(kernels.format) \(form)\(count)x\(k)x\(n) \(tensor.dataType)"
    let byteCount = count * stride
    storage = try weights.storage(for: tensor, format: format, byteCount: byteCount) {
      (source) throws(OperatorError) in
      let storage = try weights.allowance.allocate(byteCount: byteCount, isFilled: true)
      for index in 0..<count {
        try source.withBytes(index * k * n..<(index + 1) * k * n) { bytes in
          kernels.pack(
            bytes, k: k, n: n, isTransposed: isTransposed, isSigned: isSigned, to: storage.base + index * stride,
            panels: 0..<kernels.panelCount(n))
        }
      }
      return storage
    }
  }

  /// The first byte of one matrix. Valid while the storage lives.
  @inline(__always) func base(_ index: Int) -> UnsafeRawPointer { UnsafeRawPointer(storage.base) + index &* stride }
}
