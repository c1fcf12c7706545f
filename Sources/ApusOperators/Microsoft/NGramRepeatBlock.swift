// NGramRepeatBlock: forbids the tokens that would repeat a run of tokens of the sequence.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.NGramRepeatBlock
// Versions: 1.

import ApusGraph
import ApusTensor

struct NGramRepeatBlock: OperatorDefinition {
  let schema = OperatorSchema(
    "NGramRepeatBlock", domain: "com.microsoft", versions: [1],
    inputs: [.required("input_ids", "Tid"), .required("scores", "T")], outputs: [.required("scores_out", "T")],
    attributes: [.required("ngram_size", .int)], types: ["Tid": .int64, "T": .float32])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let size = try context.int("ngram_size")
    guard size > 0 else { throw .invalid("ngram_size is \(size); expected a positive number") }
    if let ids = context.shape(0), let scores = context.shape(1) {
      guard ids.count == 2, scores.count == 2, !ids[0].isSurelyDifferent(from: scores[0]) else {
        throw .mismatch("input_ids is \(ids.text) and scores \(scores.text); expected two axes and one batch")
      }
    }
    context.copy(input: 1)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let size = try context.int("ngram_size")
    return .planned { plan in
      let (batch, length) = (plan.shape(0)[0], plan.shape(0)[1])
      let vocabulary = plan.shape(1)[1]
      let partition = Partition(batch, of: .copying(bytes: 4) * vocabulary + .light * length)
      return .parallel(parts: partition.parts) { run, part in
        for image in partition.range(part) {
          let tokens = run.input(0, as: Int.self) + image &* length
          let scores = run.output(0, as: Float.self) + image &* vocabulary
          scores.update(from: run.input(1, as: Float.self) + image &* vocabulary, count: vocabulary)
          if length < size { continue }
          // The last size - 1 tokens, wherever they stand before: what followed there may not follow here.
          let tail = tokens + (length &- size &+ 1)
          for start in 0...(length &- size) {
            var isEqual = true
            for index in 0..<size &- 1 where tokens[start &+ index] != tail[index] { isEqual = false }
            if !isEqual { continue }
            let token = tokens[start &+ size &- 1]
            guard token >= 0, token < vocabulary else {
              run.fail("token \(token) is not in the vocabulary; expected 0 to \(vocabulary - 1)")
              return
            }
            scores[token] = -.infinity
          }
        }
      }
    }
  }
}
