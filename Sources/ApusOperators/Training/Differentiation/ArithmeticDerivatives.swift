// Derivatives of arithmetic: sums, products, powers, maxima, choices between two.

import ApusGraph
import ApusTensor

let arithmeticDerivatives: DerivativeTable = [
  "Add": .gradients(sumGradients),
  "Sum": .gradients(sumGradients),
  "Sub": .gradients { w, node throws(OperatorError) in
    let g = try node.gradient()
    return try w.broadcasting(node) { w, index throws(OperatorError) in index == 0 ? g : try w.negate(g) }
  },
  "Mul": .gradients { w, node throws(OperatorError) in
    let g = try node.gradient()
    return try w.broadcasting(node) { w, index throws(OperatorError) in try w.multiply(g, node.required(1 - index)) }
  },
  "Div": .gradients { w, node throws(OperatorError) in
    let share = try w.divide(node.gradient(), node.required(1))
    return try w.broadcasting(node) { w, index throws(OperatorError) in
      if index == 0 { return share }
      return try w.negate(w.multiply(share, w.output(0, of: node)))
    }
  },
  "Mod": .gradients { w, node throws(OperatorError) in
    let g = try node.gradient()
    return try w.broadcasting(node) { w, index throws(OperatorError) in
      if index == 0 { return g }
      // y = a - k·b with a whole number k.
      let multiple = try w.subtract(node.required(0), w.output(0, of: node))
      return try w.negate(w.multiply(g, w.apply("Round", [w.divide(multiple, node.required(1))])))
    }
  },
  "Mean": .gradients { w, node throws(OperatorError) in
    let share = try w.scale(node.gradient(), 1 / Double(node.node.inputs.count))
    return try w.broadcasting(node) { _, _ in share }
  },
  "Pow": .gradients(powGradients),
  "Max": .gradients(extremeGradients),
  "Min": .gradients(extremeGradients),
  "Clip": .gradients(clipGradients),
  "PRelu": .gradients { w, node throws(OperatorError) in
    let g = try node.gradient()
    let (x, slope) = (try node.required(0), try node.required(1))
    let isPositive = try w.test("Greater", x, 0)
    return try w.broadcasting(node) { w, index throws(OperatorError) in
      if index == 0 { return try w.choose(isPositive, g, w.multiply(g, slope)) }
      return try w.clear(w.multiply(g, x), where: isPositive)
    }
  },
  "Where": .gradients { w, node throws(OperatorError) in
    let g = try node.gradient()
    let condition = try node.required(0)
    return try w.broadcasting(node) { w, index throws(OperatorError) in
      switch index {
      case 1: try w.keep(g, where: condition)
      case 2: try w.clear(g, where: condition)
      default: nil
      }
    }
  },
]

private func sumGradients(_ w: inout DerivativeWriter, _ node: Application) throws(OperatorError) -> [ValueID?] {
  let g = try node.gradient()
  return try w.broadcasting(node) { _, _ in g }
}

/// x^p: p·x^(p-1), which is 0 for p = 0 at any x; and ln(x)·x^p, which is 0 at x = 0.
private func powGradients(_ w: inout DerivativeWriter, _ node: Application) throws(OperatorError) -> [ValueID?] {
  let g = try node.gradient()
  let x = try node.required(0)
  let given = try node.required(1)
  let type = try w.type(x)
  let p = try w.cast(given, to: type)
  return try w.broadcasting(node) { w, index throws(OperatorError) in
    if index == 0 {
      let slope = try w.multiply(p, w.apply("Pow", [x, w.add(p, -1)]))
      return try w.multiply(g, w.clear(slope, where: w.test("Equal", p, 0)))
    }
    let slope = try w.multiply(w.output(0, of: node), w.apply("Log", [x]))
    return try w.cast(w.multiply(g, w.clear(slope, where: w.test("Equal", x, 0))), to: w.type(given))
  }
}

/// The largest, or smallest, gets the gradient; equal ones share it evenly.
private func extremeGradients(_ w: inout DerivativeWriter, _ node: Application) throws(OperatorError) -> [ValueID?] {
  let g = try node.gradient()
  let y = try w.output(0, of: node)
  let type = try w.type(y)
  var isBest: [ValueID] = []
  for input in node.node.inputs.indices {
    isBest.append(try w.cast(w.apply("Equal", [node.required(input), y]), to: type))
  }
  let share = try w.divide(g, isBest.count == 1 ? isBest[0] : w.apply("Sum", isBest))
  return try w.broadcasting(node) { w, index throws(OperatorError) in try w.multiply(share, isBest[index]) }
}

/// The input gets the gradient from bound to bound, both included; a bound gets it where it takes the place of the
/// input.
private func clipGradients(_ w: inout DerivativeWriter, _ node: Application) throws(OperatorError) -> [ValueID?] {
  let g = try node.gradient()
  let x = try node.required(0)
  var isAbove: ValueID?
  if let high = node.input(2) { isAbove = try w.apply("Greater", [x, high]) }
  var isBelow: ValueID?
  if let low = node.input(1) {
    isBelow = try w.apply("Less", [x, low])
    if let high = node.input(2) {
      // Bounds that cross give the upper one.
      let isCrossed = try w.apply("Greater", [low, high])
      isAbove = try w.apply("Or", [w.apply("Greater", [x, high]), isCrossed])
      isBelow = try w.apply("And", [w.apply("Less", [x, low]), w.apply("Not", [isCrossed])])
    }
  }
  return try w.broadcasting(node) { w, index throws(OperatorError) in
    switch index {
    case 0:
      var inside = g
      for outside in [isBelow, isAbove] {
        if let outside { inside = try w.clear(inside, where: outside) }
      }
      return inside
    default:
      guard let replaced = index == 1 ? isBelow : isAbove else { return nil }
      return try w.keep(g, where: replaced)
    }
  }
}
