// Products of 8-bit matrices less their zero points on the integer matrix kernel, as int32, float32 or bytes again.

import ApusGraph
import ApusTensor
import CApusKernels

/// C = result((A - zero points) · (B - zero points)), sums in int32, which wrap around, for all matrices of a batch.
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
  private let result: ByteResult
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
    hasZeroPoints: (a: Bool, b: Bool), packed: PackedBytes?, result: ByteResult
  ) {
    let types: [DataType] = [.int8, .uint8]
    guard types.contains(a.dataType), types.contains(b.dataType) else { return nil }
    let (kernels, rightShape) = (
      ByteKernels.current, b.shape.asRightFactor(isTransposed: operands.isTransposed)
    )
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
    (self.packed, self.operands, self.kernels, self.result) = (packed, operands, kernels, result)
    tiling = GemmTiling(
      batch: count, m: m, n: n, k: k, tileRows: kernels.tileRows, panelColumns: kernels.panelColumns,
      pace: kernels.pace)
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

  /// Inputs as `operands` and `result` have them, output C. Scratch memory: zero points of rows and of columns, scales,
  /// packed B.
  var step: Step {
    let form = rightForm
    let hasTables = left.hasTable || right.hasTable || result.scaleCount > 0
    let columnZeros = left.hasTable ? aligned(left.allLines &* 4) : 0
    let scales = columnZeros + (right.hasTable ? aligned(right.allLines &* 4) : 0)
    let packing = scales + aligned(result.scaleCount &* 4)
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
      let scaleTable = (run.scratch + scales).assumingMemoryBound(to: Float.self)
      if phase == phases.count &- 1 {
        multiply(
          run, part, form, rowZeros: left.hasTable ? UnsafePointer(rowTable) : nil,
          columnZeros: right.hasTable ? UnsafePointer(columnTable) : nil, scales: scaleTable,
          b: run.scratch + (packing &+ (form == .packedOnTheWay ? part &* piece : 0)))
      } else if hasTables && part == 0 {
        if left.hasTable { left.fill(rowTable, from: run.inputBytes(operands.aZero)) }
        if right.hasTable { right.fill(columnTable, from: run.inputBytes(operands.bZero)) }
        result.fill(scaleTable, run)
      } else {
        let (index, group) = (part &- (hasTables ? 1 : 0)).quotientAndRemainder(dividingBy: groups.parts)
        kernels.pack(
          run.inputBytes(operands.b) + right.matrices[index] &* k &* n, k: k, n: n,
          isTransposed: operands.isTransposed, isSigned: right.isSigned,
          to: run.scratch + (packing &+ index &* matrixBytes), panels: groups.range(group))
      }
    }
    if form == .constant { step.unreadInputs = [operands.b] }
    return step.named(kernels.name, cost: Cost(operations: operations))
  }

  /// One part. `b` is where packed B lies, or room for some panels.
  private func multiply(
    _ run: RunContext, _ part: Int, _ form: RightForm, rowZeros: UnsafePointer<Int32>?,
    columnZeros: UnsafePointer<Int32>?, scales: UnsafePointer<Float>, b: UnsafeMutableRawPointer
  ) {
    let tile = tiling.tile(part)
    var arguments = apus_gemm_i8_args(
      a: run.inputBytes(operands.a), lda: k, offsets: nil, pad: nil, taps: 1, kc: k, n: n, a_signed: left.isSigned,
      b_signed: right.isSigned, a_zero: left.zero(run.inputBytes(operands.aZero)),
      b_zero: right.zero(run.inputBytes(operands.bZero)), a_zeros: nil, b_zeros: nil, b: b, c: run.outputBytes(0),
      ldc: n, output: APUS_GEMM_I8_TO_I32, wide: false, bias: nil, scale: 1, scales: nil, zero: 0, low: 0, high: 0,
      epilogue: apus_epilogue_f32())
    result.complete(&arguments, run, scales, columns: n)
    let residual = arguments.epilogue.add
    for index in tile.batches {
      let (leftIndex, rightIndex) = (left.matrices[index], right.matrices[index])
      arguments.a = run.inputBytes(operands.a) + leftIndex &* m &* k
      arguments.a_zeros = rowZeros.map { $0 + leftIndex &* m }
      arguments.b_zeros = columnZeros.map { $0 + rightIndex &* n }
      arguments.c = run.outputBytes(0) + index &* m &* n &* result.width
      arguments.epilogue.add = residual.map { $0 + index &* m &* n }
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
      var piece = ByteKernels.source(source, k: k, n: n, isTransposed: operands.isTransposed, fromColumn: column)
      kernels.pack(&piece, right.isSigned, packed, 0, size)
      // The same product, seen from this column on.
      var arguments = whole
      arguments.b = UnsafeRawPointer(packed)
      arguments.n = n &- column
      arguments.c = whole.c + column &* result.width
      arguments.b_zeros = whole.b_zeros.map { $0 + column }
      arguments.bias = whole.bias.map { $0 + column }
      arguments.scales = whole.scales.map { $0 + column }
      arguments.epilogue.bias = whole.epilogue.bias.map { $0 + column }
      arguments.epilogue.add = whole.epilogue.add.map { $0 + column }
      kernels.multiply(&arguments, tile.rows.lowerBound, tile.rows.upperBound, 0, size)
      panel &+= size
    }
  }
}
