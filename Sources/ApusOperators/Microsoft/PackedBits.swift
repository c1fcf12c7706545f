// MatMulNBits with constant weights, which stay in their few bits: packed once, widened in registers.

import ApusGraph
import ApusTensor
import CApusKernels

/// The micro-kernels of this machine for weights of few bits.
///
/// `@unchecked Sendable`: function pointers to C code without state.
struct BitsKernels: @unchecked Sendable {
  let multiply: @convention(c) (UnsafePointer<apus_gemm_nbits_args>, Int, Int, Int, Int) -> Void
  let widen: @convention(c) (UnsafePointer<apus_nbits_weights>, UnsafeMutablePointer<Float>, Int, Int) -> Void
  let shorten:
    @convention(c) (
      Int, Int, UInt32, UnsafePointer<Float>, UnsafeMutablePointer<Int8>, UnsafeMutablePointer<Float>,
      UnsafeMutablePointer<Int32>
    ) -> Bool
  let multiplyBytes: @convention(c) (UnsafePointer<apus_gemm_nbits_i8_args>, Int, Int, Int, Int) -> Void
  /// True if products of bytes are faster than those of floats.
  let hasBytes: Bool

  static var current: BitsKernels {
    let table = apus_kernels().pointee
    return BitsKernels(
      multiply: table.gemm_nbits, widen: table.nbits_panels, shorten: table.nbits_row,
      multiplyBytes: table.gemm_nbits_i8, hasBytes: table.level != APUS_LEVEL_PORTABLE)
  }
}

/// Sixteen numbers that codes of 4 bits stand for, at one address for good: each is made once.
///
/// `@unchecked Sendable`: nobody writes to the numbers.
struct NumberTable: @unchecked Sendable {
  let base: UnsafePointer<Float>

  init(_ numbers: [Float]) {
    precondition(numbers.count == 16, "a table has a number for each code")
    let memory = UnsafeMutablePointer<Float>.allocate(capacity: 16)
    memory.initialize(from: numbers, count: 16)
    base = UnsafePointer(memory)
  }

  subscript(code: Int) -> Float { base[code & 15] }
}

/// Constant matrices of `QuantizedBlocks` in panels, with their scales and zero points.
struct PackedBits: Sendable {
  /// Where the forms lie, and how far those of one matrix are from the next: in words, scales and zero points.
  struct Strides: Sendable {
    var codes = 0
    var scales = 0
    var zeros = 0
  }

  enum Zeros: Sendable, Hashable {
    case middle
    case bytes
    case floats
  }

  let blocks: QuantizedBlocks
  let zeros: Zeros
  let strides: Strides
  let operands: [PackedOperand]
  /// What codes stand for, if they are no integers.
  private let table: NumberTable?

  /// Positions of the inputs.
  struct Inputs: Sendable {
    var codes = 1
    var scales = 2
    var zeros = 3
  }

  /// Packs the weights of a node; nil if they are not constant or not as many as there must be.
  ///
  /// `blocks` are those of one of `count` matrices that lie one after the other.
  init?(
    _ context: PrepareContext, _ blocks: QuantizedBlocks, count: Int = 1, at inputs: Inputs = Inputs(),
    table: NumberTable? = nil
  ) throws(OperatorError) {
    (self.blocks, self.table) = (blocks, table)
    let hasZeros = context.isPresent(inputs.zeros)
    guard let codes = context.packable(inputs.codes), let scales = context.packable(inputs.scales),
      scales.dataType == .float32, !hasZeros || context.packable(inputs.zeros) != nil, count > 0, blocks.n > 0,
      blocks.k > 0, blocks.blockWords > 0, codes.count == count * blocks.n * blocks.blocks * blocks.blockWords * 4,
      scales.count == count * blocks.n * blocks.blocks
    else { return nil }
    var (strides, operands) = (Strides(), [PackedOperand]())
    func pack(_ input: Int, _ tensor: Tensor, rows: Int) throws(OperatorError) -> Int {
      let packed = try PackedMatrix(
        tensor, count: count, k: rows, n: blocks.n, layout: .columnMajor(rows: rows), in: context.packedWeights)
      operands.append(PackedOperand(input: input, storage: packed.storage))
      return packed.stride
    }
    strides.codes = try pack(inputs.codes, codes, rows: blocks.blocks * blocks.blockWords)
    strides.scales = try pack(inputs.scales, scales, rows: blocks.blocks)
    var kind = Zeros.middle
    if hasZeros, let zeros = context.packable(inputs.zeros) {
      if zeros.dataType == .float32 {
        guard zeros.count == scales.count else { return nil }
        kind = .floats
        strides.zeros = try pack(inputs.zeros, zeros, rows: blocks.blocks)
      } else {
        guard zeros.dataType == .uint8, zeros.count == count * blocks.n * blocks.zeroBytes else { return nil }
        kind = .bytes
        let storage = try PackedBits.packZeros(zeros, blocks, count: count, in: context.packedWeights)
        strides.zeros = storage.byteCount / count
        operands.append(PackedOperand(input: inputs.zeros, storage: storage))
      }
    }
    (self.zeros, self.strides, self.operands) = (kind, strides, operands)
  }

