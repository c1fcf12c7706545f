// The attribute post_transform of the models of ai.onnx.ml, and how two classes are made of one score.
// https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsembleClassifier.html

import ApusGraph
import CApusKernels

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// A function of the scores of one row.
enum PostTransform: String, Sendable, CaseIterable {
  case none = "NONE"
  case softmax = "SOFTMAX"
  case logistic = "LOGISTIC"
  case softmaxZero = "SOFTMAX_ZERO"
  case probit = "PROBIT"

  init(_ context: some OperatorContext) throws(OperatorError) {
    let name = try context.string("post_transform", oneOf: PostTransform.allCases.map(\.rawValue))
    self = PostTransform(rawValue: name) ?? .none
  }

  /// Replaces the scores of a row.
  func apply(_ scores: UnsafeMutablePointer<Double>, _ count: Int) {
    switch self {
    case .none: break
    case .logistic: for index in 0..<count { scores[index] = PostTransform.logistic(scores[index]) }
    case .probit: for index in 0..<count { scores[index] = PostTransform.probit(scores[index]) }
    case .softmax, .softmaxZero:
      var largest = -Double.infinity
      for index in 0..<count { largest = max(largest, scores[index]) }
      var sum = 0.0
      for index in 0..<count {
        // SOFTMAX_ZERO leaves zeros out: a class that nothing speaks for stays at 0.
        let isZero = self == .softmaxZero && abs(scores[index]) <= 1e-7
        scores[index] = isZero ? scores[index] * exp(-largest) : exp(scores[index] - largest)
        sum += scores[index]
      }
      for index in 0..<count { scores[index] = sum == 0 ? 0.5 : scores[index] / sum }
    }
  }

  /// The same for some rows, one behind the other.
  func apply(_ scores: UnsafeMutablePointer<Double>, _ count: Int, rows: Int) {
    if self == .none { return }
    guard self == .softmax else {
      for row in 0..<rows { apply(scores + row &* count, count) }
      return
    }
    for row in 0..<rows {
      let own = scores + row &* count
      var largest = -Double.infinity
      for index in 0..<count { largest = max(largest, own[index]) }
      for index in 0..<count { own[index] -= largest }
    }
    apus_kernels().pointee.exp_f64(rows &* count, scores, scores)
    for row in 0..<rows {
      let own = scores + row &* count
      var sum = 0.0
      for index in 0..<count { sum += own[index] }
      let factor = 1 / sum
      for index in 0..<count { own[index] = sum == 0 ? 0.5 : own[index] * factor }
    }
  }

  /// The position of the largest score of each row, the first if there are several, and the transformation of all.
  /// `scores` are those before it, which keeps their order, except that SOFTMAX_ZERO is looked at afterwards.
  func applyAndFindLargest(
    _ scores: UnsafeMutablePointer<Double>, _ count: Int, rows: Int, classes: UnsafeMutablePointer<Int>
  ) {
    if self == .softmaxZero { apply(scores, count, rows: rows) }
    for row in 0..<rows {
      let own = scores + row &* count
      var best = 0
      for index in 1..<max(count, 1) where own[index] > own[best] { best = index }
      classes[row] = best
    }
    if self != .softmaxZero { apply(scores, count, rows: rows) }
  }

  /// Makes the scores of two classes of the score of the second one, and returns the class. Without transformation the
  /// first gets `1 - score` if scores are probabilities, else `-score`.
  func applyBinary(_ scores: UnsafeMutablePointer<Double>, isProbability: Bool) -> Int {
    let score = scores[0]
    switch self {
    case .none where isProbability, .probit: scores[0] = 1 - score
    default: scores[0] = -score
    }
    scores[1] = score
    let isCentred = self == .probit || (self == .none && isProbability)
    apply(scores, 2)
    return score > (isCentred ? 0.5 : 0) ? 1 : 0
  }

  private static func logistic(_ value: Double) -> Double {
    let half = 1 / (1 + exp(-abs(value)))
    return value < 0 ? 1 - half : half
  }

  /// The inverse of the normal distribution by S. Winitzki's formula for the inverse error function, as other runtimes
  /// have it: within 0.2 % of the exact value. Infinite at 0 and 1, NaN outside of them.
  private static func probit(_ value: Double) -> Double {
    let logarithm = log(4 * value * (1 - value))
    let a = 2 / (Double.pi * 0.147) + 0.5 * logarithm
    let root = (-a + (a * a - logarithm / 0.147).squareRoot()).squareRoot()
    return 1.41421356 * (value < 0.5 ? -root : root)
  }
}
