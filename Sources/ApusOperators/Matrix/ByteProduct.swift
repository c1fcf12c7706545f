// Products of 8-bit matrices less their zero points, as int32, on the integer matrix kernel.

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
  let name: String

  static var current: ByteKernels { ByteKernels(apus_kernels()) }

  init(_ table: UnsafePointer<apus_kernel_table>) {
    multiply = table.pointee.gemm_i8
    pack = table.pointee.gemm_i8_pack
    tileRows = table.pointee.gemm_i8_mr
    panelColumns = table.pointee.gemm_i8_nr
    name = "gemm_i8 \(String(cString: table.pointee.name))"
  }

  func panelCount(_ n: Int) -> Int { apus_gemm_panels(n, panelColumns) }
  func panelBytes(k: Int) -> Int { apus_gemm_i8_panel_bytes(1, k, panelColumns) }
  /// Bytes of a packed [k, n] matrix, a multiple of 64.
  func packedBytes(k: Int, n: Int) -> Int { aligned(panelCount(n) &* panelBytes(k: k)) }

  /// The same as it would be without the limits of integers.
  func estimatedBytes(k: Int, n: Int) -> Double {
    (Double(n) + Double(panelColumns)) * (Double(k) + 8) + 64
  }

  /// Packs panels of a [k, n] matrix in rows; `target` is where the first panel of all lies.
  func pack(
    _ b: UnsafeRawPointer, k: Int, n: Int, isSigned: Bool, to target: UnsafeMutableRawPointer, panels: Range<Int>
  ) {
    var source = apus_gemm_source(b: b, stride_tap: 0, stride_k: n, stride_n: 1, taps: 1, kc: k, n: n)
    pack(&source, isSigned, target, panels.lowerBound, panels.upperBound)
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

  /// Packs the matrices of the last two axes of a constant int8 or uint8 tensor, of which a vector is one column; nil
  /// if it is no such tensor, without elements, or not worth the memory.
  init?(_ tensor: Tensor?, in weights: PackedWeights) throws(OperatorError) {
    guard let tensor, tensor.dataType == .int8 || tensor.dataType == .uint8, tensor.rank > 0, tensor.count > 0 else {
      return nil
    }
    let kernels = ByteKernels.current
    let shape = tensor.shape.asColumn
    let (k, n) = (shape[shape.rank - 2], shape[shape.rank - 1])
    let count = tensor.count / k / n
    guard
      kernels.estimatedBytes(k: k, n: n) * Double(count)
        <= Double(PackedBytes.largestGrowth) * Double(tensor.count) + Double(PackedBytes.smallBytes)
    else { return nil }
    let stride = kernels.packedBytes(k: k, n: n)
    self.stride = stride
    let isSigned = tensor.dataType == .int8
    let format = "gemm_i8/\(kernels.panelColumns) \(count)x\(k)x\(n) \(tensor.dataType)"
    let byteCount = count * stride
    storage = try weights.storage(for: tensor, format: format, byteCount: byteCount) {
      (source) throws(OperatorError) in
      let storage = try weights.allowance.allocate(byteCount: byteCount)
      for index in 0..<count {
        try source.withBytes(index * k * n..<(index + 1) * k * n) { bytes in
          kernels.pack(
            bytes, k: k, n: n, isSigned: isSigned, to: storage.base + index * stride, panels: 0..<kernels.panelCount(n))
        }
      }
      return storage
    }
  }

  /// The first byte of one matrix. Valid while the storage lives.
  @inline(__always) func base(_ index: Int) -> UnsafeRawPointer { UnsafeRawPointer(storage.base) + index &* stride }
}

/// C = (A - zero points) · (B - zero points) in int32, which wraps around, for all matrices of a batch.
struct ByteProduct: Sendable {
  private let m: Int
  private let n: Int
  private let k: Int
  /// Matrices of C.
  private let count: Int
  private let left: Factor
  private let right: Factor
  private let packed: PackedBytes?
  private let operands: IntegerOperandPositions
  private let tiling: GemmTiling
  private let kernels: ByteKernels

  /// One side of the product.
  private struct Factor: Sendable {
    let isSigned: Bool
    /// The matrix for each matrix of C.
    let matrices: BroadcastMatrices
    /// Rows of A, columns of B, of one matrix and of all.
    let lines: Int
    let allLines: Int
    let hasZeroPoint: Bool
    let zeroPoints: LineIndex
    /// True if lines have zero points of their own, which are then written out as int32.
    var hasTable: Bool { hasZeroPoint && !zeroPoints.isSingle }

    func zero(_ bytes: UnsafeRawPointer, _ index: Int) -> Int32 {
      let byte = bytes.load(fromByteOffset: index, as: UInt8.self)
      return isSigned ? Int32(Int8(bitPattern: byte)) : Int32(byte)
    }

