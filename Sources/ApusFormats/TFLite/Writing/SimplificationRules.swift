// The rules of `TFLiteSimplification`: activations and arithmetic.

import ApusGraph
import ApusTensor

extension LayerBuilder {
  /// What the schema and the facts say of a node whose operands are values of the graph.
  func facts(_ node: Node) throws(OperatorError) -> NodeFacts {
    let schema = try builder.registry.require(node.op).schema
    return builder.graph.facts(of: node, schema)
  }

  func operand(_ node: Node, _ input: Int = 0) throws(OperatorError) -> ValueID {
    guard input < node.inputs.count, let value = node.inputs[input] else {
      throw .invalid("input \(input) is missing")
    }
    return value
  }

  /// An operator on a value and a number of its type.
  func emit(_ op: String, _ value: ValueID, _ number: Double) throws(OperatorError) -> ValueID {
    try emit(op, [value, try scalar(number, like: value)])
  }
}

extension TFLiteSimplification {
  // MARK: - Activations

  static let activationRules: [String: Rule] = [
    "HardSigmoid": { (node, layers) throws(OperatorError) in
      let facts = try layers.facts(node)
      let line = try layers.emit(
        "Add", layers.emit("Mul", layers.operand(node), Double(facts.float("alpha"))), Double(facts.float("beta")))
      return [try layers.clip(line, 0, 1)]
    },
    "Softplus": { (node, layers) throws(OperatorError) in
      // max(x, 0) + log(1 + exp(-|x|)), which never overflows.
      let x = try layers.operand(node)
      let small = try layers.emit("Exp", [layers.emit("Neg", [layers.emit("Abs", [x])])])
      let bend = try layers.emit("Log", [layers.emit("Add", small, 1)])
      return [try layers.emit("Add", [layers.emit("Relu", [x]), bend])]
    },
    "Softsign": { (node, layers) throws(OperatorError) in
      let x = try layers.operand(node)
      return [try layers.emit("Div", [x, layers.emit("Add", layers.emit("Abs", [x]), 1)])]
    },
    "Selu": { (node, layers) throws(OperatorError) in
      let (facts, x) = (try layers.facts(node), try layers.operand(node))
      let (alpha, gamma) = (Double(try facts.float("alpha")), Double(try facts.float("gamma")))
      return [try layers.emit("Mul", bent(x, alpha, layers), gamma)]
    },
    "Elu": { (node, layers) throws(OperatorError) in
      let alpha = try layers.facts(node).float("alpha")
      return alpha == 1 ? nil : [try bent(layers.operand(node), Double(alpha), layers)]
    },
    "Erf": { (node, layers) throws(OperatorError) in [try errorFunction(layers.operand(node), layers)] },
    "Swish": { (node, layers) throws(OperatorError) in
      let (facts, x) = (try layers.facts(node), try layers.operand(node))
      let alpha = facts.optionalFloat("alpha") ?? 1
      let scaled = alpha == 1 ? x : try layers.emit("Mul", x, Double(alpha))
      return [try layers.emit("Mul", [x, layers.emit("Sigmoid", [scaled])])]
    },
    "Shrink": { (node, layers) throws(OperatorError) in
      let (facts, x) = (try layers.facts(node), try layers.operand(node))
      let (bias, bound) = (Double(try facts.float("bias")), Double(try facts.float("lambd")))
      let zero = try layers.emit("Mul", x, 0)
      let upper = try layers.emit("Where", [layers.emit("Greater", x, bound), layers.emit("Sub", x, bias), zero])
      return [try layers.emit("Where", [layers.emit("Less", x, -bound), layers.emit("Add", x, bias), upper])]
    },
    "Clip": clip, "Dropout": dropout,
  ]

  /// x where it is positive, else alpha · (exp(x) - 1).
  private static func bent(_ x: ValueID, _ alpha: Double, _ layers: LayerBuilder) throws(OperatorError) -> ValueID {
    let low = try layers.emit("Elu", [layers.emit("Min", x, 0)], [("alpha", .float(1))])
    return try layers.emit("Add", [layers.emit("Max", x, 0), layers.emit("Mul", low, alpha)])
  }

  /// Abramowitz and Stegun, formula 7.1.26: at most 1.5e-7 off.
  private static func errorFunction(_ x: ValueID, _ layers: LayerBuilder) throws(OperatorError) -> ValueID {
    let size = try layers.emit("Abs", [x])
    let t = try layers.emit("Reciprocal", [layers.emit("Add", layers.emit("Mul", size, 0.3275911), 1)])
    var sum = try layers.emit("Mul", t, 1.061405429)
    for coefficient in [-1.453152027, 1.421413741, -0.284496736, 0.254829592] {
      sum = try layers.emit("Mul", [layers.emit("Add", sum, coefficient), t])
    }
    let bell = try layers.emit("Exp", [layers.emit("Neg", [layers.emit("Mul", [x, x])])])
    let tail = try layers.emit("Mul", [sum, bell])
    return try layers.emit("Mul", [layers.emit("Sign", [x]), layers.emit("Sub", [layers.scalar(1, like: x), tail])])
  }

