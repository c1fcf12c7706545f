// MoE and QMoE: each token goes through the few of many small networks that its router scores highest.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MoE
// Versions: 1. QMoE: integer weights of 2, 4 and 8 bits. Computed in float32.

import ApusGraph
import ApusTensor

/// MoE, or QMoE if `isQuantized`.
struct MixtureOfExperts: OperatorDefinition {
  let schema: OperatorSchema
  private let isQuantized: Bool

  private static let attributes: [AttributeSchema] = [
    .float("activation_alpha", default: 1), .float("activation_beta", default: 0),
    .string("activation_type", default: "relu"), .int("k", default: 1), .int("normalize_routing_weights", default: 0),
    .int("swiglu_fusion", default: 0), .optional("swiglu_limit", .float), .int("use_sparse_mixer", default: 0),
  ]

  init(isQuantized: Bool) {
    self.isQuantized = isQuantized
    if !isQuantized {
      schema = OperatorSchema(
        "MoE", domain: "com.microsoft", versions: [1],
        inputs: [
          .required("input", "T"), .required("router_probs", "T"), .required("fc1_experts_weights", "T"),
          .optional("fc1_experts_bias", "T"), .required("fc2_experts_weights", "T"), .optional("fc2_experts_bias", "T"),
          .optional("fc3_experts_weights", "T"), .optional("fc3_experts_bias", "T"),
        ],
        outputs: [.required("output", "T")], attributes: MixtureOfExperts.attributes, types: ["T": .microsoftFloats])
      return
    }
    schema = OperatorSchema(
      "QMoE", domain: "com.microsoft", versions: [1],
      inputs: [
        .required("input", "T"), .required("router_probs", "T"), .required("fc1_experts_weights", "T1"),
        .optional("fc1_scales", "T2"), .optional("fc1_experts_bias", "T"), .required("fc2_experts_weights", "T1"),
        .optional("fc2_scales", "T2"), .optional("fc2_experts_bias", "T"), .optional("fc3_experts_weights", "T1"),
        .optional("fc3_scales", "T2"), .optional("fc3_experts_bias", "T"), .optional("fc1_zero_points", "T1"),
        .optional("fc2_zero_points", "T1"), .optional("fc3_zero_points", "T1"), .optional("router_weights", "T"),
        .optional("fc1_global_scale", "T4"), .optional("fc2_global_scale", "T4"), .optional("fc1_act_scale", "T4"),
        .optional("fc2_act_scale", "T4"), .optional("fc1_act_block_scale", "T2"),
        .optional("fc2_act_block_scale", "T2"),
      ],
      outputs: [.required("output", "T")],
      attributes: MixtureOfExperts.attributes + [
        .int("accuracy_level", default: 0), .optional("block_size", .int), .int("expert_weight_bits", default: 4),
        .optional("fc1_expert_weight_bits", .int), .optional("fc2_expert_weight_bits", .int),
        .optional("fc3_expert_weight_bits", .int), .string("quant_type", default: "int"),
        .int("weights_prepacked", default: -1),
      ],
      types: [
        "T": .microsoftFloats, "T1": [.uint8, .float8e4m3fn], "T2": .microsoftFloats + [.float8e8m0, .float8e4m3fn],
        "T4": .float32,
      ])
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) { context.copy() }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    if try context.bool("use_sparse_mixer") { throw .unsupported("use_sparse_mixer is not supported") }
    let options = try ExpertOptions(context, isQuantized: isQuantized)
    var bits = [0, 0, 0]
    if isQuantized {
      guard try context.string("quant_type") == "int" else {
        throw .unsupported("quant_type is '\(try context.string("quant_type"))'; only 'int' is supported")
      }
      let common = try context.int("expert_weight_bits")
      if try context.int("weights_prepacked") > 0 {
        throw .unsupported("weights_prepacked is set: the weights are in a layout of one device")
      }
      bits = (1...3).map { context.optionalInt("fc\($0)_expert_weight_bits") ?? common }
      guard bits.allSatisfy({ [2, 4, 8].contains($0) }) else {
        throw .unsupported("the weights have \(bits) bits; expected 2, 4 or 8")
      }
    }
    let blockSize = isQuantized ? context.optionalInt("block_size") ?? 0 : 0
    guard blockSize >= 0 else { throw .invalid("block_size is \(blockSize)") }
    let (isQuantized, widths) = (isQuantized, bits)
    return try prepareReal(
      context,
      float: { (_) throws(OperatorError) in
        .planned { (plan) throws(OperatorError) in
          func layer(_ number: Int) throws(OperatorError) -> ExpertLayer? {
            if !isQuantized { return try ExpertLayer(plan, weights: 2 * number, bias: 2 * number + 1) }
            return try ExpertLayer(
              plan, weights: 3 * number - 1, bias: 3 * number + 1, scales: 3 * number, zeros: 10 + number,
              bits: widths[number - 1], blockSize: blockSize)
          }
          guard let first = try layer(1), let second = try layer(2) else { throw .invalid("the weights are missing") }
          return try ExpertPlan(
            plan, options, first: first, second: second, gate: layer(3), routerWeights: isQuantized ? 14 : nil
          ).step(plan)
        }
      },
      double: { (context) throws(OperatorError) in throw context.unsupportedType(.float64) })
  }
}

