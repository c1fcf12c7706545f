// Attention of com.microsoft as that of ai.onnx: MultiHeadAttention, Attention, QAttention,
// DecoderMaskedMultiHeadAttention, RotaryEmbedding, LinearAttention.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md Versions: 1.

import ApusGraph
import ApusTensor

let microsoftAttention: [any ImportRule] = [
  MicrosoftRewrite(
    "MultiHeadAttention",
    inputs: [
      .required("query", "T"), .optional("key", "T"), .optional("value", "T"), .optional("bias", "T"),
      .optional("key_padding_mask", "M"), .optional("attention_bias", "T"), .optional("past_key", "T"),
      .optional("past_value", "T"), .optional("past_sequence_length", "M"), .optional("cache_indirection", "M"),
    ],
    outputs: [
      .required("output", "T"), .optional("present_key", "T"), .optional("present_value", "T"), .optional("qk", "QK"),
    ],
    attributes: [
      .optional("mask_filter_value", .float), .required("num_heads", .int), .optional("scale", .float),
      .int("unidirectional", default: 0),
    ], types: ["T": .microsoftFloats, "QK": .microsoftFloats, "M": .int32], widening: .with(input: 3)
  ) { r throws(OperatorError) in
    if r.input(8) != nil || r.input(9) != nil {
      throw .unsupported("caches in shared buffers (past_sequence_length, cache_indirection) are not supported")
    }
    var operands = try AttentionOperands(
      &r, bias: r.input(3), heads: try r.int("num_heads"), isCausal: try r.bool("unidirectional"))
    operands.padding = r.input(4)
    operands.bias = r.input(5)
    operands.past = try r.input(6).map { (key) throws(OperatorError) in (key, try r.required(7)) }
    try r.finishAttention(
      operands, outputs: (0..<4).map { $0 < r.node.outputs.count ? r.node.outputs[$0] : nil })
  },

  MicrosoftRewrite(
    "DecoderMaskedMultiHeadAttention",
    inputs: [
      .required("query", "T"), .optional("key", "T"), .optional("value", "T"), .optional("mask_index", "M"),
      .optional("attention_bias", "T"), .optional("past_key", "T"), .optional("past_value", "T"),
      .optional("past_sequence_length", "M"), .optional("beam_width", "M"), .optional("cache_indirection", "M"),
      .optional("bias", "T"),
    ],
    outputs: [
      .required("output", "T"), .optional("present_key", "T"), .optional("present_value", "T"), .optional("qk", "QK"),
    ],
    attributes: [
      .optional("mask_filter_value", .float), .required("num_heads", .int), .optional("output_qk", .int),
      .optional("past_present_share_buffer", .int), .optional("scale", .float),
    ], types: ["T": [.float32, .float16], "QK": [.float32, .float16], "M": .int32], widening: .with(input: 10)
  ) { r throws(OperatorError) in
    if r.input(9) != nil { throw .unsupported("caches of several beams (cache_indirection) are not supported") }
    var operands = try AttentionOperands(&r, bias: r.input(10), heads: try r.int("num_heads"), isCausal: false)
    operands.padding = r.input(3)
    operands.bias = r.input(4)
    operands.past = try r.input(5).map { (key) throws(OperatorError) in (key, try r.required(6)) }
    if r.optionalInt("past_present_share_buffer") ?? 0 != 0, operands.past != nil {
      return try r.finishBufferedAttention(operands, length: try r.required(7))
    }
    try r.finishAttention(
      operands, outputs: (0..<4).map { $0 < r.node.outputs.count ? r.node.outputs[$0] : nil })
  },

  MicrosoftRewrite(
    "Attention",
    inputs: [
      .required("input", "T"), .required("weights", "T"), .optional("bias", "T"), .optional("mask_index", "M"),
      .optional("past", "T"), .optional("attention_bias", "T"), .optional("past_sequence_length", "M"),
    ],
    outputs: [.required("output", "T"), .optional("present", "T")],
    attributes: [
      .optional("do_rotary", .int), .optional("mask_filter_value", .float), .required("num_heads", .int),
      .optional("past_present_share_buffer", .int), .optional("qkv_hidden_sizes", .ints),
      .optional("rotary_embedding_dim", .int), .optional("scale", .float), .int("unidirectional", default: 0),
    ], types: ["T": .microsoftFloats, "M": .int32], widening: .always
  ) { r throws(OperatorError) in
    if r.input(6) != nil { throw .unsupported("caches in shared buffers (past_sequence_length) are not supported") }
    var product = try r.apply("MatMul", [r.required(0), r.required(1)])
    if let bias = r.input(2) { product = try r.apply("Add", [product, bias]) }
    try r.finishProjected(
      product, width: r.shape(r.input(1))?.last?.known, sizes: r.optionalInts("qkv_hidden_sizes"), mask: r.input(3),
      bias: r.input(5), past: r.input(4))
  },

  MicrosoftRewrite(
    "QAttention",
    inputs: [
      .required("input", "T1"), .required("weight", "T2"), .required("bias", "T3"), .required("input_scale", "T3"),
      .required("weight_scale", "T3"), .optional("mask_index", "T4"), .optional("input_zero_point", "T1"),
      .optional("weight_zero_point", "T2"), .optional("past", "T3"),
    ],
    outputs: [.required("output", "T3"), .optional("present", "T3")],
    attributes: [
      .optional("do_rotary", .int), .optional("mask_filter_value", .float), .required("num_heads", .int),
      .optional("past_present_share_buffer", .int), .optional("scale", .float), .int("unidirectional", default: 0),
    ], types: ["T1": .bytes, "T2": .bytes, "T3": [.float32, .float16], "T4": .int32], widening: .always
  ) { r throws(OperatorError) in
    let product = try r.scaledProduct(a: 0, b: 1, scales: (3, 4), zeroPoints: (6, 7))
    try r.finishProjected(
      try r.apply("Add", [product, r.required(2)]), width: r.shape(r.input(1))?.last?.known, sizes: nil,
      mask: r.input(5),
      bias: nil, past: r.input(8))
  },

  MicrosoftRewrite(
    "RotaryEmbedding",
    inputs: [
      .required("input", "T"), .required("position_ids", "M"), .required("cos_cache", "T"), .required("sin_cache", "T"),
    ],
    outputs: [.required("output", "T")],
    attributes: [
      .int("interleaved", default: 0), .int("is_packed_batching", default: 0), .int("num_heads", default: 0),
      .int("rotary_embedding_dim", default: 0), .float("scale", default: 1),
    ], types: ["T": .microsoftFloats, "M": .int64]
  ) { r throws(OperatorError) in
    guard try r.float("scale") == 1 else { throw .unsupported("scale is not 1") }
    if try r.bool("is_packed_batching") { throw .unsupported("is_packed_batching is not supported") }
    let x = try r.required(0)
    var attributes: [(String, AttributeValue)] = r.kept(["interleaved", "rotary_embedding_dim"])
    var heads = try r.int("num_heads")
    if try r.rank(x) == 3 {
      if heads == 0 {
        guard let half = r.shape(r.input(2))?.last?.known, half > 0 else {
          throw .unsupported("num_heads is missing, and the size of a head is not known before running")
        }
        guard let hidden = r.shape(x)?[2].known else { return try r.finishRotary(size: 2 * half) }
        heads = hidden / (2 * half)
      }
      attributes.append(("num_heads", .int(heads)))
    }
    let positions = try r.rotaryPositions(length: r.extent(x, r.rank(x) == 3 ? 1 : 2))
    try r.finish("RotaryEmbedding", [x, try r.required(2), try r.required(3), positions], attributes)
  },

  MicrosoftRewrite(
    "LinearAttention",
    inputs: [
      .required("query", "T"), .required("key", "T"), .required("value", "T"), .optional("past_state", "S"),
      .optional("decay", "T"), .optional("beta", "T"),
    ],
    outputs: [.required("output", "T"), .required("present_state", "S")],
    attributes: [
      .int("chunk_size", default: 64), .required("kv_num_heads", .int), .required("q_num_heads", .int),
      .float("scale", default: 0), .int("state_window", default: 0), .string("update_rule", default: "gated_delta"),
    ], types: ["T": .microsoftFloats, "S": .microsoftFloats]
  ) { r throws(OperatorError) in
    guard try r.int("state_window") == 0 else {
      throw .unsupported("state_window is \(try r.int("state_window")); only 0 is supported")
    }
    try r.finish(
      "LinearAttention", r.node.inputs, r.kept(["chunk_size", "kv_num_heads", "q_num_heads", "scale", "update_rule"]),
      outputs: r.node.outputs)
  },
]

