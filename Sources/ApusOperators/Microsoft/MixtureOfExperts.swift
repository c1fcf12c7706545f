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
    let forms = (1...3).map { number in
      isQuantized
        ? ExpertForm(
          weights: 3 * number - 1, bias: 3 * number + 1, scales: 3 * number, zeros: 10 + number, bits: bits[number - 1],
          blockSize: blockSize)
        : ExpertForm(weights: 2 * number, bias: 2 * number + 1)
    }
    let routerWeights = isQuantized ? 14 : nil
    return try prepareReal(
      context, packed: forms.flatMap(\.packedInputs), packing: isQuantized ? context.packedWeights : nil,
      float: { (context) throws(OperatorError) in
        try ElementCandidate.choose(
          .weightsOfFewBits, type: context.type(0),
          [
            .plain { MixtureOfExperts.planned(options, forms, [nil, nil, nil], routerWeights: routerWeights) },
            .vectors("panels") { () throws(OperatorError) in
              var packed: [PackedExperts?] = []
              for form in forms { packed.append(try PackedExperts(context, form)) }
              if packed.allSatisfy({ $0 == nil }) { return nil }
              return MixtureOfExperts.planned(options, forms, packed, routerWeights: routerWeights)
            },
          ])
      },
      double: { (context) throws(OperatorError) in throw context.unsupportedType(.float64) })
  }

  /// `forms` and `packed` are those of the three layers.
  private static func planned(
    _ options: ExpertOptions, _ forms: [ExpertForm], _ packed: [PackedExperts?], routerWeights: Int?
  ) -> PreparedKernel {
    .planned(packing: packed.flatMap { $0?.operands ?? [] }) { (plan) throws(OperatorError) in
      func layer(_ index: Int) throws(OperatorError) -> ExpertLayer? {
        try ExpertLayer(plan, forms[index], packed[index])
      }
      guard let first = try layer(0), let second = try layer(1) else { throw .invalid("the weights are missing") }
      return try ExpertPlan(
        plan, options, first: first, second: second, gate: layer(2), routerWeights: routerWeights
      ).step(plan)
    }
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
