// The right-hand matrix of float32 products in the layout of the micro-kernels, packed once for all runs.

import ApusGraph
import ApusTensor
import CApusKernels

/// What the packed panels of a matrix hold.
enum PanelElement: Sendable {
  case float32, float16, bfloat16
  /// bfloat16 in pairs of rows, for products that round A as well.
  case bfloat16Pairs

  init(_ type: DataType) {
    self = type == .float16 ? .float16 : type == .bfloat16 ? .bfloat16 : .float32
  }

  /// Of the kernel that reads them.
  var kernelName: String {
    switch self {
    case .float32: "gemm_f32"
    case .float16: "gemm_f32_f16"
    case .bfloat16: "gemm_f32_bf16"
    case .bfloat16Pairs: "gemm_bf16"
    }
  }
}

/// The float32 matrix micro-kernels of this machine.
///
/// `@unchecked Sendable`: function pointers to C code without state.
struct GemmKernels: @unchecked Sendable {
  typealias Multiply = @convention(c) (UnsafePointer<apus_gemm_f32_args>, Int, Int, Int, Int) -> Void

  let multiply: Multiply
  /// The product with a matrix of rows as it lies, given the distance of its rows.
  let multiplyDirectly: @convention(c) (UnsafePointer<apus_gemm_f32_args>, Int, Int, Int, Int, Int) -> Void
  /// The same with a matrix of columns, given their distance.
  let multiplyTurned: @convention(c) (UnsafePointer<apus_gemm_f32_args>, Int, Int, Int, Int, Int) -> Void
  let pack: @convention(c) (UnsafePointer<apus_gemm_source>, UnsafeMutablePointer<Float>, Int, Int) -> Void
  /// Panels of 16-bit floats.
  private let packHalves:
    @convention(c) (UnsafePointer<apus_gemm_source>, UnsafeMutablePointer<UInt16>, Int, Int) -> Void
  private let multiplyFloat16: Multiply
  private let multiplyBFloat16: Multiply
  private let multiplyPairs: Multiply
  private let packRowPairs: @convention(c) (Int, UnsafePointer<Float>, UnsafeMutablePointer<UInt16>) -> Void
  /// Rows of a register tile, and columns of a packed panel.
  let tileRows: Int
  let panelColumns: Int
  private let pairTileRows: Int
  private let pairPace: GemmTiling.Pace
  /// True if the machine has instructions for sums of products of bfloat16: then panels of pairs are as wide as those
  /// of float32, and faster.
  let hasPairs: Bool

  static var current: GemmKernels { GemmKernels(apus_kernels()) }

  init(_ table: UnsafePointer<apus_kernel_table>) {
    multiply = table.pointee.gemm_f32
    multiplyDirectly = table.pointee.gemm_f32_direct
    multiplyTurned = table.pointee.gemm_f32_turned
    pack = table.pointee.gemm_f32_pack
    packHalves = table.pointee.gemm_b16_pack
    multiplyFloat16 = table.pointee.gemm_f32_f16
    multiplyBFloat16 = table.pointee.gemm_f32_bf16
    tileRows = table.pointee.gemm_f32_mr
    panelColumns = table.pointee.gemm_f32_nr
    multiplyPairs = table.pointee.gemm_bf16
    packRowPairs = table.pointee.gemm_bf16_pack
    pairTileRows = table.pointee.gemm_bf16_mr
    let hasTiles = table.pointee.features & APUS_FEATURE_AMX_BF16.rawValue != 0
    pairPace = GemmTiling.Pace(speed: hasTiles ? 5 : 2, bytes: 2, rowColumns: 64)
    hasPairs =
      table.pointee.features & APUS_FEATURES_BF16_PRODUCTS.rawValue != 0 && table.pointee.gemm_bf16_nr == panelColumns
  }