/// What an attention works on, after its projections.
struct AttentionOperands {
  /// [batch, length, heads * size].
  var query: ValueID
  /// As the query, or [batch, heads, length, size] if `isByHead`.
  var key: ValueID
  var value: ValueID
  var isByHead = false
  let heads: Int
  let isCausal: Bool
  var padding: ValueID?
  var bias: ValueID?
  var past: (key: ValueID, value: ValueID)?

  init(query: ValueID, key: ValueID, value: ValueID, heads: Int, isCausal: Bool) {
    (self.query, self.key, self.value, self.heads, self.isCausal) = (query, key, value, heads, isCausal)
  }

  /// The inputs 0, 1 and 2 of a MultiHeadAttention in any of their forms, with the bias of their projections added.
  init(_ r: inout Rewriter, bias: ValueID?, heads: Int, isCausal: Bool) throws(OperatorError) {
    (self.heads, self.isCausal) = (heads, isCausal)
    query = try r.required(0)
    func unpacked(_ value: ValueID, _ count: Int, _ r: inout Rewriter) throws(OperatorError) -> [ValueID] {
      var parts: [ValueID] = []
      for part in try r.split(value, 3, sizes: [Int](repeating: 1, count: count)) {
        parts.append(try r.reshape(part, [0, 0, -1]))
      }
      return parts
    }
    if let key = r.input(1) {
      if let shape = r.shape(query), shape.count != 3 { throw .mismatch("query is \(shape.text); expected 3 axes") }
      if let value = r.input(2) {
        (self.key, self.value) = (key, value)
        isByHead = try r.rank(key) == 4
      } else {
        let parts = try unpacked(key, 2, &r)
        (self.key, self.value) = (parts[0], parts[1])
      }
    } else {
      let parts = try unpacked(query, 3, &r)
      (query, key, value) = (parts[0], parts[1], parts[2])
    }
    guard let bias else { return }
    let parts: [ValueID]
    if let total = r.shape(bias)?.first?.known, let width = r.shape(query)?[2].known {
      guard width > 0, total >= 2 * width else {
        throw .mismatch("bias has \(total) elements for a query of \(width) columns")
      }
      parts = try r.split(bias, 0, sizes: [width, width, total - 2 * width])
    } else {
      let width = try r.extent(query, 2)
      let last = try r.apply("Sub", [r.apply("Shape", [bias]), r.apply("Add", [width, width])])
      parts = [r.newValue(), r.newValue(), r.newValue()]
      let sizes = try r.apply("Concat", [width, width, last], [("axis", .int(0))])
      try r.apply("Split", [bias, sizes], [("axis", .int(0))], outputs: parts)
    }
    query = try r.apply("Add", [query, parts[0]])
    // Keys and values by heads come from a cache, and have their bias.
    if isByHead { return }
    key = try r.apply("Add", [key, parts[1]])
    value = try r.apply("Add", [value, parts[2]])
  }
}

