// What a generation of text may choose next: penalties, masks and the order of time stamps, applied to scores.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.BeamSearch

import ApusGraph
import ApusTensor

/// The rules of one generation, in the order in which they apply.
struct GenerationRules: Sendable {
  /// Forbidden tokens get this score, which no sum makes infinite.
  static let forbidden = -Float.greatestFiniteMagnitude

  let vocabulary: Int
  /// 1: none.
  var repetitionPenalty: Float = 1
  /// 0: any repetition is allowed.
  var repeatedRun = 0
  /// [vocabulary]: 0 forbids a token.
  var mask: [Int32]?
  /// [batch, vocabulary], for the first step.
  var firstMask: [Int32]?
  var minimumLength = 0
  var endToken = 0
  var temperature: Float = 1
  /// [batch, vocabulary], and what it is multiplied by.
  var presence: (mask: [Int32], penalty: Float)?
  var timestamps: TimestampRule?

  /// Changes the scores of one row, which continues `tokens`. `image`: its position in the batch.
  func apply(
    to scores: UnsafeMutableBufferPointer<Float>, after tokens: [Int32], image: Int, isFirst: Bool
  ) {
    if repetitionPenalty != 1 {
      for token in Set(tokens) where isKnown(token) {
        let index = Int(token)
        scores[index] = scores[index] < 0 ? scores[index] * repetitionPenalty : scores[index] / repetitionPenalty
      }
    }
    if repeatedRun > 0, repeatedRun <= tokens.count { forbidRepeatedRuns(scores, tokens) }
    if let mask { for index in 0..<vocabulary where mask[index] == 0 { scores[index] = GenerationRules.forbidden } }
    if isFirst, let firstMask {
      let line = firstMask[image * vocabulary..<(image + 1) * vocabulary]
      for (index, isAllowed) in line.enumerated() where isAllowed == 0 { scores[index] = GenerationRules.forbidden }
    }
    if tokens.count < minimumLength { scores[endToken] = GenerationRules.forbidden }
    if temperature > 0 && temperature != 1 { for index in 0..<vocabulary { scores[index] /= temperature } }
    if let presence, presence.penalty != 0 {
      let line = presence.mask[image * vocabulary..<(image + 1) * vocabulary]
      for (index, count) in line.enumerated() { scores[index] -= Float(count) * presence.penalty }
    }
    timestamps?.apply(to: scores, after: tokens, endToken: endToken)
  }

  /// Tokens that are only given, as padding may be, need no score.
  private func isKnown(_ token: Int32) -> Bool { token >= 0 && Int(token) < vocabulary }

  /// The last tokens, wherever they stand before: what followed there may not follow here.
  private func forbidRepeatedRuns(_ scores: UnsafeMutableBufferPointer<Float>, _ tokens: [Int32]) {
    let tail = tokens.suffix(repeatedRun - 1)
    for start in 0...(tokens.count - repeatedRun) {
      let end = start + repeatedRun - 1
      if isKnown(tokens[end]), tokens[start..<end].elementsEqual(tail) {
        scores[Int(tokens[end])] = GenerationRules.forbidden
      }
    }
  }
}

/// The time stamps of Whisper: in pairs, ascending, and the first one early.
struct TimestampRule: Sendable {
  /// The token of time 0; all that follow are time stamps.
  let first: Int
  let vocabulary: Int
  /// Never allowed; those of `start` not behind the first time stamp.
  let never: [Int]
  let start: [Int]

  private static let latestFirst = 50

  func apply(to scores: UnsafeMutableBufferPointer<Float>, after tokens: [Int32], endToken: Int) {
    func forbid(_ range: Range<Int>) {
      for index in range where index >= 0 && index < vocabulary { scores[index] = GenerationRules.forbidden }
    }
    func isStamp(_ token: Int32) -> Bool { Int(token) >= first }
    /// The number of tokens up to the first time stamp.
    let begin = tokens.firstIndex(where: isStamp).map { $0 + 1 } ?? tokens.count
    for token in never { forbid(token..<token + 1) }
    if tokens.count > begin { for token in start { forbid(token..<token + 1) } }
    let endsWithStamp = tokens.last.map(isStamp) ?? false
    let isPair = tokens.count <= begin || isStamp(tokens[tokens.count - 2])
    if endsWithStamp { forbid(isPair ? first..<max(first, vocabulary) : 0..<max(0, endToken)) }
    if let last = tokens.last(where: isStamp) {
      forbid(first..<max(first, Int(last) + (endsWithStamp && !isPair ? 0 : 1)))
    }
    if tokens.count == begin {
      forbid(min(first + TimestampRule.latestFirst + 1, vocabulary)..<vocabulary)
    }
    // A time stamp, if all together are more probable than any other token.
    var highest = -Float.infinity
    for index in 0..<first { highest = max(highest, scores[index]) }
    var peak = -Float.infinity
    for index in first..<vocabulary { peak = max(peak, scores[index]) }
    var sum: Float = 0
    for index in first..<vocabulary { sum += Float.exp(scores[index] - peak) }
    if peak > GenerationRules.forbidden && peak + Float.log(sum) > highest { forbid(0..<first) }
  }
}
