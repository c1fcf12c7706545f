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

  static var current: BitsKernels {
    let table = apus_kernels()
    return BitsKernels(multiply: table.pointee.gemm_nbits, widen: table.pointee.nbits_panels)
  }
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
    _ context: PrepareContext, _ blocks: QuantizedBlocks, count: Int = 1, at inputs: Inputs = Inputs()
  ) throws(OperatorError) {
    self.blocks = blocks
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
      let storage = try weights.allowance.allocate(byteCount: count * stride)
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
      float_zeros: zeros == .floats ? run.input(inputs.zeros) + index &* strides.zeros : nil)
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
  static let fewRows = 8
  /// Weights that are widened at once: they fit the second-level cache beside the rows.
  private static let pieceFloats = 64 << 10

  private var n: Int { packed.blocks.n }
  private var k: Int { packed.blocks.k }
  private var isShort: Bool { m <= BitsProduct.fewRows }
  private var panelsAtOnce: Int { max(1, BitsProduct.pieceFloats / max(k * floats.panelColumns, 1)) }

  /// Floats of scratch memory that one part needs, a multiple of 16.
  var scratchFloats: Int { isShort ? 0 : min(panelsAtOnce, floats.panelCount(n)) * k * floats.panelColumns }

  /// A panel of columns: its weights are read and widened, then multiplied with every row.
  var panel: Cost {
    (Cost(operations: 4 + 2 * m) * k + Cost(bytes: k * packed.blocks.bits / 8 + 5 * packed.blocks.blocks))
      * floats.panelColumns
  }

  func step(bias: Int?, inputs: PackedBits.Inputs = PackedBits.Inputs()) -> Step {
    let partition = Partition(floats.panelCount(n), of: panel, tile: 2)
    let scratch = scratchFloats
    var step = Step.parallel(parts: m == 0 ? 0 : partition.parts, scratchBytes: partition.parts * scratch * 4) {
      run, part in
      multiply(
        packed.weights(run, at: inputs), partition.range(part), a: run.input(0), bias: bias.map { run.input($0) },
        c: run.output(), scratch: run.scratch.assumingMemoryBound(to: Float.self) + part &* scratch)
    }
    step.unreadInputs = packed.operands.map(\.input)
    return step.named("gemm_nbits", cost: Cost(operations: 2 &* m &* n &* k))
  }

  /// The columns of some panels.
  func multiply(
    _ weights: apus_nbits_weights, _ panels: Range<Int>, a: UnsafePointer<Float>, bias: UnsafePointer<Float>?,
    c: UnsafeMutablePointer<Float>, scratch: UnsafeMutablePointer<Float>
  ) {
    var args = apus_gemm_nbits_args(weights: weights, a: a, lda: k, c: c, ldc: n, bias: bias)
    if isShort { return kernels.multiply(&args, 0, m, panels.lowerBound, panels.upperBound) }
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
      floats.multiply(&wide, 0, m, 0, end &- panel)
      panel = end
    }
  }
}
