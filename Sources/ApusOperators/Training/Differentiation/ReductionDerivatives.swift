// Derivatives of reductions, of running sums and of softmax.

import ApusGraph
import ApusTensor

let reductionDerivatives: DerivativeTable = [
  "ReduceSum": .gradients { w, node throws(OperatorError) in
    [try w.expand(w.spread(node.gradient(), of: node), like: node.required(0))]
  },
  "ReduceMean": .gradients { w, node throws(OperatorError) in
    let (g, x) = (try node.gradient(), try node.required(0))
    return [try w.expand(w.spread(w.divide(g, w.ratio(x, g)), of: node), like: x)]
  },
  "ReduceSumSquare": .gradients { w, node throws(OperatorError) in
    [try w.multiply(w.spread(w.scale(node.gradient(), 2), of: node), node.required(0))]
  },
  "ReduceL1": .gradients { w, node throws(OperatorError) in
    [try w.multiply(w.spread(node.gradient(), of: node), w.apply("Sign", [node.required(0)]))]
  },
  "ReduceL2": .gradients { w, node throws(OperatorError) in
    // 0 where the norm is.
    let y = try w.output(0, of: node)
    let share = try w.clear(w.divide(node.gradient(), y), where: w.test("Equal", y, 0))
    return [try w.multiply(w.spread(share, of: node), node.required(0))]
  },
  "ReduceLogSum": .gradients { w, node throws(OperatorError) in
    let sum = try w.apply("Exp", [w.output(0, of: node)])
    return [try w.expand(w.spread(w.divide(node.gradient(), sum), of: node), like: node.required(0))]
  },
  "ReduceLogSumExp": .gradients { w, node throws(OperatorError) in
    let y = try w.spread(w.output(0, of: node), of: node)
    let weights = try w.apply("Exp", [w.subtract(node.required(0), y)])
    return [try w.multiply(w.spread(node.gradient(), of: node), weights)]
  },
  "ReduceMax": .gradients(extremeGradient),
  "ReduceMin": .gradients(extremeGradient),
  "ReduceProd": .gradients(productGradient),
  "CumSum": .gradients { w, node throws(OperatorError) in
    let isReversed = try node.bool("reverse")
    return [
      try w.apply(
        "CumSum", [node.gradient(), node.required(1)],
        [("exclusive", .int(node.int("exclusive"))), ("reverse", .int(isReversed ? 0 : 1))])
    ]
  },
  "Softmax": .gradients { w, node throws(OperatorError) in
    let y = try w.output(0, of: node)
    let share = try w.multiply(node.gradient(), y)
    return [try w.subtract(share, w.multiply(y, w.reduce("ReduceSum", share, [node.int("axis")])))]
  },
  "LogSoftmax": .gradients { w, node throws(OperatorError) in
    let g = try node.gradient()
    let probabilities = try w.apply("Exp", [w.output(0, of: node)])
    return [try w.subtract(g, w.multiply(probabilities, w.reduce("ReduceSum", g, [node.int("axis")])))]
  },
]

extension DerivativeWriter {
  /// The result of a reduction, or its gradient, with the reduced axes as ones, so that it broadcasts to the input.
  fileprivate mutating func spread(_ value: ValueID, of node: Application) throws(OperatorError) -> ValueID {
    // Without axes all are reduced, or none.
    guard try !node.bool("keepdims"), let axes = node.input(1) else { return value }
    return try apply("Unsqueeze", [value, axes])
  }
}

/// The largest, or smallest, element of each group gets the gradient; equal ones share it evenly.
private func extremeGradient(_ w: inout DerivativeWriter, _ node: Application) throws(OperatorError) -> [ValueID?] {
  let (g, x) = (try node.gradient(), try node.required(0))
  let y = try w.spread(w.output(0, of: node), of: node)
  let isBest = try w.cast(w.apply("Equal", [x, y]), to: w.type(x))
  let counts = try w.apply("ReduceSum", [isBest, node.input(1)], keepingAxes(of: node))
  return [try w.multiply(isBest, w.divide(w.spread(g, of: node), counts))]
}

/// The product of the other elements: y / x where no element is 0; at the only 0 of a group the product of the rest.
private func productGradient(_ w: inout DerivativeWriter, _ node: Application) throws(OperatorError) -> [ValueID?] {
  let (g, x) = (try node.gradient(), try node.required(0))
  let isZero = try w.test("Equal", x, 0)
  let filled = try w.choose(isZero, w.scalar(1, like: x), x)
  let attributes = try keepingAxes(of: node)
  let rest = try w.apply("ReduceProd", [filled, node.input(1)], attributes)
  let zeros = try w.apply("ReduceSum", [w.cast(isZero, to: w.type(x)), node.input(1)], attributes)
  let atZero = try w.keep(rest, where: w.test("Equal", zeros, 1))
  let elsewhere = try w.keep(w.divide(rest, filled), where: w.test("Equal", zeros, 0))
  return [try w.multiply(w.spread(g, of: node), w.choose(isZero, atZero, elsewhere))]
}

/// The attributes of a reduction over the same axes that stay as ones.
private func keepingAxes(of node: Application) throws(OperatorError) -> [(String, AttributeValue)] {
  [("keepdims", .int(1)), ("noop_with_empty_axes", .int(try node.int("noop_with_empty_axes")))]
}
