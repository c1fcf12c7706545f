// Losses as the arithmetic that they are.

import ApusGraph
import ApusTensor

let lossDerivatives: DerivativeTable = [
  "NegativeLogLikelihoodLoss": .expansion { w, node throws(OperatorError) in
    [try negativeLogLikelihood(&w, node, of: node.required(0))]
  },
  "SoftmaxCrossEntropyLoss": .expansion { w, node throws(OperatorError) in
    let logarithms = try w.apply("LogSoftmax", [node.required(0)], [("axis", .int(1))])
    return [try negativeLogLikelihood(&w, node, of: logarithms), logarithms]
  },
]

/// The loss of log-probabilities [N, C, d…] for the targets and weights of a node.
private func negativeLogLikelihood(
  _ w: inout DerivativeWriter, _ node: Application, of logarithms: ValueID
) throws(OperatorError) -> ValueID {
  let loss = try NegativeLogLikelihood(node)
  var target = try node.required(1)
  var isIgnored: ValueID?
  if let ignored = loss.ignoredTarget {
    let number = w.constant(Tensor(scalar: ignored))
    let mask = try w.apply("Equal", [w.cast(target, to: .int64), number])
    target = try w.choose(mask, w.constant(Tensor(scalar: 0)), w.cast(target, to: .int64))
    isIgnored = mask
  }
  let places = try w.unsqueeze(target, [1])
  let picked = try w.apply("GatherElements", [logarithms, places], [("axis", .int(1))])
  var losses = try w.negate(w.apply("Squeeze", [picked, w.ints([1])]))
  var weights: ValueID?
  if let given = node.input(2) { weights = try w.apply("Gather", [given, target]) }
  if let mask = isIgnored {
    let all: ValueID
    if let weights { all = weights } else { all = try w.ones(like: losses) }
    weights = try w.clear(all, where: mask)
  }
  if let weights { losses = try w.multiply(losses, weights) }
  switch loss.reduction {
  case .none: return losses
  case .sum: return try w.total(losses)
  case .mean:
    if let weights { return try w.divide(w.total(losses), w.total(weights)) }
    return try w.apply("ReduceMean", [losses], [("keepdims", .int(0))])
  }
}