  /// Zero points of few bits as bytes, in panels of [blocks][columns].
  private static func packZeros(
    _ zeros: Tensor, _ blocks: QuantizedBlocks, count: Int, in weights: PackedWeights
  ) throws(OperatorError) -> TensorStorage {
    let kernels = GemmKernels.current
    let width = kernels.panelColumns
    let stride = aligned(kernels.packedCount(k: blocks.blocks, n: blocks.n))
    let format = "zeros/\(width) \(count)x\(blocks.blocks)x\(blocks.n) of \(blocks.bits) bits"
    return try weights.storage(for: zeros, format: format, byteCount: count * stride) {
      (source) throws(OperatorError) in
      let storage = try weights.allowance.allocate(byteCount: count * stride, isFilled: true)
      let bytes = storage.base.assumingMemoryBound(to: UInt8.self)
      bytes.update(repeating: 0, count: count * stride)
      for index in 0..<count {
        let first = index * blocks.n * blocks.zeroBytes
        try source.withBytes(first..<first + blocks.n * blocks.zeroBytes) { codes in
          let codes = codes.assumingMemoryBound(to: UInt8.self)
          for column in 0..<blocks.n {
            let (panel, lane) = column.quotientAndRemainder(dividingBy: width)
            let target = bytes + index * stride + panel * blocks.blocks * width + lane
            let line = codes + column * blocks.zeroBytes
            for block in 0..<blocks.blocks {
              target[block * width] = UInt8(PackedElements.load(line, bits: blocks.bits, at: block))
            }
          }
        }
      }
      return storage
    }
  }

  /// The weights of one matrix during a run.
  @inline(__always)
  func weights(_ run: RunContext, _ index: Int = 0, at inputs: Inputs = Inputs()) -> apus_nbits_weights {
    apus_nbits_weights(
      k: blocks.k, n: blocks.n, block: blocks.blockSize, bits: UInt32(blocks.bits),
      codes: run.input(inputs.codes) + index &* strides.codes,
      scales: run.input(inputs.scales) + index &* strides.scales,
      zeros: zeros == .bytes ? run.input(inputs.zeros) + index &* strides.zeros : nil,
      float_zeros: zeros == .floats ? run.input(inputs.zeros) + index &* strides.zeros : nil, table: table?.base)
  }
}

/// Y = A · Wᵀ + bias with A [m, k] in float32 and weights in panels.
struct BitsProduct: Sendable {
  let m: Int
  let packed: PackedBits
  private let kernels = BitsKernels.current
  private let floats = GemmKernels.current

  init(m: Int, _ packed: PackedBits) { (self.m, self.packed) = (m, packed) }

  /// So few rows widen the weights for every tile of rows; more of them once, into scratch memory.
  private static let fewRows = 24
  /// Weights that are widened at once: they fit the second-level cache beside the rows.
  private static let pieceFloats = 64 << 10

  private var n: Int { packed.blocks.n }
  private var k: Int { packed.blocks.k }
  private var panelsAtOnce: Int { max(1, BitsProduct.pieceFloats / max(k * floats.panelColumns, 1)) }
  private var cost: Cost { Cost(operations: 2 &* m &* n &* k) }

  /// Floats of scratch memory that one part needs for `m` rows, a multiple of 16.
  var scratchFloats: Int {
    m <= BitsProduct.fewRows ? 0 : min(panelsAtOnce, floats.panelCount(n)) * k * floats.panelColumns
  }

  /// The bytes of a panel of columns that a product reads.
  private var panelBytes: Cost {
    Cost(bytes: k * packed.blocks.bits / 8 + 5 * packed.blocks.blocks) * floats.panelColumns
  }

  /// A panel of columns: its weights are read and widened, then multiplied with every row.
  var panel: Cost { Cost(operations: 4 + 2 * m) * k * floats.panelColumns + panelBytes }

  /// In float32.
  func step(bias: Int?) -> Step {
    let scratch = scratchFloats
    let partition = Partition(
      floats.panelCount(n), of: panel, tile: 2,
      maximumParts: scratch == 0 ? Partition.maximumParts : GemmTiling.partsWithScratch)
    var step = Step.parallel(parts: m == 0 ? 0 : partition.parts, scratchBytes: partition.parts * scratch * 4) {
      run, part in
      multiply(
        packed.weights(run), partition.range(part), rows: m, a: run.input(0), bias: bias.map { run.input($0) },
        c: run.output(), scratch: run.scratch.assumingMemoryBound(to: Float.self) + part &* scratch)
    }
    step.unreadInputs = packed.operands.map(\.input)
    return step.named("gemm_nbits", cost: cost)
  }

