// GroupQueryAttention: causal attention of language models, with a cache, rotary positions, windows and sinks.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.GroupQueryAttention
// Versions: 1. Computed in float32; quantized caches and windows inside the cache are not supported. Rows of a present
// behind those that count are 0, or as in the past where that is as long, as if both were one buffer.

import ApusGraph
import ApusTensor

struct GroupQueryAttention: OperatorDefinition {
  let schema = OperatorSchema(
    "GroupQueryAttention", domain: "com.microsoft", versions: [1],
    inputs: [
      .required("query", "T"), .optional("key", "T"), .optional("value", "T"), .optional("past_key", "T_CACHE"),
      .optional("past_value", "T_CACHE"), .required("seqlens_k", "M"),
      .required("total_sequence_length", "M", readWhenPlanning: true), .optional("cos_cache", "T"),
      .optional("sin_cache", "T"), .optional("position_ids", "tensor(int64)"), .optional("attention_bias", "T"),
      .optional("head_sink", "T"), .optional("k_scale", "T_KV_SCALE"), .optional("v_scale", "T_KV_SCALE"),
      .optional("q_norm_weight", "T"), .optional("k_norm_weight", "T"),
    ],
    outputs: [
      .required("output", "T"), .optional("present_key", "T_CACHE"), .optional("present_value", "T_CACHE"),
      .optional("output_qk", "T"),
    ],
    attributes: [
      .int("causal", default: 1), .int("do_rotary", default: 0), .string("k_quant_type", default: "NONE"),
      .optional("kv_cache_bit_width", .int), .required("kv_num_heads", .int), .int("local_window_size", default: -1),
      .required("num_heads", .int), .float("qk_norm_epsilon", default: 1e-6), .int("qk_output", default: 0),
      .int("rotary_interleaved", default: 0), .optional("scale", .float), .int("sliding_window_cache", default: 0),
      .int("smooth_softmax", default: -1), .float("softcap", default: 0), .string("v_quant_type", default: "NONE"),
    ],
    types: [
      "T": .microsoftFloats, "T_CACHE": .microsoftFloats + [.uint8, .int8, .float8e4m3fn], "T_KV_SCALE": .float32,
      "M": .int32, "tensor(int64)": .int64,
    ])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let (heads, keyHeads) = (try context.int("num_heads"), try context.int("kv_num_heads"))
    guard heads > 0, heads <= 1 << 31, keyHeads > 0, heads % keyHeads == 0 else {
      throw .invalid("num_heads is \(heads); expected a positive multiple of kv_num_heads, \(keyHeads)")
    }
    guard context.isPresent(1) == context.isPresent(2), context.isPresent(3) == context.isPresent(4) else {
      throw .invalid("key and value, past_key and past_value must be given together")
    }
    let query = context.shape(0)
    if let query, query.count != 3 { throw .mismatch("query is \(query.text); expected 3 axes") }
    let isPacked = !context.isPresent(1)
    let parts = isPacked ? heads + 2 * keyHeads : heads
    if let width = query?[2].known, width % parts != 0 {
      throw .mismatch("query has \(width) columns, which is no multiple of \(parts) heads")
    }
    let size = query?[2].dividedRoundingDown(by: Dim(parts)) ?? .unknown
    let (batch, length) = (query?[0] ?? .unknown, query?[1] ?? .unknown)
    context.set(0, context.type(0), [batch, length, Dim(heads) * size])
    let total = context.values(6)?.first ?? .unknown
    var longest = total
    if context.isPresent(3) {
      let past = context.shape(3)
      if let past, past.count != 4 { throw .mismatch("past_key is \(past.text); expected 4 axes") }
      longest = Dim.max(past?[2] ?? .unknown, total)
    }
    for output in 1...2 { context.set(output, context.type(0), [batch, Dim(keyHeads), longest, size]) }
    context.set(3, context.type(0), [batch, Dim(heads), length, total])
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    for name in ["k_quant_type", "v_quant_type"] where try context.string(name) != "NONE" {
      throw .unsupported("\(name) is \(try context.string(name)); quantized caches are not supported")
    }
    if let type = context.optionalType(3), !TypeSet.microsoftFloats.tensors.contains(type) {
      throw .unsupported("the caches are \(type); quantized caches are not supported")
    }
    if try context.bool("sliding_window_cache") { throw .unsupported("sliding_window_cache is not supported") }
    let options = try Options(context)
    return try prepareReal(
      context,
      float: { (_) throws(OperatorError) in
        .planned(GroupQueryKernel(options: options))
      },
      double: { (context) throws(OperatorError) in throw context.unsupportedType(.float64) })
  }

  struct Options: Sendable {
    let heads: Int
    let keyHeads: Int
    let isCausal: Bool
    let isRotary: Bool
    let isInterleaved: Bool
    let scale: Float
    let softcap: Float
    let window: Int
    let epsilon: Float
    let smooth: Bool
    /// 0: no scores, 1: before the softmax, 2: behind it.
    let scores: Int

    init(_ context: some OperatorContext) throws(OperatorError) {
      (heads, keyHeads) = (try context.int("num_heads"), try context.int("kv_num_heads"))
      (isCausal, isRotary) = (try context.bool("causal"), try context.bool("do_rotary"))
      (isInterleaved, scale) = (try context.bool("rotary_interleaved"), context.optionalFloat("scale") ?? 0)
      (softcap, window) = (try context.float("softcap"), try context.int("local_window_size"))
      (epsilon, smooth) = (try context.float("qk_norm_epsilon"), try context.int("smooth_softmax") == 1)
      scores = try context.int("qk_output")
      guard (0...2).contains(scores) else { throw .invalid("qk_output is \(scores); expected 0, 1 or 2") }
    }
  }
}

