// LinearAttention: attention by a recurrent state for each head.
// https://onnx.ai/onnx/operators/onnx__LinearAttention.html Versions: 27. The state is float32; token after token,
// whatever chunk_size says.

import ApusGraph
import ApusTensor

package struct LinearAttention: OperatorDefinition {
  package let schema = OperatorSchema(
    "LinearAttention", versions: [27],
    inputs: [
      .required("query", "T"), .required("key", "T"), .required("value", "T"), .optional("past_state", "S"),
      .optional("decay", "T"), .optional("beta", "T"),
    ],
    outputs: [.required("output", "T"), .required("present_state", "S")],
    attributes: [
      .int("chunk_size", default: 64), .required("kv_num_heads", .int), .required("q_num_heads", .int),
      .float("scale", default: 0), .string("update_rule", default: "gated_delta"),
    ],
    types: ["T": [.float16, .bfloat16, .float32], "S": [.float16, .bfloat16, .float32]])

  package init() {}

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let (queryHeads, keyHeads) = (try context.int("q_num_heads"), try context.int("kv_num_heads"))
    guard queryHeads > 0, keyHeads > 0, queryHeads % keyHeads == 0 else {
      throw .invalid("q_num_heads is \(queryHeads); expected a positive multiple of kv_num_heads, \(keyHeads)")
    }
    let rule = try context.string("update_rule", oneOf: ["linear", "gated", "delta", "gated_delta"])
    for (input, isNeeded) in [(4, rule.hasPrefix("gated")), (5, rule.hasSuffix("delta"))]
    where context.isPresent(input) != isNeeded {
      throw .mismatch(
        "\(schema.inputs[input].name) is \(isNeeded ? "missing" : "given"), and update_rule is '\(rule)'")
    }
    for input in [0, 1, 2, 4, 5] {
      if let shape = context.shape(input), shape.count != 3 {
        throw .mismatch("\(schema.inputs[input].name) is \(shape.text); expected 3 axes")
      }
    }
    let (query, key, value) = (context.shape(0), context.shape(1), context.shape(2))
    if let query, let key, let value,
      query[1].isSurelyDifferent(from: key[1]) || query[1].isSurelyDifferent(from: value[1])
    {
      throw .mismatch("query, key and value have \(query[1]), \(key[1]) and \(value[1]) tokens")
    }
    let valueSize = value.map { $0[2].dividedRoundingDown(by: Dim(keyHeads)) } ?? .unknown
    context.set(0, context.type(0), [query?[0] ?? .unknown, query?[1] ?? .unknown, valueSize * Dim(queryHeads)])
    let keySize = query.map { $0[2].dividedRoundingDown(by: Dim(queryHeads)) } ?? .unknown
    context.set(
      1, context.type(3) ?? context.type(0),
      context.shape(3) ?? [query?[0] ?? .unknown, Dim(keyHeads), keySize, valueSize])
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let rule = try context.string("update_rule")
    let (queryHeads, keyHeads) = (try context.int("q_num_heads"), try context.int("kv_num_heads"))
    let scale = try context.float("scale")
    return try prepareReal(
      context,
      float: { (_) throws(OperatorError) in
        .planned { (plan) throws(OperatorError) in
          try LinearRecurrence(plan, rule: rule, queryHeads: queryHeads, keyHeads: keyHeads, scale: scale).step
        }
      },
      double: { (context) throws(OperatorError) in throw context.unsupportedType(.float64) })
  }
}

/// The recurrence of every head. Columns of a state do not mix, so parts take blocks of columns.
private struct LinearRecurrence: Sendable {
  private let batch: Int
  private let tokens: Int
  private let queryHeads: Int
  private let keyHeads: Int
  private let keySize: Int
  private let valueSize: Int
  private let isGated: Bool
  private let isDelta: Bool
  /// The decay is of each element of the key, not of each head.
  private let decaysByElement: Bool
  /// Heads that beta has: all, or one for all.
  private let betaHeads: Int
  private let scale: Float
  private let hasPast: Bool

  /// Columns of a state that are worked on together.
  private static let columnTile = 64

