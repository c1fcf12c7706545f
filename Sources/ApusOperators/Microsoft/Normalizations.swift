// Normalizations with what stands before them: SkipLayerNormalization, SkipSimplifiedLayerNormalization,
// SimplifiedLayerNormalization (also of ai.onnx), GroupNorm, SkipGroupNorm, EmbedLayerNormalization,
// QEmbedLayerNormalization. https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
// Versions: 1.

import ApusGraph
import ApusTensor

let microsoftNormalizations: [any ImportRule] = [
  MicrosoftRewrite(
    "SkipLayerNormalization",
    inputs: [
      .required("input", "T"), .required("skip", "T"), .required("gamma", "T"), .optional("beta", "T"),
      .optional("bias", "T"),
    ],
    outputs: [
      .required("output", "T"), .optional("mean", "U"), .optional("inv_std_var", "U"),
      .optional("input_skip_bias_sum", "T"),
    ],
    attributes: [.float("epsilon", default: 1e-12)], types: ["T": .floats, "U": .float32], widening: .always
  ) { r throws(OperatorError) in
    let sum = try r.skipSum(input: 0, skip: 1, bias: 4, output: 3)
    try r.finish(
      "LayerNormalization", [sum, try r.required(2), r.input(3)], [("epsilon", .float(try r.float("epsilon")))],
      outputs: Array(r.node.outputs.prefix(3)))
  },

  MicrosoftRewrite(
    "SkipSimplifiedLayerNormalization",
    inputs: [.required("input", "T"), .required("skip", "T"), .required("gamma", "T"), .optional("bias", "T")],
    outputs: [
      .required("output", "T"), .optional("mean", "U"), .optional("inv_std_var", "U"),
      .optional("input_skip_bias_sum", "T"),
    ],
    attributes: [.float("epsilon", default: 1e-12)], types: ["T": .floats, "U": .float32], widening: .always
  ) { r throws(OperatorError) in
    let sum = try r.skipSum(input: 0, skip: 1, bias: 3, output: 3)
    if r.isWanted(1) { throw .unsupported("the output mean has no meaning: no mean is taken") }
    if r.isWanted(2) { try r.inverseDeviation(of: sum, axis: -1, output: 2) }
    try r.finish("RMSNormalization", [sum, try r.required(2)], [("epsilon", .float(try r.float("epsilon")))])
  },

  simplifiedLayerNormalization(domain: ""),
  simplifiedLayerNormalization(domain: "com.microsoft"),

  MicrosoftRewrite(
    "GroupNorm", inputs: [.required("X", "T"), .required("gamma", "M"), .required("beta", "M")],
    outputs: [.required("Y", "T")],
    attributes: [
      .required("activation", .int), .int("channels_last", default: 1), .float("epsilon", default: 1e-5),
      .required("groups", .int),
    ], types: ["T": [.float16, .float32], "M": [.float16, .float32]], widening: .always
  ) { r throws(OperatorError) in try r.finishGroupNorm(of: try r.required(0)) },

  MicrosoftRewrite(
    "SkipGroupNorm",
    inputs: [
      .required("X", "T"), .required("gamma", "M"), .required("beta", "M"), .required("skip", "T"),
      .optional("bias", "T"),
    ],
    outputs: [.required("Y", "T"), .optional("S", "T")],
    attributes: [
      .required("activation", .int), .int("channels_last", default: 1), .float("epsilon", default: 1e-5),
      .required("groups", .int),
    ], types: ["T": [.float16, .float32], "M": [.float16, .float32]], widening: .always
  ) { r throws(OperatorError) in
    var (x, skip) = (try r.required(0), try r.required(3))
    if try !r.bool("channels_last") {
      throw .unsupported("channels_last is 0; SkipGroupNorm has the channels at the end")
    }
    // The skip is [N, H, W, C], [N, 1, 1, C] or [N, C].
    if try r.rank(skip) == 2 { skip = try r.unsqueeze(skip, [1, 2]) }
    if let bias = r.input(4) { x = try r.apply("Add", [x, bias]) }
    let sum = try r.apply("Add", [x, skip], outputs: [r.output(1)])
    try r.finishGroupNorm(of: sum)
  },

  MicrosoftRewrite(
    "EmbedLayerNormalization",
    inputs: [
      .required("input_ids", "T1"), .optional("segment_ids", "T1"), .required("word_embedding", "T"),
      .required("position_embedding", "T"), .optional("segment_embedding", "T"), .required("gamma", "T"),
      .required("beta", "T"), .optional("mask", "T1"), .optional("position_ids", "T1"),
    ],
    outputs: [.required("output", "T"), .optional("mask_index", "T1"), .optional("embedding_sum", "T")],
    attributes: [.float("epsilon", default: 1e-12), .optional("mask_index_type", .int)],
    types: ["T1": .int32, "T": [.float32, .float16]], widening: .always
  ) { r throws(OperatorError) in
    let ids = try r.required(0)
    let words = try r.apply("Gather", [r.required(2), ids])
    let positions = try r.positions(table: r.required(3), ids: ids, given: r.input(8))
    var sum = try r.apply(
      "Add", [words, positions], outputs: [r.input(1) == nil ? r.output(2) : r.newValue()])
    if let segments = r.input(1) {
      sum = try r.apply("Add", [sum, r.apply("Gather", [r.input(4), segments])], outputs: [r.output(2)])
    }
    try r.maskIndex(mask: r.input(7), ids: ids, output: 1)
    try r.finish(
      "LayerNormalization", [sum, try r.required(5), try r.required(6)], [("epsilon", .float(try r.float("epsilon")))])
  },

  MicrosoftRewrite(
    "QEmbedLayerNormalization",
    inputs: [
      .required("input_ids", "T1"), .optional("segment_ids", "T1"), .required("word_embedding_quant", "T2"),
      .required("position_embedding_quant", "T2"), .optional("segment_embedding", "T2"), .required("gamma_quant", "T2"),
      .required("beta_quant", "T2"), .optional("mask", "T1"), .required("word_embedding_scale", "T"),
      .required("position_embedding_scale", "T"), .optional("segment_embedding_scale", "T"),
      .required("gamma_scale", "T"),
      .required("beta_scale", "T"), .required("word_embedding_zero_point", "T2"),
      .required("position_embedding_zero_point", "T2"), .optional("segment_embedding_zero_point", "T2"),
      .required("gamma_zero_point", "T2"), .required("beta_zero_point", "T2"),
    ],
    outputs: [.required("layernorm_out", "T"), .required("mask_index_out", "T1")],
    attributes: [.float("epsilon", default: 1e-12)], types: ["T1": .int32, "T2": .bytes, "T": .float32]
  ) { r throws(OperatorError) in
    let ids = try r.required(0)
    func dequantized(_ value: ValueID, _ scale: Int, _ zeroPoint: Int, _ r: inout Rewriter) throws(OperatorError)
      -> ValueID
    {
      try r.apply("DequantizeLinear", [value, r.scalarInput(scale), r.scalarInput(zeroPoint)])
    }
    let words = try dequantized(r.apply("Gather", [r.required(2), ids]), 8, 13, &r)
    let positions = try dequantized(r.positions(table: r.required(3), ids: ids, given: nil), 9, 14, &r)
    var sum = try r.apply("Add", [words, positions])
    if let segments = r.input(1) {
      sum = try r.apply("Add", [sum, dequantized(r.apply("Gather", [r.required(4), segments]), 10, 15, &r)])
    }
    let gamma = try dequantized(r.required(5), 11, 16, &r)
    let beta = try dequantized(r.required(6), 12, 17, &r)
    try r.maskIndex(mask: r.input(7), ids: ids, output: 1)
    try r.finish("LayerNormalization", [sum, gamma, beta], [("epsilon", .float(try r.float("epsilon")))])
  },
]

