// The right-hand matrix of float32 products in the layout of the micro-kernels, packed once for all runs.

import ApusGraph
import ApusTensor
import CApusKernels

/// The float32 matrix micro-kernels of this machine.
///
/// `@unchecked Sendable`: function pointers to C code without state.
struct GemmKernels: @unchecked Sendable {
  let multiply: @convention(c) (UnsafePointer<apus_gemm_f32_args>, Int, Int, Int, Int) -> Void
  let pack: @convention(c) (UnsafePointer<apus_gemm_source>, UnsafeMutablePointer<Float>, Int, Int) -> Void
  /// Rows of a register tile, and columns of a packed panel.
  let tileRows: Int
  let panelColumns: Int

  static var current: GemmKernels { GemmKernels(apus_kernels()) }

  init(_ table: UnsafePointer<apus_kernel_table>) {
    multiply = table.pointee.gemm_f32
    pack = table.pointee.gemm_f32_pack
    tileRows = table.pointee.gemm_f32_mr
    panelColumns = table.pointee.gemm_f32_nr
  }

  /// Floats of a packed [k, n] matrix.
  func packedCount(k: Int, n: Int) -> Int { panelCount(n) * k * panelColumns }
  func panelCount(_ n: Int) -> Int { (n + panelColumns - 1) / panelColumns }
}

/// The layout of a matrix in memory: element (i, j) lies at `i * rowStride + j * columnStride`.
struct MatrixLayout: Sendable, Hashable {
  var rowStride: Int
  var columnStride: Int

  /// Rows of `columns` elements one after the other.
  static func rowMajor(columns: Int) -> MatrixLayout { MatrixLayout(rowStride: columns, columnStride: 1) }
  /// Columns of `rows` elements one after the other.
  static func columnMajor(rows: Int) -> MatrixLayout { MatrixLayout(rowStride: 1, columnStride: rows) }
}

/// Constant [k, n] matrices, packed.
struct PackedMatrix: Sendable {
  let storage: TensorStorage
  /// Floats from one matrix to the next.
  let stride: Int

  /// Packs `count` matrices that lie one after the other in a float32 tensor, each element times `scale`; once for all
  /// nodes that ask for the same.
  init(
    _ tensor: Tensor, count: Int = 1, k: Int, n: Int, layout: MatrixLayout, scale: Float = 1, in weights: PackedWeights
  ) throws(OperatorError) {
    let kernels = GemmKernels.current
    let stride = (kernels.packedCount(k: k, n: n) + 15) & ~15
    let format =
      "gemm_f32/\(kernels.panelColumns) \(count)x\(k)x\(n) \(layout.rowStride),\(layout.columnStride) *\(scale)"
    self.stride = stride
    let byteCount = count * stride * 4
    storage = try weights.storage(for: tensor, format: format, byteCount: byteCount) {
      (source) throws(OperatorError) in
      let storage = try weights.allowance.allocate(byteCount: byteCount)
      let packed = storage.base.assumingMemoryBound(to: Float.self)
      for index in 0..<count {
        let pieces = MatrixPieces(k: k, n: n, layout: layout, panelColumns: kernels.panelColumns)
        for (rows, columns) in pieces {
          let start = index * k * n + rows.lowerBound * layout.rowStride + columns.lowerBound * layout.columnStride
          let last = (rows.count - 1) * layout.rowStride + (columns.count - 1) * layout.columnStride
          try source.withBytes(start * 4..<(start + last + 1) * 4) { bytes in
            for first in Swift.stride(from: 0, to: columns.count, by: kernels.panelColumns) {
              var piece = apus_gemm_source(
                b: bytes + first * layout.columnStride * 4, stride_tap: 0, stride_k: layout.rowStride,
                stride_n: layout.columnStride, taps: 1, kc: rows.count,
                n: min(kernels.panelColumns, columns.count - first))
              let panel = packed + index * stride + (columns.lowerBound + first) * k
              kernels.pack(&piece, panel + rows.lowerBound * kernels.panelColumns, 0, 1)
            }
          }
        }
      }
      if scale != 1 {
        for index in 0..<count * stride { packed[index] *= scale }
      }
      return storage
    }
  }

  /// The first float of one matrix. Valid while the matrix lives.
  @inline(__always) func base(_ index: Int) -> UnsafePointer<Float> {
    UnsafePointer(storage.base.assumingMemoryBound(to: Float.self)) + index &* stride
  }
}

/// A [k, n] matrix in pieces of neighbouring bytes that are packed one after the other: some rows with all columns, or
/// whole panels of columns with all rows, as the layout has it.
private struct MatrixPieces: Sequence, IteratorProtocol {
  private let k: Int
  private let n: Int
  /// Rows of a piece, or columns; the other ones are all there.
  private let step: Int
  private let isByRows: Bool
  private var start = 0

  init(k: Int, n: Int, layout: MatrixLayout, panelColumns: Int) {
    (self.k, self.n) = (k, n)
    isByRows = layout.columnStride == 1 && layout.rowStride >= n
    let room = PackingSource.usualPiece / 4
    if isByRows {
      step = Swift.max(1, room / Swift.max(layout.rowStride, 1))
    } else if layout.rowStride == 1, layout.columnStride >= k {
      step = Swift.max(1, room / Swift.max(layout.columnStride * panelColumns, 1)) * panelColumns
    } else {
      step = Swift.max(n, 1)
    }
  }

  mutating func next() -> (rows: Range<Int>, columns: Range<Int>)? {
    guard k > 0, n > 0, start < (isByRows ? k : n) else { return nil }
    let range = start..<Swift.min(start + step, isByRows ? k : n)
    start = range.upperBound
    return isByRows ? (range, 0..<n) : (0..<k, range)
  }
}