extension Rewriter {
  /// The positions [batch or 1, length] of a RotaryEmbedding.
  fileprivate mutating func rotaryPositions(length: ValueID) throws(OperatorError) -> ValueID {
    let positions = try required(1)
    guard try rank(positions) == 1 else { return positions }
    // One number: the position of the first token.
    let first = try squeeze(positions, [0])
    let end = try apply("Add", [first, squeeze(length, [0])])
    return try unsqueeze(apply("Range", [first, end, int(1)]), [0])
  }

  /// A rotation of as many heads of `size` as there are.
  fileprivate mutating func finishRotary(size: Int) throws(OperatorError) {
    let x = try required(0)
    let heads = try transpose(reshape(x, [0, 0, -1, size]), [0, 2, 1, 3])
    let positions = try rotaryPositions(length: extent(x, 1))
    let turned = try apply(
      "RotaryEmbedding", [heads, required(2), required(3), positions], kept(["interleaved", "rotary_embedding_dim"]))
    try finish("Reshape", [try transpose(turned, [0, 2, 1, 3]), try apply("Shape", [x])])
  }

  /// An attention whose queries, keys and values are the columns of one product.
  fileprivate mutating func finishProjected(
    _ product: ValueID, width: Int?, sizes given: [Int]?, mask: ValueID?, bias: ValueID?, past: ValueID?
  ) throws(OperatorError) {
    if optionalInt("do_rotary") ?? 0 != 0 { throw .unsupported("do_rotary is not supported") }
    if optionalInt("past_present_share_buffer") ?? 0 != 0 {
      throw .unsupported("past_present_share_buffer is not supported")
    }
    guard let width else { throw .unsupported("the columns of the weights are not known before running") }
    let sizes = given ?? [width / 3, width / 3, width / 3]
    guard sizes.count == 3, sizes.allSatisfy({ (0...max(width, 0)).contains($0) }), sizes.reduce(0, +) == width else {
      throw .mismatch("\(width) columns cannot be \(sizes)")
    }
    let parts = try split(product, 2, sizes: sizes)
    var operands = AttentionOperands(
      query: parts[0], key: parts[1], value: parts[2], heads: try int("num_heads"), isCausal: try bool("unidirectional")
    )
    operands.padding = mask
    operands.bias = bias
    if let past {
      let halves = try split(past, 0, sizes: [1, 1])
      operands.past = (try squeeze(halves[0], [0]), try squeeze(halves[1], [0]))
    }
    guard isWanted(1) else { return try finishAttention(operands, outputs: [node.outputs[0], nil, nil, nil]) }
    // The present is one tensor.
    let results: [ValueID?] = [node.outputs[0], newValue(), newValue(), nil]
    try finishAttention(operands, outputs: results)
    var presents: [ValueID] = []
    for result in results[1...2] { if let result { presents.append(try unsqueeze(result, [0])) } }
    try apply("Concat", presents, [("axis", .int(0))], outputs: [output(1)])
  }