private func simplifiedLayerNormalization(domain: String) -> MicrosoftRewrite {
  MicrosoftRewrite(
    "SimplifiedLayerNormalization", domain: domain, inputs: [.required("X", "T"), .required("scale", "V")],
    outputs: [.required("Y", "V"), .optional("inv_std_var", "U")],
    attributes: [.int("axis", default: -1), .float("epsilon", default: 1e-5), .int("stash_type", default: 1)],
    types: ["T": .floats, "U": [.float32, .float64], "V": .floats]
  ) { r throws(OperatorError) in
    let x = try r.required(0)
    if r.isWanted(1) { try r.inverseDeviation(of: x, axis: try r.int("axis"), output: 1) }
    try r.finish(
      "RMSNormalization", [x, try r.required(1)],
      [("axis", .int(try r.int("axis"))), ("epsilon", .float(try r.float("epsilon")))])
  }
}

extension Rewriter {
  /// input + bias + skip, which is also an output of the node.
  fileprivate mutating func skipSum(input: Int, skip: Int, bias: Int, output index: Int) throws(OperatorError)
    -> ValueID
  {
    var x = try required(input)
    if let bias = self.input(bias) { x = try apply("Add", [x, bias]) }
    return try apply("Add", [x, try required(skip)], outputs: [output(index)])
  }

