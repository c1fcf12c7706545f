// The operators of one element of Math: a table of names, versions, types and functions.
// https://onnx.ai/onnx/operators/ (Abs … ThresholdedRelu). Version 1 had consumed_inputs; later ones added types, but
// for Selu 6 (defaults with more digits) and Erf 13 (no integers any more). ThresholdedRelu 1 was experimental.

import ApusGraph
import ApusTensor

/// An operator that applies one function to every element.
struct UnaryMath: OperatorDefinition {
  let schema: OperatorSchema
  private let function: @Sendable (PrepareContext) throws(OperatorError) -> UnaryFunction
  private let values: (@Sendable (Dim) -> Dim)?

  init(
    _ name: String, _ versions: [Int], _ types: TypeSet, attributes: [AttributeSchema] = [],
    input: String = "X", output: String = "Y", values: (@Sendable (Dim) -> Dim)? = nil,
    _ function: @escaping @Sendable (PrepareContext) throws(OperatorError) -> UnaryFunction
  ) {
    schema = OperatorSchema(
      name, versions: versions, inputs: [.required(input, "T")], outputs: [.required(output, "T")],
      attributes: attributes, types: ["T": types])
    self.function = function
    self.values = values
  }

  init(
    _ name: String, _ versions: [Int], _ types: TypeSet, input: String = "X", output: String = "Y",
    values: (@Sendable (Dim) -> Dim)? = nil, _ function: UnaryFunction
  ) {
    self.init(name, versions, types, input: input, output: output, values: values) { _ throws(OperatorError) in function
    }
  }

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    node.removeLegacyHints()
    if schema.id.name == "Selu" && version == 1 {
      // The defaults of version 1 had fewer digits.
      if node.attributes["alpha"] == nil { node.attributes["alpha"] = .float(1.6732) }
      if node.attributes["gamma"] == nil { node.attributes["gamma"] = .float(1.0507) }
    }
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let shape = context.shape(0)
    let known = values.flatMap { function in
      context.elementwiseValues([0], output: shape) { function($0[0]) }
    }
    context.set(0, context.type(0), shape, values: context.fitting(known, context.type(0)))
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let function = try function(context)
    let type = try context.type(0)
    guard let loop = function.loop(type) else { throw context.unsupportedType(type) }
    return Elementwise.unary(loop, cost: function.cost, name: schema.id.name)
  }
}

let unaryMathOperators: [any OperatorDefinition] = [
  UnaryMath(
    "Abs", [1, 6, 13], .numeric,
    values: { $0.known.flatMap { Int(exactly: $0.magnitude) }.map { Dim($0) } ?? .unknown }, .abs),
  UnaryMath("Neg", [1, 6, 13], .signed + .floats, values: { Dim(0) - $0 }, .neg),
  UnaryMath("Sign", [9, 13], .numeric, input: "input", output: "output", .sign),
  UnaryMath("Ceil", [1, 6, 13], .floats, .ceil),
  UnaryMath("Floor", [1, 6, 13], .floats, .floor),
  UnaryMath("Round", [11, 22], .floats, .round),
  UnaryMath("Sqrt", [1, 6, 13], .floats, .sqrt),
  UnaryMath("Reciprocal", [1, 6, 13], .floats, .reciprocal),
  UnaryMath("Exp", [1, 6, 13], .floats, input: "input", output: "output", .exp),
  UnaryMath("Log", [1, 6, 13], .floats, input: "input", output: "output", .log),
  UnaryMath("Sin", [7, 22], .floats, input: "input", output: "output", .sin),
  UnaryMath("Cos", [7, 22], .floats, input: "input", output: "output", .cos),
  UnaryMath("Tan", [7, 22], .floats, input: "input", output: "output", .tan),
  UnaryMath("Asin", [7, 22], .floats, input: "input", output: "output", .asin),
  UnaryMath("Acos", [7, 22], .floats, input: "input", output: "output", .acos),
  UnaryMath("Atan", [7, 22], .floats, input: "input", output: "output", .atan),
  UnaryMath("Sinh", [9, 22], .floats, input: "input", output: "output", .sinh),
  UnaryMath("Cosh", [9, 22], .floats, input: "input", output: "output", .cosh),
  UnaryMath("Tanh", [1, 6, 13], .floats, input: "input", output: "output", .tanh),
  UnaryMath("Asinh", [9, 22], .floats, input: "input", output: "output", .asinh),
  UnaryMath("Acosh", [9, 22], .floats, input: "input", output: "output", .acosh),
  UnaryMath("Atanh", [9, 22], .floats, input: "input", output: "output", .atanh),
  UnaryMath("Erf", [9, 13], .numeric, input: "input", output: "output", .erf),
  UnaryMath("Sigmoid", [1, 6, 13], .floats, .sigmoid),
  UnaryMath(
    "Relu", [1, 6, 13, 14], .signed + .floats, values: { $0.known.map { Dim(max($0, 0)) } ?? .unknown }, .relu),
  UnaryMath("Softplus", [1, 22], .floats, .softplus),
  UnaryMath("Softsign", [1, 22], .floats, input: "input", output: "output", .softsign),
  UnaryMath("Mish", [18, 22], .floats, .mish),
  UnaryMath("HardSwish", [14, 22], .floats, .hardSwish),
  UnaryMath("Gelu", [20], .floats, attributes: [.string("approximate", default: "none")]) {
    context throws(OperatorError) in
    try context.string("approximate", oneOf: ["none", "tanh"]) == "tanh" ? .geluTanh : .gelu
  },
  UnaryMath(
    "LeakyRelu", [1, 6, 16], .floats, attributes: [.float("alpha", default: 0.01)]
  ) { context throws(OperatorError) in .leakyRelu(alpha: try context.float("alpha")) },
  UnaryMath("Elu", [1, 6, 22], .floats, attributes: [.float("alpha", default: 1)]) { context throws(OperatorError) in
    .elu(alpha: try context.float("alpha"))
  },
  UnaryMath(
    "Selu", [1, 6, 22], .floats,
    attributes: [
      .float("alpha", default: 1.67326319217681884765625), .float("gamma", default: 1.05070102214813232421875),
    ]
  ) { context throws(OperatorError) in .selu(alpha: try context.float("alpha"), gamma: try context.float("gamma")) },
  UnaryMath("Celu", [12, 28], .floats, attributes: [.float("alpha", default: 1)]) { context throws(OperatorError) in
    .celu(alpha: try context.float("alpha"))
  },
  UnaryMath(
    "HardSigmoid", [1, 6, 22], .floats, attributes: [.float("alpha", default: 0.2), .float("beta", default: 0.5)]
  ) { context throws(OperatorError) in .hardSigmoid(alpha: try context.float("alpha"), beta: try context.float("beta"))
  },
  UnaryMath(
    "ThresholdedRelu", [1, 10, 22], .floats, attributes: [.float("alpha", default: 1)]
  ) { context throws(OperatorError) in .thresholdedRelu(alpha: try context.float("alpha")) },
  UnaryMath("Swish", [24], .floats, attributes: [.float("alpha", default: 1)]) { context throws(OperatorError) in
    .swish(alpha: try context.float("alpha"))
  },
  UnaryMath(
    "Shrink", [9], .integers + .ieeeFloats, attributes: [.float("bias", default: 0), .float("lambd", default: 0.5)],
    input: "input", output: "output"
  ) { context throws(OperatorError) in .shrink(bias: try context.float("bias"), lambda: try context.float("lambd")) },
]
