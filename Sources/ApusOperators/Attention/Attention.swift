// Attention: scaled dot-product attention with caches, masks and windows.
// https://onnx.ai/onnx/operators/onnx__Attention.html Versions: 23, 24 (nonpad_kv_seqlen; causal frontier by the
// cache), 25 (windows). Narrow types are computed in float32, whatever softmax_precision says, unless it is narrower
// than the inputs.

import ApusGraph
import ApusTensor

package struct Attention: OperatorDefinition {
  package let schema = OperatorSchema(
    "Attention", versions: [23, 24, 25],
    inputs: [
      .required("Q", "T1"), .required("K", "T1"), .required("V", "T2"), .optional("attn_mask", "U"),
      .optional("past_key", "T1"), .optional("past_value", "T2"),
      .optional("nonpad_kv_seqlen", "tensor(int64)").since(24),
    ],
    outputs: [
      .required("Y", "T1"), .optional("present_key", "T1"), .optional("present_value", "T2"),
      .optional("qk_matmul_output", "T1"),
    ],
    attributes: [
      .int("is_causal", default: 0), .optional("kv_num_heads", .int), .int("left_window_size", default: -1).since(25),
      .optional("q_num_heads", .int), .int("qk_matmul_output_mode", default: 0),
      .int("right_window_size", default: -1).since(25),
      .optional("scale", .float), .float("softcap", default: 0), .optional("softmax_precision", .int),
    ],
    types: ["T1": .floats, "T2": .floats, "U": .numeric + .bool, "tensor(int64)": .int64],
    multiplyAdds: { facts in
      guard let q = facts.shape(0), let k = facts.shape(1), q.count == 4, k.count == 4, let y = facts.outputShape(0)
      else { return .unknown }
      return q.product * k[2] + y.product * k[2]
    })

  package init() {}

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    guard context.isPresent(4) == context.isPresent(5) else {
      throw .mismatch("past_key and past_value must be given together")
    }
    if context.isPresent(4) && context.isPresent(6) {
      throw .mismatch("nonpad_kv_seqlen cannot be combined with past_key and past_value")
    }
    let heads = try AttentionHeads(context)
    var total: Dim?
    if let keys = heads.keys { total = context.isPresent(4) ? keys + (context.shape(4)?[safe: 2] ?? .unknown) : keys }
    context.set(0, context.type(0), heads.result)
    context.set(1, context.type(1), heads.present(of: heads.size, total))
    context.set(2, context.type(2), heads.present(of: heads.valueSize, total))
    let scores = heads.batch.map { batch -> [Dim] in
      [batch, heads.queryHeads ?? .unknown, heads.queries ?? .unknown, total ?? .unknown]
    }
    context.set(3, context.type(0), scores)
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    try prepare(context, emptyRows: 0)
  }

  /// `emptyRows`: the probabilities of a row whose scores are all -infinity.
  func prepare(_ context: PrepareContext, emptyRows: Float) throws(OperatorError) -> PreparedKernel {
    var options = try AttentionOptions(context)
    options.emptyRows = emptyRows
    // The mask is converted by the kernel itself: it may be of any type.
    let floats = [0, 1, 2, 4, 5].compactMap { context.optionalType($0) }
    let isDouble = floats.contains(.float64) || options.precision == .float64
    let wide: DataType = isDouble ? .float64 : .float32
    let narrow = Set(floats).subtracting([wide])
    let isNarrowed = options.precision.map { $0 == .float16 || $0 == .bfloat16 } ?? false
    let rounding = isNarrowed && floats.contains { $0 == .float32 || $0 == .float64 } ? options.precision : nil
    let chosen = options
    let prepare = { (context: PrepareContext) throws(OperatorError) -> PreparedKernel in
      if isDouble { return .planned(AttentionKernel(options: chosen, core: .plain(.float64, rounding), context)) }
      return try ElementCandidate.choose(
        .attention, type: .float32,
        [
          .plain { .planned(AttentionKernel(options: chosen, core: .plain(.float32, rounding), context)) },
          .vectors("panels", refusal: rounding == nil ? nil : "scores are rounded to a narrower type") {
            .planned(AttentionKernel(options: chosen, core: .packed, context))
          },
        ])
    }
    if narrow.isEmpty { return try prepare(context) }
    return try StagedKernel.prepare(
      context, Dictionary(uniqueKeysWithValues: narrow.map { ($0, wide) }), operands: [0, 1, 2, 4, 5]
    ) { (context) throws(OperatorError) in try prepare(context) }
  }
}

/// The attributes.
struct AttentionOptions: Sendable {
  let queryHeads: Int?
  let keyHeads: Int?
  let scale: Double?
  let softcap: Double
  let isCausal: Bool
  let left: Int?
  let right: Int?
  /// What output 3 holds: scores, after the soft cap, after the mask, probabilities.
  let scoreMode: Int
  let precision: DataType?
  /// The probabilities of a row whose scores are all -infinity.
  var emptyRows: Float = 0