  /// Attention of ai.onnx takes the place of the node. Outputs: the result, present keys and values, scores.
  fileprivate mutating func finishAttention(_ given: AttentionOperands, outputs: [ValueID?]) throws(OperatorError) {
    var operands = given
    let mask = try attentionMask(operands)
    // A single query comes last and sees every key.
    let isCausal = operands.isCausal && (operands.past != nil || shape(operands.query)?[1].known != 1)
    var attributes: [(String, AttributeValue)] = [("is_causal", .int(isCausal ? 1 : 0))]
    if let scale = optionalFloat("scale"), scale != 0 { attributes.append(("scale", .float(scale))) }
    if outputs[3] != nil { attributes.append(("qk_matmul_output_mode", .int(2))) }
    if operands.isByHead {
      operands.query = try transpose(reshape(operands.query, [0, 0, operands.heads, -1]), [0, 2, 1, 3])
    } else {
      attributes += [("q_num_heads", .int(operands.heads)), ("kv_num_heads", .int(operands.heads))]
    }
    let inputs = [operands.query, operands.key, operands.value, mask, operands.past?.key, operands.past?.value]
    var results = outputs
    while results.count > 1 && results.last == .some(nil) { results.removeLast() }
    let finiteScores = isCausal ? outputs[3] : nil
    if !operands.isByHead && finiteScores == nil {
      return try finish("Attention", inputs, attributes, outputs: results)
    }
    let result = newValue()
    results[0] = result
    if let finiteScores {
      // Keys ahead of a query have the least number as their score.
      let scores = newValue()
      results[3] = scores
      try apply("Attention", inputs, attributes, outputs: results)
      try apply("Max", [scores, scalar(-Float.greatestFiniteMagnitude, type(operands.query))], outputs: [finiteScores])
    } else {
      try apply("Attention", inputs, attributes, outputs: results)
    }
    guard operands.isByHead else { return try finish("Identity", [result], outputs: [outputs[0]]) }
    try finish("Reshape", [try transpose(result, [0, 2, 1, 3]), ints([0, 0, -1])], outputs: [outputs[0]])
  }