  private static let clip: Rule = { (node, layers) throws(OperatorError) in
    let x = try layers.operand(node)
    func bound(_ input: Int) -> ValueID? { input < node.inputs.count ? node.inputs[input] : nil }
    let numbers = [1, 2].map { layers.constant(bound($0))?.elements(as: Float.self)?.first }
    let absent = [1, 2].map { bound($0) == nil }
    // RELU and its kin.
    let known: [(Float?, Float?)] = [(0, nil), (-1, 1), (0, 6), (0, 1)]
    for (low, high) in known
    where layers.type(x) == .float32 && absent[0] == (low == nil) && absent[1] == (high == nil)
      && (low == nil || numbers[0] == low) && (high == nil || numbers[1] == high)
    { return nil }
    var result = x
    if let low = bound(1) { result = try layers.emit("Max", [result, low]) }
    if let high = bound(2) { result = try layers.emit("Min", [result, high]) }
    return [result]
  }

  private static let dropout: Rule = { (node, layers) throws(OperatorError) in
    let isTraining = node.inputs.count > 2 && node.inputs[2] != nil
    if isTraining, layers.constant(node.inputs[2])?.integers?.first != 0 {
      throw .unsupported("a Dropout that trains is not written")
    }
    if node.outputs.count > 1, node.outputs[1] != nil { throw .unsupported("the mask of a Dropout is not written") }
    return [try layers.operand(node)]
  }

  // MARK: - Arithmetic

  static let arithmeticRules: [String: Rule] = [
    "Reciprocal": { (node, layers) throws(OperatorError) in
      let x = try layers.operand(node)
      return [try layers.emit("Div", [layers.scalar(1, like: x), x])]
    },
    "Sum": chain("Add"), "Max": chain("Max"), "Min": chain("Min"),
    "Mean": { (node, layers) throws(OperatorError) in
      guard let sum = try chain("Add")(node, layers)?.first ?? node.inputs.first ?? nil else { return nil }
      return [try layers.emit("Mul", sum, 1 / Double(max(node.inputs.count, 1)))]
    },
    "Xor": { (node, layers) throws(OperatorError) in
      [try layers.emit("Not", [layers.emit("Equal", [layers.operand(node), layers.operand(node, 1)])])]
    },
    "Tan": { (node, layers) throws(OperatorError) in
      let x = try layers.operand(node)
      return [try layers.emit("Div", [layers.emit("Sin", [x]), layers.emit("Cos", [x])])]
    },
    "Sinh": { (node, layers) throws(OperatorError) in try hyperbolic(node, layers, "Sub") },
    "Cosh": { (node, layers) throws(OperatorError) in try hyperbolic(node, layers, "Add") },
    "Asinh": { (node, layers) throws(OperatorError) in
      // The sign apart: sums of numbers of both signs lose digits.
      let x = try layers.operand(node)
      let size = try layers.emit("Abs", [x])
      let root = try layers.emit("Sqrt", [layers.emit("Add", layers.emit("Mul", [x, x]), 1)])
      return [
        try layers.emit("Mul", [layers.emit("Sign", [x]), layers.emit("Log", [layers.emit("Add", [size, root])])])
      ]
    },
    "Acosh": { (node, layers) throws(OperatorError) in
      let x = try layers.operand(node)
      let root = try layers.emit("Sqrt", [layers.emit("Sub", layers.emit("Mul", [x, x]), 1)])
      return [try layers.emit("Log", [layers.emit("Add", [x, root])])]
    },
    "Atanh": { (node, layers) throws(OperatorError) in
      let x = try layers.operand(node)
      let one = try layers.scalar(1, like: x)
      let ratio = try layers.emit("Div", [layers.emit("Add", [one, x]), layers.emit("Sub", [one, x])])
      return [try layers.emit("Mul", layers.emit("Log", [ratio]), 0.5)]
    },
    "IsNaN": { (node, layers) throws(OperatorError) in
      let x = try layers.operand(node)
      return [try layers.emit("Not", [layers.emit("Equal", [x, x])])]
    },
    "Mod": { (node, layers) throws(OperatorError) in
      guard node.attributes.int("fmod") ?? 0 != 0 else { return nil }
      // With the sign of the dividend: what is left of the sizes.
      let (x, y) = (try layers.operand(node), try layers.operand(node, 1))
      let rest = try layers.emit("Mod", [layers.emit("Abs", [x]), layers.emit("Abs", [y])])
      return [try layers.emit("Where", [layers.emit("Less", x, 0), layers.emit("Neg", [rest]), rest])]
    },
  ]

  /// An operator of any number of operands as one of two.
  private static func chain(_ op: String) -> Rule {
    { (node, layers) throws(OperatorError) in
      if node.inputs.count == 2, node.op.name == op { return nil }
      var result = try layers.operand(node)
      for input in node.inputs.indices.dropFirst() {
        result = try layers.emit(op, [result, layers.operand(node, input)])
      }
      return [result]
    }
  }

  private static func hyperbolic(
    _ node: Node, _ layers: LayerBuilder, _ op: String
  ) throws(OperatorError) -> [ValueID?] {
    let x = try layers.operand(node)
    let pair = try layers.emit(op, [layers.emit("Exp", [x]), layers.emit("Exp", [layers.emit("Neg", [x])])])
    return [try layers.emit("Mul", pair, 0.5)]
  }
}
