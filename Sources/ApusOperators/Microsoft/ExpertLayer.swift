// One layer of a mixture of experts: a matrix for each expert, packed if it is constant, or decoded while running.

import ApusGraph
import ApusTensor
import CApusKernels

/// Where a layer finds its weights among the inputs of the node, and what they are.
struct ExpertForm: Sendable {
  let weights: Int
  let bias: Int
  var scales = 0
  var zeros = 0
  /// Of a weight; 0: float32.
  var bits = 0
  /// 0: each row is one block.
  var blockSize = 0

  /// Inputs that are not read while running where they are packed.
  var packedInputs: [Int] { bits == 0 ? [weights] : [scales] }

  /// The columns of weights of a shape [experts, rows, bytes of a row], or of floats.
  func columns(_ shape: Shape) -> Int { bits == 0 ? shape[2] : shape[2] * 8 / bits }
  /// The elements of a block of so many columns.
  func size(_ columns: Int) -> Int { blockSize == 0 ? Swift.max(columns, 1) : blockSize }
}

/// The constant weights of a layer, packed once for all runs.
enum PackedExperts: Sendable {
  case floats(PackedMatrix, PackedOperand)
  case bits(PackedBits)

  /// nil: the weights are not constant, or there is no form for them.
  init?(_ context: PrepareContext, _ form: ExpertForm) throws(OperatorError) {
    guard let tensor = context.packable(form.weights), tensor.rank == 3, tensor.count > 0 else { return nil }
    let (experts, rows, columns) = (tensor.shape[0], tensor.shape[1], form.columns(tensor.shape))
    if form.bits == 0 {
      guard tensor.dataType == .float32 else { return nil }
      let matrix = try PackedMatrix(
        tensor, count: experts, k: columns, n: rows, layout: .columnMajor(rows: columns), in: context.packedWeights)
      self = .floats(matrix, PackedOperand(input: form.weights, storage: matrix.storage))
      return
    }
    let size = form.size(columns)
    // Without blocks, the zero points of the rows of an expert are packed together.
    guard tensor.dataType == .uint8, columns % size == 0, form.blockSize > 0 || !context.isPresent(form.zeros) else {
      return nil
    }
    let blocks = QuantizedBlocks(rows: rows, columns: columns, bits: form.bits, size: size)
    guard let packed = try PackedBits(context, blocks, count: experts, at: PackedExperts.inputs(form)) else {
      return nil
    }
    self = .bits(packed)
  }

  static func inputs(_ form: ExpertForm) -> PackedBits.Inputs {
    PackedBits.Inputs(codes: form.weights, scales: form.scales, zeros: form.zeros)
  }

  var operands: [PackedOperand] {
    switch self {
    case .floats(_, let operand): [operand]
    case .bits(let packed): packed.operands
    }
  }
}

/// One matrix [rows, columns] for each expert, and its bias.
struct ExpertLayer: Sendable {
  let experts: Int
  let rows: Int
  let columns: Int
  private let bias: Int?
  private let form: ExpertForm
  private let packed: PackedExperts?
  private let decoder: DecodedProduct.Decoder

  /// The inputs whose tensors are not read.
  var unreadInputs: [Int] { packed?.operands.map(\.input) ?? [] }

  /// nil: the weights are absent. `packed` nil: they are decoded.
  init?(_ context: PlanContext, _ form: ExpertForm, _ packed: PackedExperts?) throws(OperatorError) {
    guard context.isPresent(form.weights) else { return nil }
    let shape = context.shape(form.weights)
    guard shape.rank == 3, shape.allSatisfy({ $0 < 1 << 56 }) else {
      throw .mismatch("the weights are \(shape); expected three axes")
    }
    let (rows, columns) = (shape[1], form.columns(shape))
    (experts, self.rows, self.columns, self.form, self.packed) = (shape[0], rows, columns, form, packed)
    bias = context.isPresent(form.bias) ? form.bias : nil
    if let bias, context.shape(bias).elementCount != shape[0] * rows {
      throw .mismatch("a bias is \(context.shape(bias)); expected \(Shape([shape[0], rows]))")
    }
    if form.bits == 0 {
      decoder = { run, row, target in
        target.update(from: run.input(form.weights, as: Float.self) + row &* columns, count: columns)
      }
    } else {
      decoder = try ExpertLayer.decoder(context, form, shape)
    }
  }

  /// Reads weights of few bits; throws where their scales and zero points do not fit.
  private static func decoder(
    _ context: PlanContext, _ form: ExpertForm, _ shape: Shape
  ) throws(OperatorError) -> DecodedProduct.Decoder {
    let (rows, columns, bits) = (shape[1], form.columns(shape), form.bits)
    let size = form.size(columns)
    let blocks = QuantizedBlocks(rows: shape[0] * rows, columns: columns, bits: bits, size: size)
    guard columns % size == 0 else { throw .mismatch("\(columns) columns are no multiple of block_size, \(size)") }
    guard size % (8 / bits) == 0 || blocks.blocks <= 1 else {
      throw .mismatch("block_size is \(size); expected whole bytes of \(bits) bits each")
    }
    guard context.isPresent(form.scales),
      context.shape(form.scales).elementCount == shape[0] * rows * blocks.blocks
    else {
      throw .mismatch("scales are \(context.shape(form.scales)); expected \(Shape([shape[0], rows, blocks.blocks]))")
    }
    let hasZeros = context.isPresent(form.zeros)
    // Without blocks, the zero points of the rows of an expert are packed together.
    let isByRow = form.blockSize == 0
    let expertBytes = (rows * bits + 7) / 8
    if hasZeros {
      let expected = isByRow ? shape[0] * expertBytes : shape[0] * rows * ((blocks.blocks * bits + 7) / 8)
      guard context.shape(form.zeros).elementCount == expected else {
        throw .mismatch("zero points are \(context.shape(form.zeros)); expected \(expected) bytes")
      }
    }
    return { run, row, target in
      let (codes, factors) = (run.input(form.weights, as: UInt8.self), run.input(form.scales, as: Float.self))
      if hasZeros && isByRow {
        let (expert, line) = row.quotientAndRemainder(dividingBy: rows)
        let zero = PackedElements.load(run.inputBytes(form.zeros) + expert &* expertBytes, bits: bits, at: line)
        blocks.decodeBlock(codes + row &* columns &* bits / 8, target, columns, factors[row], Float(zero))
      } else {
        blocks.decode(
          row, weights: codes, scales: factors, zeros: hasZeros ? .packed(run.input(form.zeros)) : .middle, target)
      }
    }
  }

