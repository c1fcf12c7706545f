// The loops that generate text: the most probable token, a drawn token, or the best of several sequences.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.GreedySearch

import ApusGraph
import ApusTensor

extension GenerationParameters {
  /// Outputs: the sequences [batch, returned, longest], their scores, the scores of all tokens of all steps, and the
  /// probability that nothing is said.
  func generateByBeams(_ model: inout GenerationModel, _ context: any EagerContext) throws(OperatorError) -> [Value?] {
    let (batch, start) = (model.batch, model.prompts.first?.count ?? maximumLength)
    if batch == 0 {
      let scores = try context.allocate(.float32, [0, 0, beams, 0])
      return [
        .tensor(Tensor([] as [Int32], shape: [0, returned, maximumLength])),
        .tensor(Tensor([] as [Float], shape: [0, returned])), .tensor(scores), nil, .tensor(Tensor([] as [Float])),
      ]
    }
    var logits = try model.start(context)
    let (vocabulary, rows) = (logits.vocabulary, batch * beams)
    let rules = try rules(vocabulary: vocabulary, batch: batch)
    var state = BeamState(model.prompts, beams: beams, vocabulary: vocabulary, self)
    let steps = maximumLength - start
    let stepCount = rows.multipliedReportingOverflow(by: vocabulary)
    try context.check(allocating: stepCount.overflow ? .max : stepCount.partialValue &* 4)
    let allScores =
      context.isWanted(2)
      ? try context.allocate(.float32, [steps, batch, beams, vocabulary]) : nil
    allScores?.storage.base.initializeMemory(as: UInt8.self, repeating: 0, count: allScores?.byteCount ?? 0)
    var silence = [Float](repeating: 0, count: batch)
    for step in 0..<steps {
      if step > 0 {
        let origins = beams > 1 ? state.origins : nil
        logits = try model.advance(state.tokens, origins: origins, state.sequences, context)
        try logits.require(vocabulary: vocabulary)
      }
      var candidates = [Float](repeating: 0, count: rows * vocabulary)
      for row in 0..<rows {
        let line = row * vocabulary..<(row + 1) * vocabulary
        GenerationParameters.writeLogSoftmax(try logits.row(row, of: rows), to: &candidates, at: line.lowerBound)
        if step == 0, row % beams == 0, context.isWanted(4) {
          silence[row / beams] = Float.exp(candidates[line.lowerBound + (try silentToken(vocabulary))])
        }
        GenerationParameters.withRow(&candidates, line) { scores in
          rules.apply(to: scores, after: state.sequences[row], image: row / beams, isFirst: step == 0)
          for index in scores.indices { scores[index] += state.scores[row] }
        }
      }
      if let allScores {
        candidates.withUnsafeBytes { bytes in
          guard let base = bytes.baseAddress else { return }
          (allScores.storage.base + step * bytes.count).copyMemory(from: base, byteCount: bytes.count)
        }
      }
      try state.advance(candidates)
      if state.isDone { break }
    }
    return try outputs(of: &state, context) + [allScores.map { .tensor($0) }, nil, .tensor(Tensor(silence))]
  }

  private func silentToken(_ vocabulary: Int) throws(OperatorError) -> Int {
    guard let token = attributes.noSpeechToken, token >= 0, token < vocabulary else {
      throw .mismatch("no_speech_token_id is \(attributes.noSpeechToken ?? -1); expected 0 to \(vocabulary - 1)")
    }
    return token
  }

  private func outputs(of state: inout BeamState, _ context: any EagerContext) throws(OperatorError) -> [Value?] {
    let count = state.batch.multipliedReportingOverflow(by: returned * maximumLength * 4)
    try context.check(allocating: count.overflow ? .max : count.partialValue)
    var sequences: [Int32] = []
    var scores: [Float] = []
    for entries in state.finished() {
      for index in 0..<returned {
        let entry = index < entries.count ? entries[index] : (score: 0, tokens: [])
        let tokens = entry.tokens.prefix(maximumLength)
        sequences += tokens
        sequences += repeatElement(Int32(padToken), count: maximumLength - tokens.count)
        scores.append(entry.score)
      }
    }
    return [
      .tensor(Tensor(sequences, shape: [state.batch, returned, maximumLength])),
      .tensor(Tensor(scores, shape: [state.batch, returned])),
    ]
  }

