// WordConvEmbedding: each word from its characters: embedded, convolved, through tanh, the greatest of all places.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.WordConvEmbedding
// Versions: 1. A word that begins with character 0 is empty and becomes zeros.

import ApusGraph
import ApusTensor

struct WordConvEmbedding: OperatorDefinition {
  let schema = OperatorSchema(
    "WordConvEmbedding", domain: "com.microsoft", versions: [1],
    inputs: [.required("Sequence", "T"), .required("W", "T1"), .required("B", "T1"), .required("C", "T1")],
    outputs: [.required("Y", "T1")],
    attributes: [
      .optional("char_embedding_size", .int), .optional("conv_window_size", .int), .optional("embedding_size", .int),
    ], types: ["T": .int32, "T1": .float32])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let (words, weights, table) = (context.shape(0), context.shape(1), context.shape(3))
    for (shape, rank, name) in [(words, 2, "Sequence"), (weights, 4, "W"), (table, 2, "C")] {
      if let shape, shape.count != rank { throw .mismatch("\(name) is \(shape.text); expected \(rank) axes") }
    }
    if let weights, let table, weights[3].isSurelyDifferent(from: table[1]) || weights[1].isSurelyDifferent(from: 1) {
      throw .mismatch("W is \(weights.text) for C \(table.text); expected [filters, 1, window, \(table[1])]")
    }
    for (name, dim) in [
      ("embedding_size", weights?[0]), ("conv_window_size", weights?[2]), ("char_embedding_size", table?[1]),
    ] {
      if let given = context.optionalInt(name), given != -1, let dim, dim.isSurelyDifferent(from: Dim(given)) {
        throw .mismatch("\(name) is \(given); the weights say \(dim)")
      }
    }
    if let words, let weights, let length = words[1].known, let window = weights[2].known, window > length {
      throw .mismatch("words of \(length) characters are shorter than the window of \(window)")
    }
    context.set(0, .float32, [words?[0] ?? .unknown, weights?[0] ?? .unknown])
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .planned { (plan) throws(OperatorError) in
      let (words, length) = (plan.shape(0)[0], plan.shape(0)[1])
      let (filters, window) = (plan.shape(1)[0], plan.shape(1)[2])
      let (rows, size) = (plan.shape(3)[0], plan.shape(3)[1])
      guard plan.shape(2).elementCount == filters else {
        throw .mismatch("B is \(plan.shape(2)); expected [\(filters)]")
      }
      let partition = Partition(words, of: .medium * length * filters * window * size)
      return .parallel(parts: partition.parts) { run, part in
        for word in partition.range(part) {
          let characters = run.input(0, as: Int32.self) + word &* length
          let y = run.output(0, as: Float.self) + word &* filters
          y.update(repeating: 0, count: filters)
          if length == 0 || characters[0] <= 0 { continue }
          var count = 0
          for index in 0..<length where characters[index] > 0 { count &+= 1 }
          let used = max(count, window)
          for index in 0..<used where characters[index] < 0 || Int(characters[index]) >= rows {
            run.fail("Sequence[\(word), \(index)] is \(characters[index]); expected 0 to \(rows - 1)")
            return
          }
          for filter in 0..<filters {
            var best = -Float.infinity
            for start in 0...used &- window {
              var sum: Float = 0
              for offset in 0..<window {
                let weights = run.input(1, as: Float.self) + (filter &* window &+ offset) &* size
                let row = run.input(3, as: Float.self) + Int(characters[start &+ offset]) &* size
                for index in 0..<size { sum += weights[index] * row[index] }
              }
              best = max(best, sum)
            }
            // tanh and the bias keep the order.
            y[filter] = Float.tanh(best + run.input(2, as: Float.self)[filter])
          }
        }
      }
    }
  }
}