    /// The zero point of all lines.
    func zero(_ bytes: UnsafeRawPointer) -> Int32 { hasZeroPoint && !hasTable ? zero(bytes, 0) : 0 }

    func fill(_ table: UnsafeMutablePointer<Int32>, from bytes: UnsafeRawPointer) {
      for index in 0..<allLines {
        let (matrix, line) = index.quotientAndRemainder(dividingBy: lines)
        table[index] = zero(bytes, zeroPoints(matrix: matrix, line: line))
      }
    }
  }

  /// How B comes into packed form.
  private enum RightForm {
    case constant
    /// All of B, in a phase before.
    case packedFirst
    /// Some panels at a time, by the part that multiplies with them.
    case packedOnTheWay
  }

  /// Bytes that a run may pack beside those of the factors.
  private static let smallBytes = 1 << 20
  /// A piece of B that is packed at once: it fits the second-level cache beside the rows.
  private static let pieceBytes = 128 << 10

  /// nil if a run would need too much memory to pack B, or for other factors than matrices of bytes.
  init?(
    _ a: TensorType, _ b: TensorType, zeroPoints: (a: LineIndex, b: LineIndex), _ operands: IntegerOperandPositions,
    hasZeroPoints: (a: Bool, b: Bool), packed: PackedBytes?
  ) {
    let types: [DataType] = [.int8, .uint8]
    guard types.contains(a.dataType), types.contains(b.dataType) else { return nil }
    let (kernels, rightShape) = (ByteKernels.current, b.shape.asColumn)
    let leftShape = a.shape.rank == 1 ? [1, a.shape[0]] : a.shape
    let (rows, depth, columns) = (
      leftShape[leftShape.rank - 2], leftShape[leftShape.rank - 1], rightShape[rightShape.rank - 1]
    )
    let leftCount = leftShape.dims.dropLast(2).reduce(1, &*)
    let rightCount = rightShape.dims.dropLast(2).reduce(1, &*)
    let rank = max(leftShape.rank, rightShape.rank) - 2
    func extents(_ shape: Shape) -> [Int] {
      [Int](repeating: 1, count: rank - (shape.rank - 2)) + shape.dims.dropLast(2)
    }
    let batch = zip(extents(leftShape), extents(rightShape)).map { $0 == 1 ? $1 : $0 }
    // One B for all: the matrices of A are rows of one.
    let isFolded = rightCount == 1
    (n, k, m) = (columns, depth, isFolded ? rows &* leftCount : rows)
    count = isFolded ? 1 : batch.reduce(1, &*)
    left = Factor(
      isSigned: a.dataType == .int8, matrices: BroadcastMatrices(of: leftShape, in: batch), lines: rows,
      allLines: rows &* leftCount, hasZeroPoint: hasZeroPoints.a, zeroPoints: zeroPoints.a)
    right = Factor(
      isSigned: b.dataType == .int8, matrices: BroadcastMatrices(of: rightShape, in: batch), lines: columns,
      allLines: columns &* rightCount, hasZeroPoint: hasZeroPoints.b, zeroPoints: zeroPoints.b)
    (self.packed, self.operands, self.kernels) = (packed, operands, kernels)
    tiling = GemmTiling(
      batch: count, m: m, n: n, k: k, tileRows: kernels.tileRows, panelColumns: kernels.panelColumns)
    if packed == nil {
      let copies = tiling.rowBlocks > 1 ? count : tiling.parts
      let columns = tiling.rowBlocks > 1 ? n : min(n, tiling.panelsPerBlock &* kernels.panelColumns)
      let factors = Double(a.count) + Double(b.count)
      guard
        kernels.estimatedBytes(k: k, n: columns) * Double(copies) <= 4 * factors + Double(ByteProduct.smallBytes)
      else { return nil }
    }
  }

  private var operations: Int { count &* 2 &* m &* n &* k }
  private var matrixBytes: Int { kernels.packedBytes(k: k, n: n) }

  private var rightForm: RightForm {
    packed != nil ? .constant : tiling.rowBlocks > 1 ? .packedFirst : .packedOnTheWay
  }

  /// Panels that are packed at once on the way.
  private var panelsOnTheWay: Int {
    min(max(1, ByteProduct.pieceBytes / kernels.panelBytes(k: k)), tiling.panelsPerBlock)
  }

  // MARK: - The step