  /// Outputs: the sequences [batch, longest], and the logits of the last step that a token was drawn from.
  func generateGreedily(
    _ model: inout GenerationModel, isSampled: Bool, _ context: any EagerContext
  ) throws(OperatorError) -> [Value?] {
    let (batch, start) = (model.batch, model.prompts.first?.count ?? maximumLength)
    let count = batch.multipliedReportingOverflow(by: 4 * maximumLength)
    try context.check(allocating: count.overflow ? .max : count.partialValue)
    if batch == 0 {
      return [
        .tensor(Tensor([] as [Int32], shape: [0, maximumLength])), .tensor(Tensor([] as [Float], shape: [0, 0])),
      ]
    }
    var logits = try model.start(context)
    let vocabulary = logits.vocabulary
    let rules = try rules(vocabulary: vocabulary, batch: batch)
    var sequences = model.prompts
    var hasEnded = [Bool](repeating: false, count: batch)
    var generator = MinimalGenerator(seed: seed)
    var scores = [Float](repeating: 0, count: batch * vocabulary)
    var tokens = [Int32](repeating: 0, count: batch)
    for step in 0..<maximumLength - start {
      if step > 0 {
        logits = try model.advance(tokens, origins: nil, sequences, context)
        try logits.require(vocabulary: vocabulary)
      }
      for row in 0..<batch {
        let line = row * vocabulary..<(row + 1) * vocabulary
        scores.replaceSubrange(line, with: try logits.row(row, of: batch))
        GenerationParameters.withRow(&scores, line) { scores in
          rules.apply(to: scores, after: sequences[row], image: row, isFirst: step == 0)
          if isSampled { attributes.sampling.filter(scores) }
        }
        let choice =
          isSampled
          ? MinimalGenerator.draw(scores[line], &generator) : GenerationParameters.greatest(scores[line])
        tokens[row] = Int32(choice)
        if choice == endToken || hasEnded[row] {
          hasEnded[row] = true
          tokens[row] = Int32(padToken)
        }
        sequences[row].append(tokens[row])
      }
      if !hasEnded.contains(false) { break }
    }
    let padded = sequences.flatMap { $0 + [Int32](repeating: Int32(padToken), count: maximumLength - $0.count) }
    return [
      .tensor(Tensor(padded, shape: [batch, maximumLength])), .tensor(Tensor(scores, shape: [batch, vocabulary])),
    ]
  }

  private static func greatest(_ scores: ArraySlice<Float>) -> Int {
    var best = scores.startIndex
    for index in scores.indices where scores[index] > scores[best] { best = index }
    return best - scores.startIndex
  }

  private static func withRow(
    _ values: inout [Float], _ range: Range<Int>,
    _ body: (UnsafeMutableBufferPointer<Float>) -> Void
  ) {
    values.withUnsafeMutableBufferPointer { body(UnsafeMutableBufferPointer(rebasing: $0[range])) }
  }

  private static func writeLogSoftmax(_ logits: ArraySlice<Float>, to target: inout [Float], at start: Int) {
    let peak = logits.max() ?? 0
    var sum: Float = 0
    for value in logits { sum += Float.exp(value - peak) }
    let logarithm = Float.log(sum)
    for (index, value) in logits.enumerated() { target[start + index] = value - peak - logarithm }
  }
}

/// What Sampling draws from.
struct SamplingOptions: Sendable {
  let topP: Float
  let filterValue: Float
  let leastKept: Int
  let isCustom: Bool
  let temperature: Float
  let presencePenalty: Float

  init(_ context: some OperatorContext) {
    topP = context.optionalFloat("top_p") ?? 0
    filterValue = context.optionalFloat("filter_value") ?? -1e20
    leastKept = context.optionalInt("min_tokens_to_keep") ?? 0
    isCustom = context.optionalInt("custom") ?? 0 != 0
    temperature = context.optionalFloat("temperature") ?? 1
    presencePenalty = context.optionalFloat("presence_penalty") ?? 0
  }

  /// Keeps the most probable tokens whose probabilities add up to `topP`.
  func filter(_ scores: UnsafeMutableBufferPointer<Float>) {
    // The custom form adds from the most probable on, the other from the least.
    let order = scores.indices.sorted { a, b in
      scores[a] == scores[b] ? a < b : (scores[a] > scores[b]) == isCustom
    }
    guard let peak = scores.max() else { return }
    var total: Float = 0
    for index in order { total += Float.exp(scores[index] - peak) }
    let probabilities = order.map { Float.exp(scores[$0] - peak) / total }
    var sum: Float = 0
    if isCustom {
      for rank in 0..<max(0, order.count - 1) {
        sum += probabilities[rank]
        if sum > topP { scores[order[rank + 1]] = filterValue }
      }
    } else {
      for rank in 0..<max(0, order.count - max(0, leastKept)) {
        sum += probabilities[rank]
        if sum <= 1 - topP { scores[order[rank]] = filterValue }
      }
    }
  }
}

/// The generator of Lehmer with the factor 16807, and the draws from logits that go with it.
/// S. K. Park and K. W. Miller, Random number generators: good ones are hard to find, CACM 31 (1988).
struct MinimalGenerator {
  private static let modulus: UInt64 = 2_147_483_647
  private var state: UInt64

  init(seed: Int) {
    let state = UInt64(UInt32(truncatingIfNeeded: seed)) % MinimalGenerator.modulus
    self.state = state == 0 ? 1 : state
  }

  private mutating func next() -> Double {
    state = state * 16_807 % MinimalGenerator.modulus
    return Double(state - 1)
  }

  /// From 0 up to 1, of two numbers.
  mutating func nextDouble() -> Double {
    let range = Double(MinimalGenerator.modulus - 1)
    let low = next()
    return (low + next() * range) / (range * range)
  }

  /// A position, drawn by the probabilities that logits stand for.
  static func draw(_ logits: ArraySlice<Float>, _ generator: inout MinimalGenerator) -> Int {
    var peak = -Float.infinity
    for value in logits where value.isFinite { peak = max(peak, value) }
    var sums: [Double] = []
    var sum = 0.0
    for value in logits {
      if value.isFinite { sum += Double.exp(Double(value) - Double(peak)) }
      sums.append(sum)
    }
    let wanted = generator.nextDouble() * sum
    return min(sums.firstIndex { $0 > wanted } ?? sums.count - 1, sums.count - 1)
  }
}