/// The attributes that both operators have.
struct ExpertOptions: Sendable {
  /// The values of `activation_type`. `swiglu` is that of a number times its gate.
  private static let activations: [(name: String, kind: Activation.Kind)] = [
    ("relu", .relu), ("gelu", .geluTanh), ("silu", .silu), ("swiglu", .silu), ("identity", .none),
  ]

  let chosen: Int
  let normalizes: Bool
  /// The softmax of the scores runs over the chosen experts alone, whatever `normalizes` says: so does QMoE.
  let ranksChosenOnly: Bool
  let activation: Activation
  let isSwiGLU: Bool
  /// Added to the gates of swiglu.
  let beta: Float
  let limit: Float
  let fusion: Int

  init(_ context: some OperatorContext, isQuantized: Bool) throws(OperatorError) {
    chosen = try context.int("k")
    normalizes = try context.bool("normalize_routing_weights")
    ranksChosenOnly = isQuantized || normalizes
    let name = try context.string("activation_type", oneOf: ExpertOptions.activations.map(\.name))
    isSwiGLU = name == "swiglu"
    let kind = ExpertOptions.activations.first { $0.name == name }?.kind ?? .none
    // The others have no parameters here.
    activation = Activation(kind, alpha: isSwiGLU ? try context.float("activation_alpha") : nil)
    beta = try context.float("activation_beta")
    limit = context.optionalFloat("swiglu_limit") ?? .infinity
    fusion = try context.int("swiglu_fusion")
    guard (0...2).contains(fusion) else { throw .invalid("swiglu_fusion is \(fusion); expected 0, 1 or 2") }
  }

  /// The activation of one number; of a pair for swiglu.
  @inline(__always)
  func callAsFunction(_ x: Float, _ gate: Float) -> Float {
    if !isSwiGLU { return activation.direct(x) }
    return activation.direct(Swift.min(x, limit)) * (Swift.max(Swift.min(gate, limit), -limit) + beta)
  }
}

/// One matrix [rows, columns] for each expert, as it is decoded, and its bias.
struct ExpertLayer: Sendable {
  let experts: Int
  let rows: Int
  let columns: Int
  let bias: Int?
  private let decoder: DecodedProduct.Decoder

