// Attention layers of Keras as Attention of ONNX, with the masks that Keras makes.

import ApusGraph
import ApusTensor

enum KerasAttention {
  static let rules: [String: KerasRule] = [
    "MultiHeadAttention": KerasRule(multiHead), "GroupQueryAttention": KerasRule(grouped),
    "GroupedQueryAttention": KerasRule(grouped),
    "Attention": KerasRule(luong), "AdditiveAttention": KerasRule(additive),
  ]

  /// What is added to scores that a mask hides. Keras adds so much too: where all are hidden, all count the same.
  static let hidden = -1e9

  // MARK: - Masks

  /// Masks of scores joined by "and", bools of [batch, (heads,) queries, keys], or of fewer axes counted from the end.
  private struct ScoreMask {
    let layers: LayerBuilder
    var value: ValueID?

    mutating func join(_ mask: ValueID) throws(OperatorError) {
      let other = try layers.cast(mask, to: .bool)
      value = try value.map { (value) throws(OperatorError) in try layers.emit("And", [value, other]) } ?? other
    }

    /// Position i of the queries sees keys up to i.
    mutating func joinCausal(_ queries: ValueID, _ keys: ValueID) throws(OperatorError) {
      try join(try causal(places(queries, [1]), places(keys, [0])))
    }

    /// Where all keys have one mask, it is said for each of them.
    mutating func spread(_ keys: ValueID) throws(OperatorError) {
      guard let value, try layers.shape(value).last?.known == 1 else { return }
      let places = try places(keys, [0])
      try join(layers.emit("GreaterOrEqual", [places, layers.scalar(0, like: places)]))
    }

    /// Bools of [batch, heads, queries, keys], each extent perhaps 1.
    func whole() throws(OperatorError) -> ValueID? {
      guard let value else { return nil }
      let rank = try layers.rank(value)
      return try layers.unsqueeze(value, rank == 3 ? [1] : Array(0..<max(4 - rank, 0)))
    }

    private func causal(_ rows: ValueID, _ columns: ValueID) throws(OperatorError) -> ValueID {
      try layers.emit("GreaterOrEqual", [rows, columns])
    }

    /// 0, 1, 2 … along the second axis of a sequence, with a new axis at `axes`.
    private func places(_ sequence: ValueID, _ axes: [Int]) throws(OperatorError) -> ValueID {
      let count = try layers.extents([layers.shape(sequence)[1]], of: [sequence])
      let (zero, one) = (layers.constant(Tensor(scalar: Int64(0))), layers.constant(Tensor(scalar: Int64(1))))
      return try layers.unsqueeze(layers.emit("Range", [zero, layers.squeeze(count, [0]), one]), axes)
    }

    /// 0 and `hidden`, with an axis for the heads.
    func addend(like scores: ValueID) throws(OperatorError) -> ValueID? {
      guard var mask = value else { return nil }
      if try layers.rank(mask) == 3 { mask = try layers.unsqueeze(mask, [1]) }
      return try layers.emit("Where", [mask, layers.scalar(0, like: scores), layers.scalar(hidden, like: scores)])
    }
  }

  // MARK: - Multi-head attention

  /// A projection of [batch, steps, width] to [batch, steps, heads · size]; the kernel is [width, heads, size].
  private static func project(
    _ value: ValueID, _ attribute: String, _ name: String, _ call: KerasCall
  ) throws(OperatorError) -> (value: ValueID, heads: Int, size: Int) {
    let layers = call.layers
    let (kernel, bias) = try projection(attribute, name, call)
    let dims = try call.dims(kernel)
    guard dims.count == 3 else { throw .mismatch("the kernel of \(name) should have three axes; it is \(dims)") }
    var result = try layers.emit("MatMul", [value, layers.reshape(kernel, [dims[0], dims[1] * dims[2]])])
    if let bias { result = try layers.emit("Add", [result, layers.reshape(bias, [dims[1] * dims[2]])]) }
    return (result, dims[1], dims[2])
  }

  private static func projection(
    _ attribute: String, _ name: String, _ call: KerasCall
  ) throws(OperatorError) -> (kernel: ValueID, bias: ValueID?) {
    let usesBias = try call.config.bool("use_bias", default: true)
    let scope = call.scope.child("\(attribute)|_\(attribute)", named: name)
    let weights = try call.network.variables(scope, usesBias ? ["kernel", "bias"] : ["kernel"])
    return (weights[0], usesBias ? weights[1] : nil)
  }

