// The right-hand matrix of float32 products in the layout of the micro-kernels, packed once for all runs.

import ApusGraph
import ApusTensor
import CApusKernels

/// The float32 matrix micro-kernels of this machine.
///
/// `@unchecked Sendable`: function pointers to C code without state.
struct GemmKernels: @unchecked Sendable {
  typealias Multiply = @convention(c) (UnsafePointer<apus_gemm_f32_args>, Int, Int, Int, Int) -> Void

  let multiply: Multiply
  /// The product with a matrix of rows as it lies, given the distance of its rows.
  let multiplyDirectly: @convention(c) (UnsafePointer<apus_gemm_f32_args>, Int, Int, Int, Int, Int) -> Void
  let pack: @convention(c) (UnsafePointer<apus_gemm_source>, UnsafeMutablePointer<Float>, Int, Int) -> Void
  /// Panels of 16-bit floats.
  private let packHalves:
    @convention(c) (UnsafePointer<apus_gemm_source>, UnsafeMutablePointer<UInt16>, Int, Int) -> Void
  private let multiplyFloat16: Multiply
  private let multiplyBFloat16: Multiply
  /// Rows of a register tile, and columns of a packed panel.
  let tileRows: Int
  let panelColumns: Int

  static var current: GemmKernels { GemmKernels(apus_kernels()) }

  init(_ table: UnsafePointer<apus_kernel_table>) {
    multiply = table.pointee.gemm_f32
    multiplyDirectly = table.pointee.gemm_f32_direct
    pack = table.pointee.gemm_f32_pack
    packHalves = table.pointee.gemm_b16_pack
    multiplyFloat16 = table.pointee.gemm_f32_f16
    multiplyBFloat16 = table.pointee.gemm_f32_bf16
    tileRows = table.pointee.gemm_f32_mr
    panelColumns = table.pointee.gemm_f32_nr
  }

  /// The product with panels of float32, float16 or bfloat16.
  func multiply(by element: DataType) -> Multiply {
    switch element {
    case .float16: multiplyFloat16
    case .bfloat16: multiplyBFloat16
    default: multiply
    }
  }

  /// Packs one panel of elements of two or four bytes, which stay as they are.
  func packPanel(_ source: inout apus_gemm_source, to panel: UnsafeMutableRawPointer, byteWidth: Int) {
    if byteWidth == 2 {
      packHalves(&source, panel.assumingMemoryBound(to: UInt16.self), 0, 1)
    } else {
      pack(&source, panel.assumingMemoryBound(to: Float.self), 0, 1)
    }
  }

  /// Floats of a packed [k, n] matrix.
  func packedCount(k: Int, n: Int) -> Int { panelCount(n) * k * panelColumns }
  func panelCount(_ n: Int) -> Int { (n + panelColumns - 1) / panelColumns }
}

extension apus_gemm_f32_args {
  /// Of a product without a bias of its rows.
  init(
    a: UnsafePointer<Float>, lda: Int, offsets: UnsafePointer<Int32>?, zeros: UnsafePointer<Float>?, taps: Int, kc: Int,
    n: Int, b: UnsafePointer<Float>, c: UnsafeMutablePointer<Float>, ldc: Int, epilogue: apus_epilogue_f32
  ) {
    self.init(
      a: a, lda: lda, offsets: offsets, zeros: zeros, taps: taps, kc: kc, n: n, b: b, c: c, ldc: ldc,
      epilogue: epilogue, row_bias: nil)
  }
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
  /// Of the panels: float32, float16 or bfloat16.
  let element: DataType
  /// From one matrix to the next, in floats whatever the element is.
  let stride: Int