private struct GroupQueryKernel: Kernel {
  let options: GroupQueryAttention.Options
  var growths: [Growth] { [Growth(input: 3, output: 1, axis: 2), Growth(input: 4, output: 2, axis: 2)] }
  func plan(_ context: PlanContext) throws(OperatorError) -> Step { try GroupQueryPlan(context, options).step(context) }
}

/// The extents of one plan.
private struct GroupQueryPlan: Sendable {
  private let options: GroupQueryAttention.Options
  private let batch: Int
  private let length: Int
  private let size: Int
  private let total: Int
  /// Rows of the past, and of the cache that holds it and what is new.
  private let past: Int
  private let longest: Int
  /// Where the caches that the step makes lie; nil: dense.
  private let keyPitch: Pitch?
  private let valuePitch: Pitch?
  private let isPacked: Bool
  private let hasPast: Bool
  private let hasPositions: Bool
  private let positions: Int
  private let rotated: Int
  private let normalizesQuery: Bool
  private let normalizesKey: Bool

  /// The first tokens of a sequence: nothing of the past counts.
  private var isPrompt: Bool { length == total }
  /// True for a past that is as long as the present, a buffer that is filled row by row: what is new may be written
  /// into the past itself, and rows that do not count yet stay as they are.
  private var isBuffer: Bool { hasPast && past == longest }
  private var changesQuery: Bool { options.isRotary || normalizesQuery }

  init(_ context: PlanContext, _ options: GroupQueryAttention.Options) throws(OperatorError) {
    self.options = options
    let query = context.shape(0)
    (batch, length) = (query[0], query[1])
    isPacked = !context.isPresent(1)
    size = query[2] / (isPacked ? options.heads + 2 * options.keyHeads : options.heads)
    guard let total = context.integers(6)?.first, total >= length else {
      throw .mismatch(
        "total_sequence_length is \(context.integers(6)?.first.map { "\($0)" } ?? "missing"); expected at least "
          + "\(length)")
    }
    self.total = total
    hasPast = context.isPresent(3)
    past = hasPast ? context.shape(3)[2] : 0
    longest = max(past, total)
    (keyPitch, valuePitch) = (context.pitch(output: 1), context.pitch(output: 2))
    if !isPacked {
      for input in 1...2 where context.shape(input) != [batch, length, options.keyHeads * size] {
        throw .mismatch(
          "key or value is \(context.shape(input)); expected \(Shape([batch, length, options.keyHeads * size]))")
      }
    }
    if hasPast {
      for input in 3...4 where context.shape(input) != [batch, options.keyHeads, past, size] {
        throw .mismatch("the past is \(context.shape(input)); expected \(Shape([batch, options.keyHeads, past, size]))")
      }
    }
    guard context.shape(5).elementCount == batch else {
      throw .mismatch("seqlens_k is \(context.shape(5)); expected [\(batch)]")
    }
    hasPositions = context.isPresent(9)
    if hasPositions && context.shape(9).elementCount != batch * length {
      throw .mismatch("position_ids is \(context.shape(9)); expected [\(batch), \(length)]")
    }
    let cache = context.shape(7)
    if options.isRotary {
      guard cache.rank == 2, cache == context.shape(8), cache[1] <= size / 2 else {
        throw .mismatch(
          "cos_cache is \(cache) and sin_cache \(context.shape(8)); expected two tables of up to \(size / 2) columns")
      }
    }
    (positions, rotated) = options.isRotary ? (cache[0], 2 * cache[1]) : (0, 0)
    (normalizesQuery, normalizesKey) = (context.isPresent(14), context.isPresent(15))
    for input in 14...15 where context.isPresent(input) && context.shape(input).elementCount != size {
      throw .mismatch("a weight of the normalization is \(context.shape(input)); expected [\(size)]")
    }
    if context.isPresent(11) && context.shape(11).elementCount != options.heads {
      throw .mismatch("head_sink is \(context.shape(11)); expected [\(options.heads)]")
    }
  }

