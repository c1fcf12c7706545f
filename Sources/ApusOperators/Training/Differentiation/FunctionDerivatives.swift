// Derivatives of functions of one tensor, element by element. At the kink of a rectifier it is the left one.

import ApusGraph
import ApusTensor

let functionDerivatives: DerivativeTable = [
  "Identity": .gradients { w, node throws(OperatorError) in [try node.gradient()] },
  "Neg": .gradients { w, node throws(OperatorError) in [try w.negate(node.gradient())] },
  "Abs": slope { w, x, _, _ throws(OperatorError) in try w.apply("Sign", [x]) },
  "Sqrt": .gradients { w, node throws(OperatorError) in
    [try w.divide(w.scale(node.gradient(), 0.5), w.output(0, of: node))]
  },
  "Reciprocal": slope { w, _, y, _ throws(OperatorError) in try w.negate(w.square(y)) },
  "Exp": slope { _, _, y, _ in y },
  "Log": .gradients { w, node throws(OperatorError) in [try w.divide(node.gradient(), node.required(0))] },
  "Sin": slope { w, x, _, _ throws(OperatorError) in try w.apply("Cos", [x]) },
  "Cos": slope { w, x, _, _ throws(OperatorError) in try w.negate(w.apply("Sin", [x])) },
  "Tan": slope { w, _, y, _ throws(OperatorError) in try w.add(w.square(y), 1) },
  "Asin": slope { w, x, _, _ throws(OperatorError) in try w.inverseRoot(w.add(w.negate(w.square(x)), 1)) },
  "Acos": slope { w, x, _, _ throws(OperatorError) in try w.negate(w.inverseRoot(w.add(w.negate(w.square(x)), 1))) },
  "Atan": slope { w, x, _, _ throws(OperatorError) in try w.apply("Reciprocal", [w.add(w.square(x), 1)]) },
  "Sinh": slope { w, x, _, _ throws(OperatorError) in try w.apply("Cosh", [x]) },
  "Cosh": slope { w, x, _, _ throws(OperatorError) in try w.apply("Sinh", [x]) },
  "Tanh": slope { w, _, y, _ throws(OperatorError) in try w.add(w.negate(w.square(y)), 1) },
  "Asinh": slope { w, x, _, _ throws(OperatorError) in try w.inverseRoot(w.add(w.square(x), 1)) },
  "Acosh": slope { w, x, _, _ throws(OperatorError) in try w.inverseRoot(w.add(w.square(x), -1)) },
  "Atanh": slope { w, x, _, _ throws(OperatorError) in
    try w.apply("Reciprocal", [w.add(w.negate(w.square(x)), 1)])
  },
  "Erf": slope { w, x, _, _ throws(OperatorError) in
    try w.scale(w.apply("Exp", [w.negate(w.square(x))]), 1.128_379_167_095_512_6)
  },
  "Sigmoid": slope { w, _, y, _ throws(OperatorError) in try w.multiply(y, w.add(w.negate(y), 1)) },
  "Softplus": slope { w, x, _, _ throws(OperatorError) in try w.apply("Sigmoid", [x]) },
  "Softsign": slope { w, x, _, _ throws(OperatorError) in
    try w.square(w.apply("Reciprocal", [w.add(w.apply("Abs", [x]), 1)]))
  },
  "Relu": .gradients { w, node throws(OperatorError) in
    [try w.keep(node.gradient(), where: w.test("Greater", node.required(0), 0))]
  },
  "ThresholdedRelu": .gradients { w, node throws(OperatorError) in
    [try w.keep(node.gradient(), where: w.test("Greater", node.required(0), Double(node.float("alpha"))))]
  },
  "LeakyRelu": .gradients { w, node throws(OperatorError) in
    let g = try node.gradient()
    let left = try w.scale(g, Double(node.float("alpha")))
    return [try w.choose(w.test("Greater", node.required(0), 0), g, left)]
  },
  "Elu": slope { w, x, y, node throws(OperatorError) in
    try w.rectified(x, right: 1, left: w.add(y, Double(node.float("alpha"))))
  },
  "Selu": slope { w, x, y, node throws(OperatorError) in
    let (alpha, gamma) = (Double(try node.float("alpha")), Double(try node.float("gamma")))
    return try w.rectified(x, right: gamma, left: w.add(y, alpha * gamma))
  },
  "Celu": slope { w, x, y, node throws(OperatorError) in
    try w.rectified(x, right: 1, left: w.add(w.scale(y, 1 / Double(node.float("alpha"))), 1))
  },
  "Shrink": .gradients { w, node throws(OperatorError) in
    let magnitude = try w.apply("Abs", [node.required(0)])
    return [try w.keep(node.gradient(), where: w.test("Greater", magnitude, Double(node.float("lambd"))))]
  },
  "HardSigmoid": .gradients { w, node throws(OperatorError) in
    let (g, y) = (try node.gradient(), try w.output(0, of: node))
    let isInside = try w.apply("And", [w.test("Greater", y, 0), w.test("Less", y, 1)])
    return [try w.keep(w.scale(g, Double(node.float("alpha"))), where: isInside)]
  },
  "HardSwish": slope { w, x, _, _ throws(OperatorError) in
    let middle = try w.add(w.scale(x, 1.0 / 3), 0.5)
    let right = try w.choose(w.test("Greater", x, 3), w.scalar(1, like: x), middle)
    return try w.clear(right, where: w.test("LessOrEqual", x, -3))
  },
  "Swish": .expansion { w, node throws(OperatorError) in
    let x = try node.required(0)
    return [try w.multiply(x, w.apply("Sigmoid", [w.scale(x, Double(node.float("alpha")))]))]
  },
  "SwiGLU": .expansion { w, node throws(OperatorError) in
    let a = try node.required(0)
    let gate = try w.multiply(a, w.apply("Sigmoid", [w.scale(a, Double(node.float("alpha")))]))
    return [try w.multiply(gate, node.required(1))]
  },
  "Mish": .expansion { w, node throws(OperatorError) in
    let x = try node.required(0)
    return [try w.multiply(x, w.apply("Tanh", [w.apply("Softplus", [x])]))]
  },
  "Gelu": .expansion { w, node throws(OperatorError) in
    let x = try node.required(0)
    let curve: ValueID
    if try node.string("approximate") == "tanh" {
      let cubic = try w.multiply(x, w.add(w.scale(w.square(x), 0.044715), 1))
      curve = try w.apply("Tanh", [w.scale(cubic, 0.797_884_560_802_865_4)])
    } else {
      curve = try w.apply("Erf", [w.scale(x, 0.5.squareRoot())])
    }
    return [try w.multiply(w.scale(x, 0.5), w.add(curve, 1))]
  },
  "Cast": .gradients { w, node throws(OperatorError) in
    [try w.cast(node.gradient(), to: w.type(node.required(0)))]
  },
  "CastLike": .gradients { w, node throws(OperatorError) in
    [try w.cast(node.gradient(), to: w.type(node.required(0)))]
  },
  "Dropout": .gradients(dropoutGradients),
  "Ceil": .zero, "Floor": .zero, "Round": .zero, "Sign": .zero, "Hardmax": .zero,
  "ConstantOfShape": .zero, "EyeLike": .zero, "Bernoulli": .zero, "RandomNormalLike": .zero, "RandomUniformLike": .zero,
]