  /// y = x · Wᵀ + bias for the rows of each expert, which lie together. Operands: those of the node (the weights are
  /// read where they are), then x and the first rows by expert; the result is output 0.
  func step(nodeInputs: Int, rows count: Int) -> Step {
    switch packed {
    case .floats(let matrix, _): floatStep(matrix, nodeInputs: nodeInputs, rows: count)
    case .bits(let packed): bitsStep(BitsProduct(m: count, packed), nodeInputs: nodeInputs, rows: count)
    case nil: decodedStep(nodeInputs: nodeInputs, rows: count)
    }
  }

  /// The work of one part: some panels of columns for the rows of one expert.
  private struct Block {
    let expert: Int
    let panels: Range<Int>
    let rows: Int
    let x: UnsafePointer<Float>
    let bias: UnsafePointer<Float>?
    let y: UnsafeMutablePointer<Float>
  }

  /// Panels of all experts, each of which costs as much as `panel`, in parts with scratch memory of their own. How many
  /// rows an expert has is known when it runs.
  private func step(
    nodeInputs: Int, panel: Cost, scratchFloats: Int,
    _ body: @escaping @Sendable (RunContext, Block, UnsafeMutablePointer<Float>) -> Void
  ) -> Step {
    let panels = GemmKernels.current.panelCount(rows)
    let partition = Partition(experts * panels, of: panel, maximumParts: 32)
    return Step.parallel(
      parts: rows == 0 ? 0 : partition.parts, scratchBytes: partition.parts * scratchFloats * 4
    ) { run, part in
      let firsts = run.input(nodeInputs + 1, as: Int.self)
      let items = partition.range(part)
      var item = items.lowerBound
      while item < items.upperBound {
        let (expert, first) = item.quotientAndRemainder(dividingBy: panels)
        let end = min(panels, first &+ items.upperBound &- item)
        item &+= end &- first
        let start = firsts[expert]
        let count = firsts[expert &+ 1] &- start
        if count == 0 { continue }
        body(
          run,
          Block(
            expert: expert, panels: first..<end, rows: count, x: run.input(nodeInputs) + start &* columns,
            bias: bias.map { run.input($0) + expert &* rows }, y: run.output() + start &* rows),
          run.scratch.assumingMemoryBound(to: Float.self) + part &* scratchFloats)
      }
    }
  }

  /// Rows of an expert where `count` rows are spread evenly.
  private func usualRows(_ count: Int) -> Int { max(1, count / max(experts, 1)) }

  private func decodedStep(nodeInputs: Int, rows count: Int) -> Step {
    let product = DecodedProduct(m: usualRows(count), n: rows, k: columns)
    return step(nodeInputs: nodeInputs, panel: product.panel, scratchFloats: product.scratchFloats) {
      run, block, scratch in
      let first = block.expert &* rows
      product.multiply(
        run, block.panels, a: block.x, bias: block.bias, c: block.y, scratch: scratch, rows: block.rows
      ) { run, row, target in decoder(run, first &+ row, target) }
    }
  }

  private func floatStep(_ matrix: PackedMatrix, nodeInputs: Int, rows count: Int) -> Step {
    let kernels = GemmKernels.current
    let panel = Cost(operations: 2 * usualRows(count), bytes: 4) * columns * kernels.panelColumns
    return step(nodeInputs: nodeInputs, panel: panel, scratchFloats: 0) { run, block, _ in
      var args = apus_gemm_f32_args(
        a: block.x, lda: columns, offsets: nil, zeros: nil, taps: 1, kc: columns, n: rows,
        b: run.input(form.weights) + block.expert &* matrix.stride, c: block.y, ldc: rows,
        epilogue: GemmEpilogue().arguments(bias: block.bias, add: nil, rowLength: 0))
      kernels.multiply(&args, 0, block.rows, block.panels.lowerBound, block.panels.upperBound)
    }
  }

  private func bitsStep(_ product: BitsProduct, nodeInputs: Int, rows count: Int) -> Step {
    let panel = BitsProduct(m: usualRows(count), product.packed).panel
    return step(nodeInputs: nodeInputs, panel: panel, scratchFloats: product.scratchFloats) { run, block, scratch in
      product.multiply(
        product.packed.weights(run, block.expert, at: PackedExperts.inputs(form)), block.panels, rows: block.rows,
        a: block.x, bias: block.bias, c: block.y, scratch: scratch)
    }
  }
}
