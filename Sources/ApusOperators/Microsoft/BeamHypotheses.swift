// Beam search: the best unfinished sequences of each image, and those that ended.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.BeamSearch

import ApusGraph
import ApusTensor

/// The best finished sequences of one image.
struct BeamHypotheses {
  private(set) var entries: [(score: Float, tokens: [Int32])] = []
  let limit: Int
  let lengthPenalty: Float
  let stopsEarly: Bool
  var isDone = false

  init(limit: Int, lengthPenalty: Float, stopsEarly: Bool) {
    (self.limit, self.lengthPenalty, self.stopsEarly) = (limit, lengthPenalty, stopsEarly)
  }

  private func score(_ sum: Float, length: Int) -> Float { sum / Float.pow(Float(length), lengthPenalty) }

  /// Keeps the sequence if it is among the best. `sum`: the logarithm of its probability.
  mutating func add(_ tokens: [Int32], sum: Float) {
    let score = score(sum, length: tokens.count)
    if let worst = entries.last?.score, entries.count >= limit, score <= worst { return }
    let position = entries.firstIndex { $0.score < score } ?? entries.count
    entries.insert((score, tokens), at: position)
    if entries.count > limit { entries.removeLast() }
  }

  /// True if no unfinished sequence, of which the best has the logarithm `best`, can become one of the entries.
  func isComplete(best: Float, length: Int) -> Bool {
    guard entries.count >= limit, let worst = entries.last?.score else { return false }
    return stopsEarly || worst >= score(best, length: length)
  }
}

/// The state of a beam search over a batch. Row `image * beams + beam` is one unfinished sequence.
struct BeamState {
  let batch: Int
  let beams: Int
  let vocabulary: Int
  let endToken: Int32
  let padToken: Int32
  private(set) var sequences: [[Int32]]
  /// By row: the logarithm of the probability of the sequence.
  private(set) var scores: [Float]
  /// By row: the row that the last step continued, and the token it added.
  private(set) var origins: [Int] = []
  private(set) var tokens: [Int32] = []
  private(set) var hypotheses: [BeamHypotheses]

  init(_ sequences: [[Int32]], beams: Int, vocabulary: Int, _ parameters: GenerationParameters) {
    batch = sequences.count
    (self.beams, self.vocabulary) = (beams, vocabulary)
    (endToken, padToken) = (Int32(parameters.endToken), Int32(parameters.padToken))
    self.sequences = sequences.flatMap { [[Int32]](repeating: $0, count: beams) }
    // All beams of an image begin alike, so that only the first may be continued.
    scores = (0..<batch * beams).map { $0 % beams == 0 ? 0 : -1e9 }
    hypotheses = [BeamHypotheses](
      repeating: BeamHypotheses(
        limit: beams, lengthPenalty: parameters.lengthPenalty, stopsEarly: parameters.stopsEarly), count: batch)
  }

  var isDone: Bool { hypotheses.allSatisfy(\.isDone) }

  /// Continues the sequences. `candidates`: by row and token, the logarithm of the probability with that token.
  mutating func advance(_ candidates: [Float]) throws(OperatorError) {
    var (next, origins): ([Float], [Int]) = ([], [])
    tokens = []
    for image in 0..<batch {
      if hypotheses[image].isDone {
        next += repeatElement(0, count: beams)
        tokens += repeatElement(padToken, count: beams)
        origins += (0..<beams).map { image * beams + $0 }
        continue
      }
      let width = beams * vocabulary
      let best = BeamState.greatest(2 * beams, of: candidates[image * width..<(image + 1) * width])
      var taken = 0
      for (rank, index) in best.enumerated() where taken < beams {
        let (row, token) = (image * beams + index / vocabulary, Int32(index % vocabulary))
        let score = candidates[image * width + index]
        if token == endToken {
          if rank < beams { hypotheses[image].add(sequences[row], sum: score) }
          continue
        }
        next.append(score)
        tokens.append(token)
        origins.append(row)
        taken += 1
      }
      guard taken == beams else {
        throw .mismatch("a vocabulary of \(vocabulary) tokens is too small for \(beams) beams")
      }
      if let first = best.first {
        let length = sequences[image * beams].count
        hypotheses[image].isDone = hypotheses[image].isComplete(best: candidates[image * width + first], length: length)
      }
    }
    (scores, self.origins) = (next, origins)
    let former = sequences
    for row in sequences.indices { sequences[row] = former[origins[row]] + [tokens[row]] }
  }

  /// Positions of the greatest elements, descending; of equal ones the first comes first.
  private static func greatest(_ count: Int, of values: ArraySlice<Float>) -> [Int] {
    var best: [Int] = []
    let start = values.startIndex
    for index in values.indices {
      let value = values[index]
      if best.count == count, let last = best.last, !(value > values[start + last]) { continue }
      var position = best.count
      while position > 0, value > values[start + best[position - 1]] { position -= 1 }
      best.insert(index - start, at: position)
      if best.count > count { best.removeLast() }
    }
    return best
  }

  /// Counts the unfinished sequences in, and returns the best of each image.
  mutating func finished() -> [[(score: Float, tokens: [Int32])]] {
    for image in 0..<batch where !hypotheses[image].isDone {
      for row in image * beams..<(image + 1) * beams { hypotheses[image].add(sequences[row], sum: scores[row]) }
    }
    return hypotheses.map(\.entries)
  }
}