  /// Packs `count` matrices that lie one after the other in a tensor, each element times `scale`; once for all nodes
  /// that ask for the same. Elements of float16 and bfloat16 stay what they are and take no scale; those of other types
  /// are moved in words of 32 bits, as many as k and n say. `mayRound`: float32 becomes bfloat16 where the model's
  /// weights shall.
  init(
    _ tensor: Tensor, count: Int = 1, k: Int, n: Int, layout: MatrixLayout, scale: Float = 1, mayRound: Bool = false,
    in weights: PackedWeights
  ) throws(OperatorError) {
    let kernels = GemmKernels.current
    let source = PackedMatrix.isHalf(tensor.dataType) ? tensor.dataType : .float32
    precondition(source == .float32 || scale == 1, "16-bit panels take no scale")
    let rounds = mayRound && tensor.dataType == .float32 && weights.precision == .bfloat16
    element = rounds ? .bfloat16 : source
    let packer = Packer(
      kernels: kernels, k: k, layout: layout, sourceWidth: source.byteWidth, width: element.byteWidth,
      scale: rounds ? scale : 1)
    let byteStride = aligned(kernels.packedCount(k: k, n: n) * element.byteWidth)
    stride = byteStride / 4
    let name = element == .float32 ? "gemm_f32" : "gemm_f32_\(element)"
    let places = "\(layout.rowStride),\(layout.columnStride)"
    let format = "\(name)/\(kernels.panelColumns) \(count)x\(k)x\(n) \(places) *\(scale)"
    let byteCount = count * byteStride
    storage = try weights.storage(for: tensor, format: format, byteCount: byteCount) {
      (source) throws(OperatorError) in
      let storage = try weights.allowance.allocate(byteCount: byteCount)
      for index in 0..<count {
        let pieces = MatrixPieces(k: k, n: n, layout: layout, panelColumns: kernels.panelColumns)
        for (rows, columns) in pieces {
          let start = index * k * n + rows.lowerBound * layout.rowStride + columns.lowerBound * layout.columnStride
          let last = (rows.count - 1) * layout.rowStride + (columns.count - 1) * layout.columnStride
          let width = packer.sourceWidth
          try source.withBytes(start * width..<(start + last + 1) * width) { bytes in
            packer.pack(bytes, rows, columns, to: storage.base + index * byteStride)
          }
        }
      }
      if scale != 1, !rounds {
        let packed = storage.base.assumingMemoryBound(to: Float.self)
        for index in 0..<byteCount / 4 { packed[index] *= scale }
      }
      return storage
    }
  }

  static func isHalf(_ type: DataType) -> Bool { type == .float16 || type == .bfloat16 }

  /// The first float of one matrix. Valid while the matrix lives.
  @inline(__always) func base(_ index: Int) -> UnsafePointer<Float> {
    UnsafePointer(storage.base.assumingMemoryBound(to: Float.self)) + index &* stride
  }

  /// Packs pieces of a matrix.
  private struct Packer {
    let kernels: GemmKernels
    let k: Int
    let layout: MatrixLayout
    /// Bytes of an element before and after.
    let sourceWidth: Int
    let width: Int
    /// For elements that are rounded.
    let scale: Float

    /// `bytes` is the first element of the piece, `target` that of the packed matrix.
    func pack(
      _ bytes: UnsafeRawPointer, _ rows: Range<Int>, _ columns: Range<Int>, to target: UnsafeMutableRawPointer
    ) {
      for first in Swift.stride(from: 0, to: columns.count, by: kernels.panelColumns) {
        var piece = apus_gemm_source(
          b: bytes + first * layout.columnStride * sourceWidth, stride_tap: 0, stride_k: layout.rowStride,
          stride_n: layout.columnStride, taps: 1, kc: rows.count, n: min(kernels.panelColumns, columns.count - first))
        let place = (columns.lowerBound + first) * k + rows.lowerBound * kernels.panelColumns
        let panel = target + place * width
        if width == sourceWidth {
          kernels.packPanel(&piece, to: panel, byteWidth: width)
        } else {
          round(&piece, to: panel, count: rows.count * kernels.panelColumns)
        }
      }
    }

    private func round(_ piece: inout apus_gemm_source, to panel: UnsafeMutableRawPointer, count: Int) {
      withUnsafeTemporaryAllocation(of: Float.self, capacity: count) { floats in
        guard let wide = floats.baseAddress else { return }
        kernels.pack(&piece, wide, 0, 1)
        if scale != 1 { for index in 0..<count { wide[index] *= scale } }
        apus_kernels().pointee.f32_to_bf16(count, wide, panel)
      }
    }
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