  func step(_ context: PlanContext) throws(OperatorError) -> Step {
    var sequence = StepSequence()
    let cacheBytes = batch * options.keyHeads * longest * size * 4
    let key = context.isWanted(1) ? StepSequence.Operand.output(1) : sequence.reserve(bytes: cacheBytes)
    let value = context.isWanted(2) ? StepSequence.Operand.output(2) : sequence.reserve(bytes: cacheBytes)
    let query = changesQuery ? sequence.reserve(bytes: batch * length * options.heads * size * 4) : .input(0)
    let counts = sequence.reserve(bytes: batch * 8)
    sequence.append(
      fillingStep, inputs: [0, 1, 2, 3, 4, 5, 7, 8, 9, 14, 15].map { context.isPresent($0) ? .input($0) : .none },
      outputs: [key, value, changesQuery ? query : .none, counts])
    typealias Layout = AttentionGeometry.Layout
    let columns = context.shape(0)[2]
    func byHead(_ pitch: Pitch?) -> Layout {
      Layout.byHead(heads: options.keyHeads, length: pitch?.capacity ?? longest, size: size)
    }
    let geometry = AttentionGeometry(
      batch: batch, queryHeads: options.heads, keyHeads: options.keyHeads, queries: length, keys: longest, size: size,
      valueSize: size,
      query: changesQuery
        ? .byPosition(heads: options.heads, length: length, size: size)
        : Layout(batch: length * columns, head: size, row: columns),
      key: byHead(keyPitch), value: byHead(valuePitch),
      result: .byPosition(heads: options.heads, length: length, size: size))
    let mask = context.isPresent(10) ? try AttentionMask(context.shape(10), geometry) : nil
    let wantsScores = context.isWanted(3)
    if wantsScores && options.scores == 0 {
      throw .invalid("output_qk is wanted, and the attribute qk_output is 0; expected 1 or 2")
    }
    if wantsScores && longest != total {
      throw .unsupported("output_qk is not supported where the cache is longer than the keys")
    }
    var problem = AttentionProblem(
      geometry: geometry,
      range: KeyRange(
        isCausal: options.isCausal, left: options.window > 0 ? options.window - 1 : nil, offset: isPrompt ? 0 : nil,
        hasValidCounts: true),
      mask: mask, scale: options.scale == 0 ? 1 / Double(size).squareRoot() : Double(options.scale),
      softcap: Double(options.softcap), scoreMode: wantsScores ? options.scores + 1 : nil)
    problem.sink = context.isPresent(11) ? .byHead : options.smooth ? .zero : .none
    let attention = PackedAttention(problem).step()
    sequence.append(
      attention,
      inputs: [
        query, key, value, mask == nil ? .none : .input(10), counts, context.isPresent(11) ? .input(11) : .none,
      ],
      outputs: [.output(0), wantsScores ? .output(3) : .none])
    if wantsScores && options.scores == 1 { sequence.append(hidingStep, inputs: [], outputs: [.output(3)]) }
    var step = sequence.step.named(attention.kernelName, cost: attention.cost)
    for (input, pitch) in [(3, keyPitch), (4, valuePitch)] where pitch?.isAppended ?? false {
      step.unreadInputs.append(input)
    }
    if isBuffer {
      for output in 1...2 where context.isWanted(output) { step.inPlace.append((input: output + 2, output: output)) }
    }
    return step
  }

  /// Before the softmax, keys that a query does not see have the score 0.
  private var hidingStep: Step {
    let count = batch * options.heads * length * total
    let partition = Partition(count, of: .light * 2)
    return .parallel(parts: partition.parts) { run, part in
      let scores = run.output(0, as: Float.self)
      for index in partition.range(part) where scores[index] == -.infinity { scores[index] = 0 }
    }
  }

  // Operands of the first step: query, key, value, past key, past value, seqlens_k, cosines, sines, position_ids,
  // weights of the normalizations; then the caches, the queries, the numbers of valid keys.