  /// Inputs as `operands` has them, output C. Scratch memory: zero points of rows and of columns, packed B.
  var step: Step {
    let form = rightForm
    let hasTables = left.hasTable || right.hasTable
    let columnZeros = left.hasTable ? aligned(left.allLines &* 4) : 0
    let packing = columnZeros + (right.hasTable ? aligned(right.allLines &* 4) : 0)
    let piece = aligned(panelsOnTheWay &* kernels.panelBytes(k: k))
    let groups = Partition(tiling.panels, of: .copying(bytes: kernels.panelBytes(k: k)))
    let packedBytes =
      switch form {
      case .constant: 0
      case .packedFirst: count &* matrixBytes
      case .packedOnTheWay: tiling.parts &* piece
      }
    let first = (hasTables ? 1 : 0) + (form == .packedFirst ? count &* groups.parts : 0)
    let phases = (first > 0 ? [first] : []) + [tiling.parts]
    var step = Step(phases: phases, scratchBytes: packing + packedBytes) { run, phase, part in
      let rowTable = run.scratch.assumingMemoryBound(to: Int32.self)
      let columnTable = (run.scratch + columnZeros).assumingMemoryBound(to: Int32.self)
      if phase == phases.count &- 1 {
        multiply(
          run, part, form, rowZeros: left.hasTable ? UnsafePointer(rowTable) : nil,
          columnZeros: right.hasTable ? UnsafePointer(columnTable) : nil,
          b: run.scratch + (packing &+ (form == .packedOnTheWay ? part &* piece : 0)))
      } else if hasTables && part == 0 {
        if left.hasTable { left.fill(rowTable, from: run.inputBytes(operands.aZero)) }
        if right.hasTable { right.fill(columnTable, from: run.inputBytes(operands.bZero)) }
      } else {
        let (index, group) = (part &- (hasTables ? 1 : 0)).quotientAndRemainder(dividingBy: groups.parts)
        kernels.pack(
          run.inputBytes(operands.b) + right.matrices[index] &* k &* n, k: k, n: n, isSigned: right.isSigned,
          to: run.scratch + (packing &+ index &* matrixBytes), panels: groups.range(group))
      }
    }
    if form == .constant { step.unreadInputs = [operands.b] }
    return step.named(kernels.name, cost: Cost(operations: operations))
  }

  /// One part. `b` is where packed B lies, or room for some panels.
  private func multiply(
    _ run: RunContext, _ part: Int, _ form: RightForm, rowZeros: UnsafePointer<Int32>?,
    columnZeros: UnsafePointer<Int32>?, b: UnsafeMutableRawPointer
  ) {
    let tile = tiling.tile(part)
    var arguments = apus_gemm_i8_args(
      a: run.inputBytes(operands.a), lda: k, offsets: nil, pad: nil, taps: 1, kc: k, n: n, a_signed: left.isSigned,
      b_signed: right.isSigned, a_zero: left.zero(run.inputBytes(operands.aZero)),
      b_zero: right.zero(run.inputBytes(operands.bZero)), a_zeros: nil, b_zeros: nil, b: b, c: run.outputBytes(0),
      ldc: n, output: APUS_GEMM_I8_TO_I32, bias: nil, scale: 1, scales: nil, zero: 0, low: 0, high: 0,
      epilogue: apus_epilogue_f32())
    for index in tile.batches {
      let (leftIndex, rightIndex) = (left.matrices[index], right.matrices[index])
      arguments.a = run.inputBytes(operands.a) + leftIndex &* m &* k
      arguments.a_zeros = rowZeros.map { $0 + leftIndex &* m }
      arguments.b_zeros = columnZeros.map { $0 + rightIndex &* n }
      arguments.c = run.outputBytes(0) + index &* m &* n &* 4
      switch form {
      case .constant: arguments.b = packed.map { $0.base(rightIndex) } ?? UnsafeRawPointer(b)
      case .packedFirst: arguments.b = UnsafeRawPointer(b + index &* matrixBytes)
      case .packedOnTheWay:
        packAndMultiply(tile, arguments, source: run.inputBytes(operands.b) + rightIndex &* k &* n, packed: b)
        continue
      }
      kernels.multiply(
        &arguments, tile.rows.lowerBound, tile.rows.upperBound, tile.panels.lowerBound, tile.panels.upperBound)
    }
  }

  private func packAndMultiply(
    _ tile: GemmTiling.Tile, _ whole: apus_gemm_i8_args, source: UnsafeRawPointer, packed: UnsafeMutableRawPointer
  ) {
    let group = panelsOnTheWay
    var panel = tile.panels.lowerBound
    while panel < tile.panels.upperBound {
      let size = min(group, tile.panels.upperBound &- panel)
      let column = panel &* kernels.panelColumns
      var piece = apus_gemm_source(
        b: source + column, stride_tap: 0, stride_k: n, stride_n: 1, taps: 1, kc: k, n: n &- column)
      kernels.pack(&piece, right.isSigned, packed, 0, size)
      // The same product, seen from this column on.
      var arguments = whole
      arguments.b = UnsafeRawPointer(packed)
      arguments.n = n &- column
      arguments.c = whole.c + column &* 4
      arguments.b_zeros = whole.b_zeros.map { $0 + column }
      kernels.multiply(&arguments, tile.rows.lowerBound, tile.rows.upperBound, 0, size)
      panel &+= size
    }
  }
}
