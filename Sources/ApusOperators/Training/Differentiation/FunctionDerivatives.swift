// Derivatives of functions of one tensor, element by element. Those of activations stand in their own file.

import ApusGraph
import ApusTensor

let functionDerivatives: DerivativeTable = [
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
  "Asinh": slope { w, x, _, _ throws(OperatorError) in try w.inverseRoot(w.add(w.square(x), 1)) },
  "Acosh": slope { w, x, _, _ throws(OperatorError) in try w.inverseRoot(w.add(w.square(x), -1)) },
  "Atanh": slope { w, x, _, _ throws(OperatorError) in
    try w.apply("Reciprocal", [w.add(w.negate(w.square(x)), 1)])
  },
  "Erf": slope { w, x, _, _ throws(OperatorError) in
    try w.scale(w.apply("Exp", [w.negate(w.square(x))]), 1.128_379_167_095_512_6)
  },
  "Shrink": .gradients { w, node throws(OperatorError) in
    let magnitude = try w.apply("Abs", [node.required(0)])
    return [try w.keep(node.gradient(), where: w.test("Greater", magnitude, Double(node.float("lambd"))))]
  },
  "SwiGLU": .expansion { w, node throws(OperatorError) in
    let a = try node.required(0)
    let gate = try w.multiply(a, w.apply("Sigmoid", [w.scale(a, Double(node.float("alpha")))]))
    return [try w.multiply(gate, node.required(1))]
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
func slope(
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