  /// The columns of some panels for the first `rows` rows, at most `m`.
  func multiply(
    _ weights: apus_nbits_weights, _ panels: Range<Int>, rows: Int, a: UnsafePointer<Float>,
    bias: UnsafePointer<Float>?, c: UnsafeMutablePointer<Float>, scratch: UnsafeMutablePointer<Float>
  ) {
    var args = apus_gemm_nbits_args(weights: weights, a: a, lda: k, c: c, ldc: n, bias: bias)
    if rows <= BitsProduct.fewRows { return kernels.multiply(&args, 0, rows, panels.lowerBound, panels.upperBound) }
    var panel = panels.lowerBound
    while panel < panels.upperBound {
      let end = min(panel &+ panelsAtOnce, panels.upperBound)
      kernels.widen(&args.weights, scratch, panel, end)
      let column = panel &* floats.panelColumns
      // The same product, seen from this column on.
      var wide = apus_gemm_f32_args(
        a: a, lda: k, offsets: nil, zeros: nil, taps: 1, kc: k, n: n &- column, b: scratch, c: c + column, ldc: n,
        epilogue: apus_epilogue_f32(
          bias: bias.map { $0 + column }, add: nil, add_ld: 0, activation: APUS_ACTIVATION_NONE, alpha: 0, beta: 0))
      floats.multiply(&wide, 0, rows, 0, end &- panel)
      panel = end
    }
  }

  // MARK: - Rows in 8 bits

  /// Where the rows of A lie in scratch memory in 8 bits: the numbers, scales and sums of blocks, and whether the row
  /// has that form.
  private struct ShortRows: Sendable {
    let scales: Int
    let sums: Int
    let flags: Int
    let byteCount: Int

    init(rows: Int, _ blocks: QuantizedBlocks) {
      let numbers = rows * blocks.blocks * blocks.blockSize
      scales = aligned(numbers)
      sums = scales + aligned(rows * blocks.blocks * 4)
      flags = sums + aligned(rows * blocks.blocks * 4)
      byteCount = flags + aligned(rows)
    }
  }

  /// With the rows of A rounded to 8 bits by blocks, each of which has a scale of its own; rows that this form cannot
  /// hold (numbers that are not finite, or very large or small) in float32.
  func shortStep(bias: Int?) -> Step {
    let blocks = packed.blocks
    let places = ShortRows(rows: m, blocks)
    let rows = Partition(m, of: .light * 2 * k)
    let partition = Partition(
      floats.panelCount(n), of: Cost(operations: 1 + m) * k * floats.panelColumns + panelBytes, tile: 2)
    var step = Step(phases: [rows.parts, m == 0 ? 0 : partition.parts], scratchBytes: places.byteCount) {
      run, phase, part in
      let numbers = run.scratch.assumingMemoryBound(to: Int8.self)
      let scales = (run.scratch + places.scales).assumingMemoryBound(to: Float.self)
      let sums = (run.scratch + places.sums).assumingMemoryBound(to: Int32.self)
      let flags = (run.scratch + places.flags).assumingMemoryBound(to: Bool.self)
      if phase == 0 {
        for row in rows.range(part) {
          let block = row &* blocks.blocks
          flags[row] = kernels.shorten(
            k, blocks.blockSize, UInt32(blocks.bits), run.input(0) + row &* k, numbers + block &* blocks.blockSize,
            scales + block, sums + block)
        }
        return
      }
      let weights = packed.weights(run)
      let bias: UnsafePointer<Float>? = bias.map { run.input($0) }
      var bytes = apus_gemm_nbits_i8_args(
        weights: weights, rows: numbers, row_scales: scales, row_sums: sums, c: run.output(), ldc: n, bias: bias)
      var exact = apus_gemm_nbits_args(
        weights: weights, a: run.input(0), lda: k, c: run.output(), ldc: n, bias: bias)
      let panels = partition.range(part)
      var first = 0
      while first < m {
        var end = first &+ 1
        while end < m, flags[end] == flags[first] { end &+= 1 }
        if flags[first] {
          kernels.multiplyBytes(&bytes, first, end, panels.lowerBound, panels.upperBound)
        } else {
          kernels.multiply(&exact, first, end, panels.lowerBound, panels.upperBound)
        }
        first = end
      }
    }
    step.unreadInputs = packed.operands.map(\.input)
    return step.named("gemm_nbits_i8", cost: cost)
  }
}