  /// The heads side by side, projected to the width of the output; the kernel is [heads, size, width …].
  private static func output(
    _ value: ValueID, _ call: KerasCall
  ) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let (kernel, bias) = try projection("output_dense", "attention_output", call)
    let dims = try call.dims(kernel)
    guard dims.count >= 3 else { throw .mismatch("the kernel of the output should have three axes; it is \(dims)") }
    let width = dims.dropFirst(2).reduce(1, *)
    var result = try layers.emit("MatMul", [value, layers.reshape(kernel, [dims[0] * dims[1], width])])
    if let bias { result = try layers.emit("Add", [result, layers.reshape(bias, [width])]) }
    if dims.count == 3 { return result }
    return try layers.reshape(
      result, to: layers.shape(value).dropLast() + dims.dropFirst(2).map { Dim($0) },
      symbolsOf: [value])
  }

  private static func multiHead(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    try attend(call, bound: "key_dim")
  }

  private static func grouped(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    try attend(call, bound: "head_dim")
  }

  /// Queries, keys and values of a call, and how the axes between batch and width are flattened to one.
  private static func attend(_ call: KerasCall, bound: String) throws(OperatorError) -> [KerasTensor] {
    let layers = call.layers
    guard case .tensor(let query)? = call.argument(0, "query"), case .tensor(let value)? = call.argument(1, "value")
    else { throw .invalid("a query and a value were expected") }
    var key = value
    var hasKey = false
    if case .tensor(let given)? = call.argument(2, "key") { (key, hasKey) = (given, given.value != value.value) }
    let rank = try layers.rank(query.value)
    try checkAxes(call, rank: rank)
    if call.config["sliding_window"] != nil { throw .unsupported("attention with 'sliding_window'") }
    func sequence(_ tensor: KerasTensor) throws(OperatorError) -> ValueID {
      if try layers.rank(tensor.value) == 3 { return tensor.value }
      let shape = try layers.shape(tensor.value)
      guard let inner = Array(shape.dropFirst()).concrete, let width = inner.dims.last,
        let steps = KerasCore.product(inner.dims.dropLast())
      else { throw .unsupported("axes of unknown extents") }
      return try layers.reshape(tensor.value, [-1, steps, width])
    }
    let (queries, keys, values) = (try sequence(query), try sequence(key), try sequence(value))
    let q = try project(queries, "query_dense", "query", call)
    let k = try project(keys, "key_dense", "key", call)
    let v = try project(values, "value_dense", "value", call)
    let mask = try scoreMask(call, query, value, hasKey ? key : nil, queries, keys)
    let isCausal = call.flag("use_causal_mask")
    let size = try call.config.int(bound) ?? q.size
    var attributes: [(String, AttributeValue)] = [
      ("q_num_heads", .int(q.heads)), ("kv_num_heads", .int(k.heads)),
      ("scale", .float(Float(1 / Double(max(size, 1)).squareRoot()))),
    ]
    if isCausal, mask.value == nil { attributes.append(("is_causal", .int(1))) }
    let wantsScores = call.flag("return_attention_scores")
    if wantsScores { attributes.append(("qk_matmul_output_mode", .int(3))) }
    let outputs = try scores(
      [q.value, k.value, v.value, mask.addend(like: q.value)], attributes, wantsScores, layers)
    var context = outputs[0]
    var distribution = wantsScores ? outputs[1] : nil
    // Keras 3 has the softmax in a layer then, where what is hidden has no weight even if all is.
    let dropout = try call.config.double("dropout", default: 0)
    let usesLayer = wantsScores || rank > 3 || dropout > 0
    if call.network.version >= 3, usesLayer, let whole = try mask.whole() {
      let shown = try layers.transpose(
        layers.reduce("ReduceMax", layers.cast(whole, to: .int32), axes: [-1], keepsAxes: true), [0, 2, 1, 3])
      let flat = try layers.shape(context)
      let heads = try layers.reshape(context, to: [flat[0], flat[1], Dim(q.heads), Dim(v.size)])
      let kept = try layers.emit("Where", [layers.cast(shown, to: .bool), heads, layers.scalar(0, like: heads)])
      context = try layers.reshape(kept, to: [flat[0], flat[1], Dim(q.heads * v.size)], symbolsOf: [context])
      distribution = try distribution.map { (scores) throws(OperatorError) in
        try layers.emit("Where", [whole, scores, layers.scalar(0, like: scores)])
      }
    }
    if try call.config.bool("use_gate", default: false) {
      let gate = try project(queries, "gate_dense", "gate", call)
      context = try layers.emit("Mul", [context, layers.emit("Sigmoid", [gate.value])])
    }
    var result = try output(context, call)
    if rank > 3 {
      result = try layers.reshape(
        result, to: layers.shape(query.value).dropLast() + [layers.shape(result)[2]], symbolsOf: [query.value])
    }
    let attended = KerasTensor(result, mask: query.mask)
    return [attended] + (distribution.map { [KerasTensor($0)] } ?? [])
  }

  /// An Attention node with its output, and with the scores behind the softmax if they are wanted.
  private static func scores(
    _ inputs: [ValueID?], _ attributes: [(String, AttributeValue)], _ wantsScores: Bool, _ layers: LayerBuilder
  ) throws(OperatorError) -> [ValueID] {
    if !wantsScores { return [try layers.emit("Attention", inputs, attributes)] }
    let outputs = try layers.emit("Attention", inputs, attributes, outputs: 4)
    return [outputs[0], outputs[3]]
  }

  /// Attention goes over all axes between batch and width.
  private static func checkAxes(_ call: KerasCall, rank: Int) throws(OperatorError) {
    guard rank >= 3 else { throw .mismatch("a query of three axes was expected; it has \(rank)") }
    guard let axes = try call.config.ints("attention_axes") else { return }
    if try call.axes(axes, rank: rank).sorted() != Array(1..<rank - 1) {
      throw .unsupported("attention along \(axes) of \(rank) axes", remedy: "Bring the other axes into the batch")
    }
    if rank > 3, call.flag("return_attention_scores") { throw .unsupported("scores of several attention axes") }
  }

  private static func scoreMask(
    _ call: KerasCall, _ query: KerasTensor, _ value: KerasTensor, _ key: KerasTensor?, _ queries: ValueID,
    _ keys: ValueID
  ) throws(OperatorError) -> ScoreMask {
    let layers = call.layers
    var mask = ScoreMask(layers: layers)
    if let steps = call.keyword("query_mask")?.value ?? query.mask { try mask.join(layers.unsqueeze(steps, [2])) }
    for steps in [call.keyword("value_mask")?.value ?? value.mask, call.keyword("key_mask")?.value ?? key?.mask] {
      if let steps { try mask.join(layers.unsqueeze(steps, [1])) }
    }
    if case .tensor(let given)? = call.argument(Int.max, "attention_mask") { try mask.join(given.value) }
    // With other masks causality is one of them, so that rows where all is hidden are what they are in Keras.
    if call.flag("use_causal_mask"), mask.value != nil { try mask.joinCausal(queries, keys) }
    try mask.spread(keys)
    return mask
  }

  // MARK: - Attention without heads

  /// Query, value and key of a call with a list.
  private static func operands(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let tensors = call.node.arguments.first?.tensors ?? []
    guard tensors.count == 2 || tensors.count == 3 else {
      throw .invalid("a list of query, value and perhaps key was expected; found \(tensors.count) tensors")
    }
    return [tensors[0], tensors[1], tensors.count == 3 ? tensors[2] : tensors[1]]
  }

  private static func luong(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let tensors = try operands(call)
    let usesScale = try call.config.bool("use_scale", default: false)
    let mode = try call.config.string("score_mode") ?? "dot"
    if mode == "concat" {
      let weights = try call.variables((usesScale ? ["scale"] : []) + ["concat_score_weight"])
      let sums = try sum(tensors, scale: usesScale ? weights[0] : nil, scaleInside: true, call.layers)
      let scores = try call.layers.emit("Mul", [sums, weights[weights.count - 1]])
      return try weighted(scores, tensors, call)
    }
    var scale: Float = 1
    if usesScale {
      guard let number = call.layers.constant(try call.variables(["scale"])[0])?.elements(as: Float.self)?.first else {
        throw .invalid("'scale' should be one number")
      }
      scale = number
    }
    let mask = try mask(of: tensors, call)
    var attributes: [(String, AttributeValue)] = [
      ("q_num_heads", .int(1)), ("kv_num_heads", .int(1)), ("scale", .float(scale)),
    ]
    if call.flag("use_causal_mask"), mask.value == nil { attributes.append(("is_causal", .int(1))) }
    let wantsScores = call.flag("return_attention_scores")
    if wantsScores { attributes.append(("qk_matmul_output_mode", .int(3))) }
    let outputs = try self.scores(
      [tensors[0].value, tensors[2].value, tensors[1].value, mask.addend(like: tensors[0].value)], attributes,
      wantsScores, call.layers)
    let distribution = wantsScores ? try call.layers.squeeze(outputs[1], [1]) : nil
    return try finished(outputs[0], distribution, tensors, call)
  }

  private static func additive(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let tensors = try operands(call)
    let scale = try call.config.bool("use_scale", default: true) ? call.variables(["scale"])[0] : nil
    return try weighted(sum(tensors, scale: scale, scaleInside: false, call.layers), tensors, call)
  }

  /// Σ tanh(query + key) over the width, times a scale: a number inside of tanh, or one for each part of the width.
  private static func sum(
    _ tensors: [KerasTensor], scale: ValueID?, scaleInside: Bool, _ layers: LayerBuilder
  ) throws(OperatorError) -> ValueID {
    var sum = try layers.emit(
      "Add", [layers.unsqueeze(tensors[0].value, [2]), layers.unsqueeze(tensors[2].value, [1])])
    if let scale, scaleInside { sum = try layers.emit("Mul", [sum, scale]) }
    var bent = try layers.emit("Tanh", [sum])
    if let scale, !scaleInside { bent = try layers.emit("Mul", [bent, scale]) }
    return try layers.reduce("ReduceSum", bent, axes: [-1], keepsAxes: false)
  }

  private static func mask(of tensors: [KerasTensor], _ call: KerasCall) throws(OperatorError) -> ScoreMask {
    var mask = ScoreMask(layers: call.layers)
    let given = call.node.keywords["mask"]?.tensors ?? []
    if let steps = given.count > 1 ? given[1].value : tensors[1].mask {
      try mask.join(call.layers.unsqueeze(steps, [1]))
      if call.flag("use_causal_mask") { try mask.joinCausal(tensors[0].value, tensors[2].value) }
    }
    return mask
  }

  /// The values weighted by the softmax of scores.
  private static func weighted(
    _ scores: ValueID, _ tensors: [KerasTensor], _ call: KerasCall
  ) throws(OperatorError) -> [KerasTensor] {
    let layers = call.layers
    var mask = try mask(of: tensors, call)
    if call.flag("use_causal_mask"), mask.value == nil { try mask.joinCausal(tensors[0].value, tensors[2].value) }
    var scores = scores
    if let value = mask.value {
      let addend = try layers.emit(
        "Where", [value, layers.scalar(0, like: scores), layers.scalar(hidden, like: scores)])
      scores = try layers.emit("Add", [scores, addend])
    }
    let distribution = try layers.emit("Softmax", [scores], [("axis", .int(-1))])
    return try finished(
      layers.emit("MatMul", [distribution, tensors[1].value]), distribution, tensors, call)
  }

  /// Zeros for queries that are masked, and the scores if they are wanted.
  private static func finished(
    _ value: ValueID, _ distribution: ValueID?, _ tensors: [KerasTensor], _ call: KerasCall
  ) throws(OperatorError) -> [KerasTensor] {
    let layers = call.layers
    let given = call.node.keywords["mask"]?.tensors ?? []
    let steps = given.first?.value ?? tensors[0].mask
    var value = value
    if let steps {
      value = try layers.emit("Where", [layers.unsqueeze(steps, [2]), value, layers.scalar(0, like: value)])
    }
    let result = KerasTensor(value, mask: tensors[0].mask)
    guard call.flag("return_attention_scores"), let distribution else { return [result] }
    return [result, KerasTensor(distribution)]
  }
}