  init(_ context: some OperatorContext) throws(OperatorError) {
    queryHeads = context.optionalInt("q_num_heads")
    keyHeads = context.optionalInt("kv_num_heads")
    scale = context.optionalFloat("scale").map { Double($0) }
    softcap = Double(try context.float("softcap"))
    isCausal = try context.bool("is_causal")
    func window(_ name: String) throws(OperatorError) -> Int? {
      let size = try context.int(name)
      guard size >= -1 else { throw .invalid("\(name) is \(size); expected -1 or more") }
      // Larger than every length, so that positions can be added to it.
      return size < 0 ? nil : min(size, 1 << 62)
    }
    left = try window("left_window_size")
    right = try window("right_window_size")
    scoreMode = try context.int("qk_matmul_output_mode")
    guard (0...3).contains(scoreMode) else { throw .invalid("qk_matmul_output_mode is \(scoreMode); expected 0 to 3") }
    if let value = context.optionalInt("softmax_precision") {
      guard let type = Int32(exactly: value).flatMap(DataType.init(rawValue:)),
        [.float16, .bfloat16, .float32, .float64].contains(type)
      else { throw .invalid("softmax_precision is \(value); expected 1, 10, 11 or 16") }
      precision = type
    } else {
      precision = nil
    }
  }
}

extension [Dim] {
  fileprivate subscript(safe index: Int) -> Dim? { indices.contains(index) ? self[index] : nil }
}

/// The symbolic extents of the inputs.
private struct AttentionHeads {
  var batch: Dim?
  var queryHeads: Dim?
  var keyHeads: Dim?
  var queries: Dim?
  /// Keys of this call.
  var keys: Dim?
  var size: Dim?
  var valueSize: Dim?
  var result: [Dim]?

  init(_ context: InferenceContext) throws(OperatorError) {
    let shapes = [context.shape(0), context.shape(1), context.shape(2)]
    let ranks = Set(shapes.compactMap { $0?.count })
    let rank = ranks.first ?? 4
    guard ranks.count <= 1, rank == 3 || rank == 4 else {
      throw .mismatch("Q, K and V must all have 3 or all have 4 axes")
    }
    let (q, k, v) = (shapes[0], shapes[1], shapes[2])
    batch = q?[0]
    if rank == 3 {
      let queryCount = context.optionalInt("q_num_heads")
      let keyCount = context.optionalInt("kv_num_heads")
      guard let queryCount, let keyCount, queryCount > 0, keyCount > 0 else {
        throw .invalid("inputs of 3 axes need the attributes q_num_heads and kv_num_heads")
      }
      (queryHeads, keyHeads) = (Dim(queryCount), Dim(keyCount))
      (queries, keys) = (q?[1], k?[1])
      let querySize = try AttentionHeads.split(q?[2], queryCount, "Q")
      size = try AttentionHeads.split(k?[2], keyCount, "K") ?? querySize
      if let size, let querySize, size.isSurelyDifferent(from: querySize) {
        throw .mismatch("heads of Q have \(querySize) elements and those of K \(size)")
      }
      valueSize = try AttentionHeads.split(v?[2], keyCount, "V")
      if let q { result = [q[0], q[1], (valueSize ?? .unknown) * Dim(queryCount)] }
    } else {
      (queryHeads, keyHeads) = (q?[1], k?[1])
      (queries, keys) = (q?[2], k?[2])
      (size, valueSize) = (k?[3] ?? q?[3], v?[3])
      if let a = q?[3], let b = k?[3], a.isSurelyDifferent(from: b) {
        throw .mismatch("heads of Q have \(a) elements and those of K \(b)")
      }
      if let q { result = [q[0], q[1], q[2], valueSize ?? .unknown] }
    }
    if let k, let v {
      guard !zip(k.dropLast(), v.dropLast()).contains(where: { $0.isSurelyDifferent(from: $1) }) else {
        throw .mismatch("K is \(k.text) and V \(v.text); batch, heads and length must be equal")
      }
    }
    if let a = queryHeads?.known, let b = keyHeads?.known, b == 0 || a % b != 0 {
      throw .mismatch("\(a) heads of Q cannot share \(b) heads of K")
    }
    if let a = q?[0], let b = k?[0], a.isSurelyDifferent(from: b) {
      throw .mismatch("Q has a batch of \(a), K of \(b)")
    }
    for (input, size) in [(4, size), (5, valueSize)] {
      guard let past = context.shape(input) else { continue }
      let expected = [batch, keyHeads, nil, size]
      let fits =
        past.count == 4 && zip(past, expected).allSatisfy { !$0.isSurelyDifferent(from: $1 ?? $0) }
      if !fits { throw .mismatch("\(context.schema.inputs[input].name) is \(past.text), which does not fit K and V") }
    }
    if let a = context.shape(4)?[2], let b = context.shape(5)?[2], a.isSurelyDifferent(from: b) {
      throw .mismatch("past_key has a length of \(a) and past_value of \(b); expected the same")
    }
    if let count = context.shape(6), count.count != 1 || (batch.map { count[0].isSurelyDifferent(from: $0) } ?? false) {
      throw .mismatch("nonpad_kv_seqlen is \(count.text); expected one element for each of the batch")
    }
  }

  /// The size of a head of a hidden size.
  private static func split(_ hidden: Dim?, _ heads: Int, _ name: String) throws(OperatorError) -> Dim? {
    guard let hidden else { return nil }
    if let known = hidden.known, known % heads != 0 {
      throw .mismatch("the last extent of \(name) is \(known), which is no multiple of \(heads) heads")
    }
    return hidden.dividedRoundingDown(by: Dim(heads))
  }

  func present(of size: Dim?, _ total: Dim?) -> [Dim]? {
    guard let batch else { return nil }
    return [batch, keyHeads ?? .unknown, total ?? .unknown, size ?? .unknown]
  }
}