  /// Fills the caches and turns queries and new keys: a part for each head of an image.
  private var fillingStep: Step {
    let parts = (changesQuery ? options.heads : 0) + 2 * options.keyHeads
    return .parallel(parts: batch * parts) { run, part in
      let (image, index) = part.quotientAndRemainder(dividingBy: parts)
      let valid = Int(run.input(5, as: Int32.self)[image]) &+ 1
      let start = isPrompt ? 0 : valid &- length
      guard start >= 0, valid <= longest, valid > 0, isPrompt || start <= past else {
        run.fail(
          "seqlens_k[\(image)] is \(valid - 1), which does not fit \(length) new tokens and a cache of \(longest)")
        return
      }
      if start != past, keyPitch?.isAppended ?? false || valuePitch?.isAppended ?? false { return run.decline() }
      if index == 0 { run.output(3, as: Int.self)[image] = valid }
      if index < 2 * options.keyHeads {
        fillCache(run, image, index / 2, isKey: index % 2 == 0, start: start)
      } else {
        turnQuery(run, image, index &- 2 &* options.keyHeads, start: start)
      }
    }
  }

  /// The elements of the query, key or value of a token and head.
  @inline(__always)
  private func source(_ run: RunContext, _ kind: Int, image: Int, token: Int, head: Int) -> UnsafePointer<Float> {
    let row = image &* length &+ token
    let (heads, keyHeads) = (options.heads, options.keyHeads)
    if isPacked {
      let first = kind == 0 ? 0 : heads &+ (kind &- 1) &* keyHeads
      return run.input(0) + (row &* (heads &+ 2 &* keyHeads) &+ first &+ head) &* size
    }
    return run.input(kind) + (row &* (kind == 0 ? heads : keyHeads) &+ head) &* size
  }

  private func fillCache(_ run: RunContext, _ image: Int, _ head: Int, isKey: Bool, start: Int) {
    let line = image &* options.keyHeads &+ head
    let pitch = isKey ? keyPitch : valuePitch
    let cache = run.output(isKey ? 0 : 1, as: Float.self) + line &* (pitch?.capacity ?? longest) &* size
    let end = start &+ length
    if hasPast && !(pitch?.isAppended ?? false) {
      let former = run.input(isKey ? 3 : 4, as: Float.self) + line &* past &* size
      if former != UnsafePointer(cache) {
        cache.update(from: former, count: start &* size)
        if isBuffer { (cache + end &* size).update(from: former + end &* size, count: (longest &- end) &* size) }
      }
    }
    for token in 0..<length {
      let target = cache + (start &+ token) &* size
      target.update(from: source(run, isKey ? 1 : 2, image: image, token: token, head: head), count: size)
      guard isKey else { continue }
      if normalizesKey { normalize(target, run.input(10)) }
      turn(run, target, image: image, token: token, start: start)
    }
    if !isBuffer { (cache + end &* size).update(repeating: 0, count: (longest &- end) &* size) }
  }

  private func turnQuery(_ run: RunContext, _ image: Int, _ head: Int, start: Int) {
    for token in 0..<length {
      let target = run.output(2, as: Float.self) + ((image &* length &+ token) &* options.heads &+ head) &* size
      target.update(from: source(run, 0, image: image, token: token, head: head), count: size)
      if normalizesQuery { normalize(target, run.input(9)) }
      turn(run, target, image: image, token: token, start: start)
    }
  }

  private func normalize(_ vector: UnsafeMutablePointer<Float>, _ weights: UnsafePointer<Float>) {
    VectorKernels.current.table.pointee.rms_norm_f32(size, vector, vector, weights, options.epsilon)
  }

  private func turn(_ run: RunContext, _ vector: UnsafeMutablePointer<Float>, image: Int, token: Int, start: Int) {
    guard options.isRotary else { return }
    let position = hasPositions ? run.input(8, as: Int.self)[image &* length &+ token] : start &+ token
    guard position >= 0, position < positions else {
      run.fail("position \(position) is not in cos_cache; expected 0 to \(positions - 1)")
      return
    }
    let half = rotated / 2
    let (cosines, sines) = (
      run.input(6, as: Float.self) + position &* half, run.input(7, as: Float.self) + position &* half
    )
    for index in 0..<half {
      let (first, second) = options.isInterleaved ? (2 &* index, 2 &* index &+ 1) : (index, index &+ half)
      let (a, b) = (vector[first], vector[second])
      vector[first] = cosines[index] * a - sines[index] * b
      vector[second] = sines[index] * a + cosines[index] * b
    }
  }
}
