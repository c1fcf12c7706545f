// NGramHashMapping: for each token, hashes of the runs of tokens that end there, for tables of embeddings.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.NGramHashMapping
// Versions: 1.

import ApusGraph
import ApusTensor

struct NGramHashMapping: OperatorDefinition {
  let schema = OperatorSchema(
    "NGramHashMapping", domain: "com.microsoft", versions: [1],
    inputs: [
      .required("input_ids", "M"), .required("multipliers", "M"), .required("vocab_sizes", "M"),
      .optional("past_ids", "M"), .optional("head_offsets", "M"), .optional("eos_token_id", "M"),
      .optional("segment_ids", "tensor(int32)"),
    ],
    outputs: [.required("hash_ids", "M"), .optional("present_ids", "M")],
    attributes: [
      .required("max_ngram_size", .int), .required("n_head_per_ngram", .int), .required("pad_id", .int),
      .int("reset_on_eos", default: 0),
    ],
    types: ["M": .indices, "tensor(int32)": [.int32]])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let (longest, heads) = (try context.int("max_ngram_size"), try context.int("n_head_per_ngram"))
    let limit = 1 << 16
    guard longest >= 2, longest <= limit, heads >= 1, heads <= limit else {
      throw .invalid(
        "max_ngram_size is \(longest) and n_head_per_ngram \(heads); expected 2 to \(limit) and 1 to \(limit)")
    }
    let columns = Dim((longest - 1) * heads)
    let ids = context.shape(0)
    if let ids, ids.count != 2 { throw .mismatch("input_ids is \(ids.text); expected batch and sequence") }
    let (batch, length) = (ids?[0] ?? .unknown, ids?[1] ?? .unknown)
    let past = Dim(longest - 1)
    for (input, expected) in [(2, [columns]), (3, [batch, past]), (4, [columns]), (6, [batch, length])] {
      guard let shape = context.shape(input) else { continue }
      if shape.count != expected.count || zip(shape, expected).contains(where: { $0.isSurelyDifferent(from: $1) }) {
        throw .mismatch("\(schema.inputs[input].name) is \(shape.text); expected \(expected.text)")
      }
    }
    if let count = context.shape(1)?.product.known, count < longest {
      throw .mismatch("there are \(count) multipliers; expected \(longest), one for each token of a run")
    }
    if let shape = context.shape(5), !shape.isEmpty {
      throw .mismatch("eos_token_id is \(shape.text); expected a scalar")
    }
    context.set(0, context.type(0), [batch, length, columns])
    context.set(1, context.type(0), [batch, past])
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let longest = try context.int("max_ngram_size")
    let (heads, pad) = (try context.int("n_head_per_ngram"), try context.int("pad_id"))
    let resets = try context.bool("reset_on_eos")
    let isWide = try context.type(0) == .int64
    return .planned { (plan) throws(OperatorError) in
      let runs = NGramRuns(plan, longest: longest, heads: heads, resets: resets)
      let pad = isWide ? pad : Int(Int32(truncatingIfNeeded: pad))
      return .parallel(parts: runs.tokens.parts) { run, part in
        if isWide { runs.compute(run, part, pad: pad) } else { runs.compute(run, part, pad: Int32(pad)) }
      }
    }
  }
}

/// The runs of up to `longest` tokens of a batch of sequences.
private struct NGramRuns: Sendable {
  let tokens: Partition
  private let batch: Int
  private let length: Int
  private let longest: Int
  private let heads: Int
  private let resets: Bool
  private let hasPast: Bool
  private let hasOffsets: Bool
  private let hasEnd: Bool
  private let hasSegments: Bool
  private let isPresentWanted: Bool

  init(_ plan: PlanContext, longest: Int, heads: Int, resets: Bool) {
    (batch, length) = (plan.shape(0)[0], plan.shape(0)[1])
    (self.longest, self.heads, self.resets) = (longest, heads, resets)
    tokens = Partition(batch &* length, of: .medium * ((longest - 1) * heads))
    (hasPast, hasOffsets) = (plan.isPresent(3), plan.isPresent(4))
    (hasEnd, hasSegments) = (plan.isPresent(5), plan.isPresent(6))
    isPresentWanted = plan.isWanted(1)
  }

  func compute<Token: FixedWidthInteger & BitwiseCopyable>(_ run: RunContext, _ part: Int, pad: Token) {
    let multipliers: UnsafePointer<Token> = run.input(1)
    let sizes: UnsafePointer<Token> = run.input(2)
    let offsets: UnsafePointer<Token>? = hasOffsets ? run.input(4) : nil
    let end: Token? = hasEnd ? run.input(5, as: Token.self)[0] : nil
    let hashes: UnsafeMutablePointer<Token> = run.output(0)
    for column in 0..<(longest &- 1) &* heads where sizes[column] <= 0 {
      run.fail("vocab_sizes[\(column)] is \(sizes[column]); expected a positive number")
      return
    }
    for unit in tokens.range(part) {
      let (row, position) = unit.quotientAndRemainder(dividingBy: length)
      let sequence = Sequence(self, run, row: row, missing: end ?? pad)
      var mix = sequence[position] &* multipliers[0]
      var isBroken = false
      for shift in 1..<longest {
        let source = position &- shift
        isBroken = isBroken || sequence.begins(at: source &+ 1)
        var token = isBroken ? sequence.missing : sequence[source]
        if resets, let end, token == end {
          isBroken = true
          token = end
        }
        mix ^= token &* multipliers[shift]
        for head in 0..<heads {
          let column = (shift &- 1) &* heads &+ head
          let rest = mix % sizes[column]
          let hash = rest < 0 ? rest &+ sizes[column] : rest
          hashes[unit &* (longest &- 1) &* heads &+ column] = hash &+ (offsets?[column] ?? 0)
        }
      }
    }
    if part == 0, isPresentWanted { copyPresent(run, pad: pad) }
  }

  /// The last tokens of every sequence, as the next call wants them.
  private func copyPresent<Token: FixedWidthInteger & BitwiseCopyable>(_ run: RunContext, pad: Token) {
    let end: Token? = hasEnd ? run.input(5, as: Token.self)[0] : nil
    let present: UnsafeMutablePointer<Token> = run.output(1)
    for row in 0..<batch {
      let sequence = Sequence(self, run, row: row, missing: end ?? pad)
      for index in 0..<longest &- 1 {
        present[row &* (longest &- 1) &+ index] = sequence[length &- (longest &- 1) &+ index]
      }
    }
  }

  /// One sequence and what stood before it.
  private struct Sequence<Token: FixedWidthInteger & BitwiseCopyable> {
    let missing: Token
    private let tokens: UnsafePointer<Token>
    /// What comes before position 0 ends here.
    private let pastEnd: UnsafePointer<Token>?
    private let segments: UnsafePointer<Int32>?

    init(_ runs: NGramRuns, _ run: RunContext, row: Int, missing: Token) {
      self.missing = missing
      tokens = run.input(0, as: Token.self) + row &* runs.length
      pastEnd = runs.hasPast ? run.input(3, as: Token.self) + (row &+ 1) &* (runs.longest &- 1) : nil
      segments = runs.hasSegments ? run.input(6, as: Int32.self) + row &* runs.length : nil
    }

    subscript(position: Int) -> Token { position >= 0 ? tokens[position] : pastEnd?[position] ?? missing }

    /// True if another segment lies before the position.
    func begins(at position: Int) -> Bool {
      guard let segments, position > 0 else { return false }
      return segments[position] != segments[position &- 1]
    }
  }
}