  init(_ context: PlanContext, rule: String, queryHeads: Int, keyHeads: Int, scale: Float) throws(OperatorError) {
    let (query, key, value) = (context.shape(0), context.shape(1), context.shape(2))
    (batch, tokens) = (query[0], query[1])
    (self.queryHeads, self.keyHeads) = (queryHeads, keyHeads)
    (keySize, valueSize) = (query[2] / queryHeads, value[2] / keyHeads)
    guard query[2] % queryHeads == 0, value[2] % keyHeads == 0, key[2] == keySize * keyHeads, key[0] == batch,
      value[0] == batch
    else { throw .mismatch("query \(query), key \(key) and value \(value) do not divide into these heads") }
    isGated = rule.hasPrefix("gated")
    isDelta = rule.hasSuffix("delta")
    self.scale = scale == 0 ? 1 / Float(keySize).squareRoot() : scale
    hasPast = context.isPresent(3)
    let state: Shape = [batch, keyHeads, keySize, valueSize]
    if hasPast && context.shape(3) != state { throw .mismatch("past_state is \(context.shape(3)); expected \(state)") }
    if isGated && keySize > 0 {
      let decay = context.shape(4)
      decaysByElement = decay[2] != keyHeads
      guard decay[0] == batch, decay[1] == tokens, decay[2] == keyHeads || decay[2] == keyHeads * keySize else {
        throw .mismatch("decay is \(decay); expected [\(batch), \(tokens), \(keyHeads) or \(keyHeads * keySize)]")
      }
    } else {
      decaysByElement = false
    }
    if isDelta {
      let beta = context.shape(5)
      betaHeads = beta[2]
      guard beta[0] == batch, beta[1] == tokens, beta[2] == keyHeads || beta[2] == 1 else {
        throw .mismatch("beta is \(beta); expected [\(batch), \(tokens), \(keyHeads) or 1]")
      }
    } else {
      betaHeads = 1
    }
  }

  var step: Step {
    let blocks = (valueSize + LinearRecurrence.columnTile - 1) / LinearRecurrence.columnTile
    let tile = Cost.medium * keySize * min(valueSize, LinearRecurrence.columnTile)
    let partition = Partition(batch * keyHeads * blocks, of: tile * max(tokens, 1))
    return .parallel(parts: partition.parts) { run, part in
      for unit in partition.range(part) { compute(run, unit, blocks: blocks) }
    }
  }

  /// Some columns of the state of a head, through all tokens.
  private func compute(_ run: RunContext, _ unit: Int, blocks: Int) {
    let (head, block) = unit.quotientAndRemainder(dividingBy: blocks)
    let (image, keyHead) = head.quotientAndRemainder(dividingBy: keyHeads)
    let first = block &* LinearRecurrence.columnTile
    let columns = first..<min(first &+ LinearRecurrence.columnTile, valueSize)
    // The state is the output itself: float32 rows of the value's size, of which this unit owns some columns.
    let state = run.output(1, as: Float.self) + (head &* keySize &* valueSize &+ first)
    for row in 0..<keySize {
      let line = state + row &* valueSize
      if hasPast {
        line.update(
          from: run.input(3, as: Float.self) + ((head &* keySize &+ row) &* valueSize &+ first), count: columns.count)
      } else {
        line.update(repeating: 0, count: columns.count)
      }
    }
    withUnsafeTemporaryAllocation(of: Float.self, capacity: LinearRecurrence.columnTile) { update in
      guard let update = update.baseAddress else { return }
      for token in 0..<tokens {
        advance(run, image &* tokens &+ token, keyHead, columns, state, update)
      }
    }
  }

  /// One token: decay, correction, write, read.
  private func advance(
    _ run: RunContext, _ position: Int, _ head: Int, _ columns: Range<Int>, _ state: UnsafeMutablePointer<Float>,
    _ update: UnsafeMutablePointer<Float>
  ) {
    let count = columns.count
    let key = run.input(1, as: Float.self) + (position &* keyHeads &+ head) &* keySize
    let value = run.input(2, as: Float.self) + ((position &* keyHeads &+ head) &* valueSize &+ columns.lowerBound)
    if isGated && keySize > 0 {
      let decay =
        run.input(4, as: Float.self)
        + (decaysByElement ? (position &* keyHeads &+ head) &* keySize : position &* keyHeads &+ head)
      var factor = Float.exp(decay[0])
      for row in 0..<keySize {
        if decaysByElement && row > 0 { factor = Float.exp(decay[row]) }
        let line = state + row &* valueSize
        for column in 0..<count { line[column] *= factor }
      }
    }
    update.update(from: value, count: count)
    if isDelta {
      for row in 0..<keySize {
        let (line, factor) = (state + row &* valueSize, key[row])
        for column in 0..<count { update[column] -= line[column] * factor }
      }
      let beta = run.input(5, as: Float.self)[position &* betaHeads &+ (betaHeads == 1 ? 0 : head)]
      for column in 0..<count { update[column] *= beta }
    }
    for row in 0..<keySize {
      let (line, factor) = (state + row &* valueSize, key[row])
      for column in 0..<count { line[column] += factor * update[column] }
    }
    let group = queryHeads / keyHeads
    for queryHead in head &* group..<(head &+ 1) &* group {
      let query = run.input(0, as: Float.self) + (position &* queryHeads &+ queryHead) &* keySize
      let output =
        run.output(0, as: Float.self)
        + ((position &* queryHeads &+ queryHead) &* valueSize &+ columns.lowerBound)
      output.update(repeating: 0, count: count)
      for row in 0..<keySize {
        let (line, factor) = (state + row &* valueSize, query[row])
        for column in 0..<count { output[column] += factor * line[column] }
      }
      for column in 0..<count { output[column] *= scale }
    }
  }
}
