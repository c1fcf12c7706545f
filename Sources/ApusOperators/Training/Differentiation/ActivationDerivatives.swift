// Derivatives of the activations, one for each of the table. At the kink of a rectifier it is the left one.

import ApusGraph
import ApusTensor

/// The rules of the operators that are activations and nothing else. That of Clip stands with other operators of
/// several inputs.
let activationDerivatives: DerivativeTable = Activation.Kind.allCases.reduce(into: [:]) { table, kind in
  if let name = kind.operator?.name, let rule = kind.derivative { table[name] = rule }
}

extension Activation.Kind {
  /// How gradients pass through the operator of the activation; nil where it has none, or its inputs have derivatives
  /// too.
  fileprivate var derivative: DerivativeRule? {
    switch self {
    case .none:
      .gradients { w, node throws(OperatorError) in [try node.gradient()] }
    case .tanh:
      slope { w, _, y, _ throws(OperatorError) in try w.add(w.negate(w.square(y)), 1) }
    case .sigmoid:
      slope { w, _, y, _ throws(OperatorError) in try w.multiply(y, w.add(w.negate(y), 1)) }
    case .softplus:
      slope { w, x, _, _ throws(OperatorError) in try w.apply("Sigmoid", [x]) }
    case .softsign:
      slope { w, x, _, _ throws(OperatorError) in
        try w.square(w.apply("Reciprocal", [w.add(w.apply("Abs", [x]), 1)]))
      }
    case .relu:
      .gradients { w, node throws(OperatorError) in
        [try w.keep(node.gradient(), where: w.test("Greater", node.required(0), 0))]
      }
    case .thresholdedRelu:
      .gradients { w, node throws(OperatorError) in
        [try w.keep(node.gradient(), where: w.test("Greater", node.required(0), Double(node.float("alpha"))))]
      }
    case .leakyRelu:
      .gradients { w, node throws(OperatorError) in
        let g = try node.gradient()
        let left = try w.scale(g, Double(node.float("alpha")))
        return [try w.choose(w.test("Greater", node.required(0), 0), g, left)]
      }
    case .elu:
      slope { w, x, y, node throws(OperatorError) in
        try w.rectified(x, right: 1, left: w.add(y, Double(node.float("alpha"))))
      }
    case .selu:
      slope { w, x, y, node throws(OperatorError) in
        let (alpha, gamma) = (Double(try node.float("alpha")), Double(try node.float("gamma")))
        return try w.rectified(x, right: gamma, left: w.add(y, alpha * gamma))
      }
    case .celu:
      slope { w, x, y, node throws(OperatorError) in
        try w.rectified(x, right: 1, left: w.add(w.scale(y, 1 / Double(node.float("alpha"))), 1))
      }
    case .hardSigmoid:
      .gradients { w, node throws(OperatorError) in
        let (g, y) = (try node.gradient(), try w.output(0, of: node))
        let isInside = try w.apply("And", [w.test("Greater", y, 0), w.test("Less", y, 1)])
        return [try w.keep(w.scale(g, Double(node.float("alpha"))), where: isInside)]
      }
    case .hardSwish:
      slope { w, x, _, _ throws(OperatorError) in
        let middle = try w.add(w.scale(x, 1.0 / 3), 0.5)
        let right = try w.choose(w.test("Greater", x, 3), w.scalar(1, like: x), middle)
        return try w.clear(right, where: w.test("LessOrEqual", x, -3))
      }
    case .silu:
      .expansion { w, node throws(OperatorError) in
        let x = try node.required(0)
        return [try w.multiply(x, w.apply("Sigmoid", [w.scale(x, Double(node.float("alpha")))]))]
      }
    case .mish:
      .expansion { w, node throws(OperatorError) in
        let x = try node.required(0)
        return [try w.multiply(x, w.apply("Tanh", [w.apply("Softplus", [x])]))]
      }
    case .gelu, .geluTanh:
      .expansion { w, node throws(OperatorError) in
        let x = try node.required(0)
        let curve: ValueID
        if try node.string("approximate") == "tanh" {
          let cubic = try w.multiply(x, w.add(w.scale(w.square(x), 0.044715), 1))
          curve = try w.apply("Tanh", [w.scale(cubic, 0.797_884_560_802_865_4)])
        } else {
          curve = try w.apply("Erf", [w.scale(x, 0.5.squareRoot())])
        }
        return [try w.multiply(w.scale(x, 0.5), w.add(curve, 1))]
      }
    case .clip, .affine, .scaledTanh: nil
    }
  }
}

extension DerivativeWriter {
  /// A number for x > 0, else a value.
  fileprivate mutating func rectified(_ x: ValueID, right: Double, left: ValueID) throws(OperatorError) -> ValueID {
    try choose(test("Greater", x, 0), scalar(right, like: x), left)
  }
}