  /// 1 / sqrt(mean(x²) + epsilon) over the axes from `axis` on, in float32 at least.
  fileprivate mutating func inverseDeviation(of x: ValueID, axis: Int, output index: Int) throws(OperatorError) {
    let type = try type(x)
    let wide = type == .float64 || type == .float32 ? x : try cast(x, .float32)
    let axes = try axesFrom(axis, of: x)
    let mean = try apply("ReduceMean", [apply("Mul", [wide, wide]), axes])
    let sum = try apply("Add", [mean, scalar(float("epsilon"), self.type(wide))])
    try apply("Reciprocal", [apply("Sqrt", [sum])], outputs: [output(index)])
  }

  /// The axes from `axis` to the last one, as a value; found when planning where the rank is open.
  private mutating func axesFrom(_ axis: Int, of x: ValueID) throws(OperatorError) -> ValueID {
    if let rank = shape(x)?.count { return ints(Array(try resolveAxis(axis, rank: rank)..<rank)) }
    let end = axis < 0 ? int(0) : try apply("Size", [apply("Shape", [x])])
    return try apply("Range", [int(axis), end, int(1)])
  }

  fileprivate mutating func finishGroupNorm(of value: ValueID) throws(OperatorError) {
    let isLast = try bool("channels_last")
    let type = try type(value)
    var parameters: [ValueID] = []
    for index in 1...2 {
      let parameter = try required(index)
      parameters.append(try self.type(parameter) == type ? parameter : cast(parameter, type))
    }
    let x = isLast ? try toChannelsFirst(value) : value
    var y = try apply(
      "GroupNormalization", [x] + parameters,
      [("epsilon", .float(try float("epsilon"))), ("num_groups", .int(try int("groups")))])
    let activation = try int("activation")
    guard activation == 0 || activation == 1 else { throw .unsupported("activation is \(activation); expected 0 or 1") }
    if isLast {
      let perm: [(String, AttributeValue)] = [("perm", .ints(Rewriter.channelsLast(rank: try rank(x))))]
      if activation == 0 { return try finish("Transpose", [y], perm) }
      y = try apply("Transpose", [y], perm)
    }
    try finish(activation == 1 ? "Swish" : "Identity", [y])
  }

  /// Rows of a table of positions: those given, or the first, one for each column of `ids`.
  fileprivate mutating func positions(table: ValueID, ids: ValueID, given: ValueID?) throws(OperatorError) -> ValueID {
    if let given { return try apply("Gather", [table, given]) }
    return try apply("Slice", [table, ints([0]), extent(ids, 1), ints([0])])
  }

  /// The number of ones in each row of a mask; 0 without one.
  fileprivate mutating func maskIndex(mask: ValueID?, ids: ValueID, output index: Int) throws(OperatorError) {
    guard isWanted(index) else { return }
    guard let mask else {
      try apply(
        "ConstantOfShape", [extent(ids, 0)], [("value", .tensor(Tensor([0] as [Int32])))], outputs: [output(index)])
      return
    }
    let ones = try cast(apply("Equal", [mask, constant(Tensor(scalar: Int32(1)))]), .int32)
    try apply("ReduceSum", [ones, ints([1])], [("keepdims", .int(0))], outputs: [output(index)])
  }

  /// An input of one element, as one of rank 0.
  mutating func scalarInput(_ index: Int) throws(OperatorError) -> ValueID {
    let value = try required(index)
    return shape(value)?.isEmpty == true ? value : try reshape(value, [])
  }
}
