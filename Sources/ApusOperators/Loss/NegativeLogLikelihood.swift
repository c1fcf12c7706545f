// The negative log-likelihood of classes, as two loss operators need it.

import ApusGraph
import ApusTensor

/// The attributes, and the loss of log-probabilities [N, C, d...] for targets [N, d...].
struct NegativeLogLikelihood: Sendable {
  enum Reduction: Sendable { case none, sum, mean }

  let reduction: Reduction
  /// The target whose loss does not count.
  let ignoredTarget: Int?

  static let attributes: [AttributeSchema] = [.optional("ignore_index", .int), .string("reduction", default: "mean")]

  init(_ context: some OperatorContext) throws(OperatorError) {
    switch try context.string("reduction", oneOf: ["none", "sum", "mean"]) {
    case "none": reduction = .none
    case "sum": reduction = .sum
    default: reduction = .mean
    }
    ignoredTarget = context.optionalInt("ignore_index")
  }

  /// Checks the shapes and returns that of the loss.
  func lossShape(_ context: InferenceContext) throws(OperatorError) -> [Dim]? {
    let (scores, target) = (context.shape(0), context.shape(1))
    if let scores {
      guard scores.count >= 2 else { throw .mismatch("the scores are \(scores.text); expected a batch and classes") }
      if let weight = context.shape(2), weight.count != 1 || weight[0].isSurelyDifferent(from: scores[1]) {
        throw .mismatch("the weights are \(weight.text); expected [\(scores[1])]")
      }
      let expected = [scores[0]] + scores[2...]
      if let target,
        target.count != expected.count || zip(target, expected).contains(where: { $0.isSurelyDifferent(from: $1) })
      {
        throw .mismatch("the targets are \(target.text); expected \(expected.text)")
      }
      return reduction == .none ? expected : []
    }
    return reduction == .none ? target : []
  }

  /// Inputs: log-probabilities, targets, weights; output: the loss. `shape` is that of the log-probabilities.
  func step<Element: Real>(_ type: Element.Type, shape: Shape, target: DataType, hasWeights: Bool) -> Step {
    switch target {
    case .int32: step(type, Int32.self, shape, hasWeights)
    default: step(type, Int64.self, shape, hasWeights)
    }
  }

  /// Losses that a part adds up.
  private static let sumLength = 16_384

  private func step<Element: Real, Target: FixedWidthInteger & BitwiseCopyable & SendableMetatype>(
    _ type: Element.Type, _ target: Target.Type, _ shape: Shape, _ hasWeights: Bool
  ) -> Step {
    let (classes, inner) = (shape[1], shape.count(of: 2..<shape.rank))
    let partition = Partition(shape[0] * inner, sumLength: Self.sumLength)
    let reduction = reduction
    // Each part leaves its sum of losses and of weights; the second phase adds them up in order.
    return Step(phases: [partition.parts, reduction == .none ? 0 : 1], scratchBytes: partition.parts * 16) {
      run, phase, part in
      let partial = run.scratch.assumingMemoryBound(to: Double.self)
      if phase == 1 {
        var (loss, weight) = (0.0, 0.0)
        for index in 0..<partition.parts {
          loss += partial[2 &* index]
          weight += partial[2 &* index &+ 1]
        }
        run.output(0, as: Element.self)[0] = Element(reduction == .mean ? loss / weight : loss)
        return
      }
      let (probabilities, targets) = (run.input(0, as: Element.self), run.input(1, as: Target.self))
      var (sum, weights) = (0.0, 0.0)
      for index in partition.range(part) {
        let chosen = Int(truncatingIfNeeded: targets[index])
        var (loss, weight): (Element, Element) = (0, 0)
        if chosen != ignoredTarget {
          guard chosen >= 0, chosen < classes else {
            run.fail("target \(chosen) at element \(index) is no class; expected 0 to \(classes - 1)")
            return
          }
          let (image, position) = index.quotientAndRemainder(dividingBy: inner)
          weight = hasWeights ? run.input(2, as: Element.self)[chosen] : 1
          loss = -probabilities[(image &* classes &+ chosen) &* inner &+ position] * weight
        }
        if reduction == .none {
          run.output(0, as: Element.self)[index] = loss
        } else {
          sum += Double(loss)
          weights += Double(weight)
        }
      }
      partial[2 &* part] = sum
      partial[2 &* part &+ 1] = weights
    }
  }
}