  /// Attention of one token, whose keys and values go to position `length` of buffers that are longer than the past.
  fileprivate mutating func finishBufferedAttention(_ given: AttentionOperands, length: ValueID) throws(OperatorError) {
    if isWanted(3) { throw .unsupported("the output qk is not supported where caches are shared buffers") }
    guard let past = given.past else { return }
    let batch = try extent(given.query, 0)
    let position = try apply("Expand", [cast(reshape(length, [1]), .int64), batch])
    func byHead(_ value: ValueID, _ r: inout Rewriter) throws(OperatorError) -> ValueID {
      try r.transpose(r.reshape(value, [0, 0, given.heads, -1]), [0, 2, 1, 3])
    }
    let keys = try apply("TensorScatter", [past.key, byHead(given.key, &self), position], outputs: [output(1)])
    let values = try apply("TensorScatter", [past.value, byHead(given.value, &self), position], outputs: [output(2)])
    var mask = given.bias
    if let padding = given.padding {
      guard try rank(padding) == 2 else { throw .unsupported("mask_index has \(try rank(padding)) axes; expected 2") }
      mask = try filtered(unsqueeze(isPositive(padding), [1, 2]), given)
    }
    var attributes: [(String, AttributeValue)] = []
    if let scale = optionalFloat("scale"), scale != 0 { attributes.append(("scale", .float(scale))) }
    let result = try apply(
      "Attention", [byHead(given.query, &self), keys, values, mask, nil, nil, apply("Add", [position, int(1)])],
      attributes)
    try finish("Reshape", [try transpose(result, [0, 2, 1, 3]), ints([0, 0, -1])])
  }

  /// What is added to the scores for keys that are padding, and the bias. nil if there is neither.
  private mutating func attentionMask(_ operands: AttentionOperands) throws(OperatorError) -> ValueID? {
    guard let padding = operands.padding else { return operands.bias }
    let visible: ValueID
    switch try rank(padding) {
    case 1: visible = try visibleByLength(padding, operands)
    case 2: visible = try unsqueeze(isPositive(padding), [1, 2])
    case 3: visible = try unsqueeze(isPositive(padding), [1])
    case 4:
      // [batch, 1, longest, longest], of which the rows of the queries and the columns of the keys count.
      let past = try operands.past.map { (past) throws(OperatorError) in try extent(past.key, 2) } ?? ints([0])
      let end = try apply("Add", [past, extent(operands.query, 1)])
      let rows = try apply("Slice", [padding, past, end, ints([2])])
      visible = try isPositive(apply("Slice", [rows, ints([0]), end, ints([3])]))
    case let rank: throw .mismatch("the mask has \(rank) axes; expected 1 to 4")
    }
    return try filtered(visible, operands)
  }

  /// What is added to the scores: the filter where a key is not visible, and the bias. Beside the filter a bias of half
  /// precision would be rounded away, and with it what tells the keys of a query apart that sees none.
  private mutating func filtered(_ visible: ValueID, _ operands: AttentionOperands) throws(OperatorError) -> ValueID {
    let filter = optionalFloat("mask_filter_value") ?? -10_000
    let type: DataType = try type(operands.query) == .float64 ? .float64 : .float32
    let added = try apply("Where", [visible, scalar(0, type), scalar(filter, type)])
    guard let bias = operands.bias else { return added }
    return try apply("Add", [added, self.type(bias) == type ? bias : cast(bias, type)])
  }

  private mutating func isPositive(_ mask: ValueID) throws(OperatorError) -> ValueID {
    try apply("Greater", [mask, constant(Tensor(scalar: Int32(0)))])
  }

  /// Numbers of keys by batch, perhaps followed by the first keys by batch.
  private mutating func visibleByLength(_ lengths: ValueID, _ operands: AttentionOperands) throws(OperatorError)
    -> ValueID
  {
    var total = try extent(operands.key, operands.isByHead ? 2 : 1)
    if let past = operands.past { total = try apply("Add", [total, extent(past.key, 2)]) }
    let keys = try cast(apply("Range", [int(0), squeeze(total, [0]), int(1)]), .int32)
    let batch = try extent(operands.query, 0)
    // [1, batch] or [2, batch]: the ends, and the starts if there are any.
    let rows = try apply("Reshape", [lengths, apply("Concat", [ints([-1]), batch], [("axis", .int(0))])])
    let first = try slice(rows, 0, from: 0, to: 1)
    let isBefore = try apply("Less", [keys, reshape(first, [-1, 1, 1, 1])])
    if let known = shape(lengths)?.first, let size = shape(operands.query)?[0], known.isSame(as: size) {
      return isBefore
    }
    // Behind the rows that are there, one of zeros: the starts if none are given.
    let zeros = try apply("Mul", [first, constant(Tensor(scalar: Int32(0)))])
    let padded = try apply("Concat", [rows, zeros], [("axis", .int(0))])
    let starts = try reshape(slice(padded, 0, from: 1, to: 2), [-1, 1, 1, 1])
    return try apply("And", [isBefore, apply("GreaterOrEqual", [keys, starts])])
  }
}