  /// The product with panels of an element.
  func multiply(by element: PanelElement) -> Multiply {
    switch element {
    case .float32: multiply
    case .float16: multiplyFloat16
    case .bfloat16: multiplyBFloat16
    case .bfloat16Pairs: multiplyPairs
    }
  }

  /// Rows of a register tile of the product with panels of an element, and how it fares.
  func tile(of element: PanelElement) -> (rows: Int, pace: GemmTiling.Pace) {
    element == .bfloat16Pairs ? (pairTileRows, pairPace) : (tileRows, .float32)
  }

  /// Bytes of the panels of a packed matrix of `taps` times `k` rows.
  func panelBytes(_ element: PanelElement, taps: Int = 1, k: Int) -> Int {
    switch element {
    case .float32: taps &* k &* panelColumns &* 4
    case .float16, .bfloat16: taps &* k &* panelColumns &* 2
    case .bfloat16Pairs: apus_gemm_bf16_panel_count(taps, k, panelColumns) &* 2
    }
  }

  /// Rounds the rows of a float32 panel from `row` on, an even one, to pairs of one tap of `k` rows; behind the last
  /// row of the last tap follow the zeros that a panel ends with.
  func packPairs(
    _ panel: UnsafePointer<Float>, rows: Range<Int>, k: Int, tap: Int = 0, taps: Int = 1,
    to pairs: UnsafeMutablePointer<UInt16>
  ) {
    let depth = (k &+ 1) & ~1
    packRowPairs(rows.count, panel, pairs + (tap &* depth &+ rows.lowerBound) &* panelColumns)
    guard rows.upperBound == k, tap == taps &- 1 else { return }
    let end = taps &* depth &* panelColumns
    let count = apus_gemm_bf16_panel_count(taps, k, panelColumns)
    (pairs + end).update(repeating: 0, count: count &- end)
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
  let element: PanelElement
  /// From one matrix to the next, in floats whatever the element is.
  let stride: Int

  /// Packs `count` matrices that lie one after the other in a tensor, each element times `scale`; once for all nodes
  /// that ask for the same. Elements of float16 and bfloat16 stay what they are and take no scale; those of other types
  /// are moved in words of 32 bits, as many as k and n say. `mayRound`: floats become bfloat16 where the model's
  /// weights shall. `mayRoundRows`: A may be rounded to bfloat16, too, whatever the weights.
  init(
    _ tensor: Tensor, count: Int = 1, k: Int, n: Int, layout: MatrixLayout, scale: Float = 1, mayRound: Bool = false,
    mayRoundRows: Bool = false, in weights: PackedWeights
  ) throws(OperatorError) {
    let kernels = GemmKernels.current
    let source = PackedMatrix.isHalf(tensor.dataType) ? tensor.dataType : .float32
    precondition(source == .float32 || scale == 1, "16-bit panels take no scale")
    let isNarrow = weights.precision == .bfloat16
    let takesPairs = kernels.hasPairs && (mayRound && isNarrow || mayRoundRows)
    let rounds = takesPairs || mayRound && tensor.dataType == .float32 && isNarrow
    element = takesPairs ? .bfloat16Pairs : rounds ? .bfloat16 : PanelElement(source)
    let packer = Packer(
      kernels: kernels, element: element, source: source, k: k, layout: layout, scale: rounds ? scale : 1)
    let byteStride = aligned(kernels.panelCount(n) * kernels.panelBytes(element, k: k))
    stride = byteStride / 4
    let places = "\(layout.rowStride),\(layout.columnStride)"
    let format = "\(element.kernelName)/\(kernels.panelColumns) \(count)x\(k)x\(n) \(places) *\(scale)"
    let byteCount = count * byteStride
    storage = try weights.storage(for: tensor, format: format, byteCount: byteCount) {
      (source) throws(OperatorError) in
      let storage = try weights.allowance.allocate(byteCount: byteCount, isFilled: true)
      for index in 0..<count {
        let pieces = MatrixPieces(k: k, n: n, layout: layout, panelColumns: kernels.panelColumns)
        for (rows, columns) in pieces {
          let start = index * k * n + rows.lowerBound * layout.rowStride + columns.lowerBound * layout.columnStride
          let last = (rows.count - 1) * layout.rowStride + (columns.count - 1) * layout.columnStride
          let width = packer.source.byteWidth
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

  /// True if panels of float32 hold neither infinities nor NaN.
  var isFinite: Bool {
    precondition(element == .float32, "panels of \(element) are not looked at")
    let exponent = Float.infinity.bitPattern
    let words = storage.base.assumingMemoryBound(to: UInt32.self)
    var other: UInt32 = 0
    for index in 0..<storage.byteCount / 4 { other |= words[index] & exponent == exponent ? 1 : 0 }
    return other == 0
  }

  /// The first float of one matrix. Valid while the matrix lives.
  @inline(__always) func base(_ index: Int) -> UnsafePointer<Float> {
    UnsafePointer(storage.base.assumingMemoryBound(to: Float.self)) + index &* stride
  }

  /// Packs pieces of a matrix.
  private struct Packer {
    let kernels: GemmKernels
    let element: PanelElement
    /// Of the elements before.
    let source: DataType
    let k: Int
    let layout: MatrixLayout
    /// For elements that are rounded.
    let scale: Float

    /// `bytes` is the first element of the piece, `target` that of the packed matrix.
    func pack(
      _ bytes: UnsafeRawPointer, _ rows: Range<Int>, _ columns: Range<Int>, to target: UnsafeMutableRawPointer
    ) {
      let panelBytes = kernels.panelBytes(element, k: k)
      for first in Swift.stride(from: 0, to: columns.count, by: kernels.panelColumns) {
        var piece = apus_gemm_source(
          b: bytes + first * layout.columnStride * source.byteWidth, stride_tap: 0, stride_k: layout.rowStride,
          stride_n: layout.columnStride, taps: 1, kc: rows.count, n: min(kernels.panelColumns, columns.count - first))
        let panel = target + (columns.lowerBound + first) / kernels.panelColumns * panelBytes
        let row = kernels.panelColumns * rows.lowerBound
        switch element {
        case .float32: kernels.packPanel(&piece, to: panel + 4 * row, byteWidth: 4)
        case .bfloat16 where source == .float32:
          round(&piece, rows) { floats, count in
            apus_kernels().pointee.f32_to_bf16(count, floats, panel + 2 * row)
          }
        case .float16, .bfloat16: kernels.packPanel(&piece, to: panel + 2 * row, byteWidth: 2)
        case .bfloat16Pairs:
          round(&piece, rows) { floats, _ in
            kernels.packPairs(floats, rows: rows, k: k, to: panel.assumingMemoryBound(to: UInt16.self))
          }
        }
      }
    }

    /// Gives a piece of a panel in float32, times the scale.
    private func round(
      _ piece: inout apus_gemm_source, _ rows: Range<Int>, _ store: (UnsafePointer<Float>, _ count: Int) -> Void
    ) {
      let count = rows.count * kernels.panelColumns
      withUnsafeTemporaryAllocation(of: Float.self, capacity: count) { floats in
        guard let wide = floats.baseAddress else { return }
        if let widen = source == .float32 ? nil : elementConverter(from: source, to: .float32) {
          withUnsafeTemporaryAllocation(of: UInt16.self, capacity: count) { halves in
            guard let narrow = halves.baseAddress else { return }
            kernels.packPanel(&piece, to: narrow, byteWidth: 2)
            widen(narrow, wide, count)
          }
        } else {
          kernels.pack(&piece, wide, 0, 1)
        }
        if scale != 1 { for index in 0..<count { wide[index] *= scale } }
        store(wide, count)
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
      // Rows in pairs.
      step = Swift.max(2, room / Swift.max(layout.rowStride, 1) & ~1)
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