  /// nil: the weights are absent. `bits` 0: float32.
  init?(
    _ context: PlanContext, weights: Int, bias: Int, scales: Int = 0, zeros: Int = 0, bits: Int = 0, blockSize: Int = 0
  ) throws(OperatorError) {
    guard context.isPresent(weights) else { return nil }
    let shape = context.shape(weights)
    guard shape.rank == 3, shape.allSatisfy({ $0 < 1 << 56 }) else {
      throw .mismatch("the weights are \(shape); expected three axes")
    }
    let columns = bits == 0 ? shape[2] : shape[2] * 8 / bits
    let rows = shape[1]
    (experts, self.rows, self.columns) = (shape[0], rows, columns)
    self.bias = context.isPresent(bias) ? bias : nil
    if context.isPresent(bias) && context.shape(bias).elementCount != shape[0] * rows {
      throw .mismatch("a bias is \(context.shape(bias)); expected \(Shape([shape[0], rows]))")
    }
    if bits == 0 {
      decoder = { run, row, target in
        target.update(from: run.input(weights, as: Float.self) + row &* columns, count: columns)
      }
      return
    }
    let size = blockSize == 0 ? Swift.max(columns, 1) : blockSize
    let blocks = QuantizedBlocks(rows: shape[0] * rows, columns: columns, bits: bits, size: size)
    guard columns % size == 0 else { throw .mismatch("\(columns) columns are no multiple of block_size, \(size)") }
    guard size % (8 / bits) == 0 || blocks.blocks <= 1 else {
      throw .mismatch("block_size is \(size); expected whole bytes of \(bits) bits each")
    }
    guard context.isPresent(scales), context.shape(scales).elementCount == shape[0] * rows * blocks.blocks else {
      throw .mismatch("scales are \(context.shape(scales)); expected \(Shape([shape[0], rows, blocks.blocks]))")
    }
    let hasZeros = context.isPresent(zeros)
    // Without blocks, the zero points of the rows of an expert are packed together.
    let isByRow = blockSize == 0
    let expertBytes = (rows * bits + 7) / 8
    if hasZeros {
      let expected = isByRow ? shape[0] * expertBytes : shape[0] * rows * ((blocks.blocks * bits + 7) / 8)
      guard context.shape(zeros).elementCount == expected else {
        throw .mismatch("zero points are \(context.shape(zeros)); expected \(expected) bytes")
      }
    }
    decoder = { run, row, target in
      let (codes, factors) = (run.input(weights, as: UInt8.self), run.input(scales, as: Float.self))
      if hasZeros && isByRow {
        let (expert, line) = row.quotientAndRemainder(dividingBy: rows)
        let zero = PackedElements.load(run.inputBytes(zeros) + expert &* expertBytes, bits: bits, at: line)
        blocks.decodeBlock(codes + row &* columns &* bits / 8, target, columns, factors[row], Float(zero))
      } else {
        blocks.decode(
          row, weights: codes, scales: factors, zeros: hasZeros ? .packed(run.input(zeros)) : .middle, target)
      }
    }
  }

  /// y = x · Wᵀ + bias for the rows of each expert, which lie together. Operands: those of the node (the weights are
  /// read where they are), then x and the first rows by expert; the result is output 0.
  func step(nodeInputs: Int, rows count: Int) -> Step {
    let product = DecodedProduct(m: Swift.max(1, count / Swift.max(experts, 1)), n: rows, k: columns)
    let panels = GemmKernels.current.panelCount(rows)
    // How many rows an expert has is known when it runs. Each part decodes in memory of its own.
    let partition = Partition(experts * panels, of: DecodedProduct(m: 4, n: rows, k: columns).panel, maximumParts: 32)
    let scratch = product.scratchFloats
    return Step.parallel(parts: rows == 0 ? 0 : partition.parts, scratchBytes: partition.parts * scratch * 4) {
      run, part in
      let firsts = run.input(nodeInputs + 1, as: Int.self)
      for item in partition.range(part) {
        let (expert, panel) = item.quotientAndRemainder(dividingBy: panels)
        let (first, end) = (firsts[expert], firsts[expert &+ 1])
        if first == end { continue }
        product.multiply(
          run, panel..<panel &+ 1, a: run.input(nodeInputs) + first &* columns,
          bias: bias.map { run.input($0) + expert &* rows }, c: run.output() + first &* rows,
          scratch: run.scratch.assumingMemoryBound(to: Float.self) + part &* scratch, rows: end &- first
        ) { run, row, target in decoder(run, expert &* rows &+ row, target) }
      }
    }
  }
}