/// The rule of a function: its derivative from x, y and the attributes.
private func slope(
  _ derivative:
    @escaping @Sendable (inout DerivativeWriter, ValueID, ValueID, Application) throws(OperatorError) -> ValueID
) -> DerivativeRule {
  .gradients { w, node throws(OperatorError) in
    let slope = try derivative(&w, node.required(0), w.output(0, of: node), node)
    return [try w.multiply(node.gradient(), slope)]
  }
}

extension DerivativeWriter {
  fileprivate mutating func inverseRoot(_ value: ValueID) throws(OperatorError) -> ValueID {
    try apply("Reciprocal", [apply("Sqrt", [value])])
  }

  /// A number for x > 0, else a value.
  fileprivate mutating func rectified(_ x: ValueID, right: Double, left: ValueID) throws(OperatorError) -> ValueID {
    try choose(test("Greater", x, 0), scalar(right, like: x), left)
  }
}

/// In training what the mask kept was divided by 1 - ratio.
private func dropoutGradients(_ w: inout DerivativeWriter, _ node: Application) throws(OperatorError) -> [ValueID?] {
  let g = try node.gradient()
  guard let isTraining = node.input(2) else { return [g] }
  if let constant = w.constant(isTraining)?.integers, constant.allSatisfy({ $0 == 0 }) { return [g] }
  var kept = try w.scalar(0.5, like: g)
  if let ratio = node.input(1) {
    kept = try w.add(w.negate(w.cast(w.reshape(ratio, w.ints([])), to: w.type(g))), 1)
  }
  // Outside of training nothing is dropped and nothing divided.
  let divisor = try w.choose(w.reshape(isTraining, w.ints([])), kept, w.scalar(1, like: g))
  return [try w.keep(w.divide(g, divisor), where: w.output(1, of: node))]
}
