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
    input: String = "X", output: String = "Y", typesBefore: TypeSet = .beforeNarrowTypes,
    values: (@Sendable (Dim) -> Dim)? = nil, codes: CodeTrait? = nil,
    _ function: @escaping @Sendable (PrepareContext) throws(OperatorError) -> UnaryFunction
  ) {
    schema = OperatorSchema(
      name, versions: versions, inputs: [.required(input, "T")], outputs: [.required(output, "T")],
      attributes: attributes, types: ["T": types], layout: .elementwise, portable: .moreTypes(than: typesBefore),
      codes: codes)
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

  /// The operator of an activation, whose parameters are its attributes.
  init(
    _ activation: Activation.Kind, _ versions: [Int], _ types: TypeSet, input: String = "X", output: String = "Y",
    typesBefore: TypeSet = .beforeNarrowTypes, values: (@Sendable (Dim) -> Dim)? = nil, codes: CodeTrait? = nil
  ) {
    self.init(
      activation.operator?.name ?? activation.rawValue, versions, types,
      attributes: activation.parameters.map { .float($0.name, default: $0.value) }, input: input, output: output,
      typesBefore: typesBefore, values: values, codes: codes
    ) { context throws(OperatorError) in try Activation(activation, context).function }
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
    guard let loop = try function.loop(type) else { throw context.unsupportedType(type) }
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
  UnaryMath(.tanh, [1, 6, 13], .floats, input: "input", output: "output"),
  UnaryMath("Asinh", [9, 22], .floats, input: "input", output: "output", .asinh),
  UnaryMath("Acosh", [9, 22], .floats, input: "input", output: "output", .acosh),
  UnaryMath("Atanh", [9, 22], .floats, input: "input", output: "output", .atanh),
  UnaryMath("Erf", [9, 13], .numeric, input: "input", output: "output", .erf),
  UnaryMath(.sigmoid, [1, 6, 13], .floats),
  UnaryMath(
    .relu, [1, 6, 13, 14], .signed + .floats, values: { $0.known.map { Dim(max($0, 0)) } ?? .unknown },
    codes: .clamps { _ in 0 ... .infinity }),
  UnaryMath(.softplus, [1, 22], .floats),
  UnaryMath(.softsign, [1, 22], .floats, input: "input", output: "output"),
  UnaryMath(.mish, [18, 22], .floats),
  UnaryMath(.hardSwish, [14, 22], .floats),
  UnaryMath("Gelu", [20], .floats, attributes: [.string("approximate", default: "none")]) {
    context throws(OperatorError) in
    try context.string("approximate", oneOf: ["none", "tanh"]) == "tanh" ? .geluTanh : .gelu
  },
  UnaryMath(.leakyRelu, [1, 6, 16], .floats),
  UnaryMath(.elu, [1, 6, 22], .floats),
  UnaryMath(.selu, [1, 6, 22], .floats),
  UnaryMath(.celu, [12, 28], .floats, typesBefore: [.float32]),
  UnaryMath(.hardSigmoid, [1, 6, 22], .floats),
  UnaryMath(.thresholdedRelu, [1, 10, 22], .floats),
  UnaryMath(.silu, [24], .floats),
  UnaryMath(
    "Shrink", [9], .integers + .ieeeFloats, attributes: [.float("bias", default: 0), .float("lambd", default: 0.5)],
    input: "input", output: "output"
  ) { context throws(OperatorError) in .shrink(bias: try context.float("bias"), lambda: try context.float("lambd")) },
]
