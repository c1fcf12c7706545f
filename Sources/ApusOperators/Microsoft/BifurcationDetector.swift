// BifurcationDetector: takes over predicted tokens up to the first that is wrong, and finds where to go on predicting.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.BifurcationDetector
// Versions: 1.

import ApusGraph
import ApusTensor

struct BifurcationDetector: OperatorDefinition {
  let schema = OperatorSchema(
    "BifurcationDetector", domain: "com.microsoft", versions: [1],
    inputs: [
      .required("src_tokens", "T"), .required("cur_tokens", "T"), .required("prev_suffix_match_idx", "T"),
      .optional("pred_tokens", "T"),
    ],
    outputs: [.required("tokens", "T"), .required("suffix_match_idx", "T")],
    attributes: [.int("max_ngram_size", default: 3), .int("min_ngram_size", default: 1)], types: ["T": .int64])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let (least, most) = (try context.int("min_ngram_size"), try context.int("max_ngram_size"))
    guard least > 0, most >= least else {
      throw .invalid("min_ngram_size is \(least) and max_ngram_size \(most); expected positive numbers in this order")
    }
    context.set(0, .int64, context.isPresent(3) ? [.unknown] : context.shape(1))
    context.copy(input: 2, to: 1)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let sizes = try context.int("min_ngram_size")...context.int("max_ngram_size")
    return .eager { (inputs, context) throws(OperatorError) in
      func tokens(_ index: Int) throws(OperatorError) -> [Int] {
        let tensor = try inputs.tensor(index)
        guard tensor.rank == 1, let values = tensor.elements(as: Int.self) else {
          throw .mismatch("input \(index) is \(tensor.dataType)\(tensor.shape); expected int64 of one axis")
        }
        return values
      }
      let source = try tokens(0)
      var current = try tokens(1)
      let position = try inputs.tensor(2)
      if inputs.count > 3, inputs[3] != nil {
        let predicted = try tokens(3)
        let start = try position.singleInteger("prev_suffix_match_idx")
        guard start >= 0, start <= source.count, predicted.count == source.count + 1 - start else {
          throw .mismatch(
            "prev_suffix_match_idx is \(start), with \(source.count) source and \(predicted.count) predicted tokens; "
              + "expected 0 to \(source.count), and one token for each of the rest and one more")
        }
        let equal = zip(predicted, source[start...]).prefix { $0 == $1 }.count
        current += predicted[...equal]
      }
      let found = try BifurcationDetector.continuation(of: current, in: source, sizes, context)
      guard position.count == 1 else {
        throw .mismatch("prev_suffix_match_idx is \(position.shape); expected one element")
      }
      return [.tensor(Tensor(current)), .tensor(Tensor([found], shape: position.shape))]
    }
  }

  /// Where the source goes on behind the last tokens, if those stand there once; -1 otherwise. Longer runs of last
  /// tokens are tried as long as shorter ones stand there.
  private static func continuation(
    of tokens: [Int], in source: [Int], _ sizes: ClosedRange<Int>, _ context: any EagerContext
  ) throws(OperatorError) -> Int {
    var found = -1
    for size in sizes {
      if size > tokens.count { break }
      try context.check(allocating: 0)
      let tail = tokens.suffix(size)
      func first(from start: Int) -> Int? {
        guard start <= source.count - size else { return nil }
        return (start...source.count - size).first { source[$0..<$0 + size].elementsEqual(tail) }
      }
      guard let match = first(from: 0) else { break }
      found = match + size
      if found >= source.count { break }
      if first(from: match + 1) != nil { found = -1 }
    }
    return found
  }
}
