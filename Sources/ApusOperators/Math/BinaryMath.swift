// The arithmetic operators of two inputs with broadcasting, and those of any number: Add, Sub, Mul, Div, Mod, Min, Max,
// Sum, Mean. https://onnx.ai/onnx/operators/. Versions 1 and 6 broadcast one way (`broadcast`, `axis`) or, with any
// number of inputs, not at all; 7 and 8 broadcast both ways; later ones added types (Mod 28: floats with fmod = 0).

import ApusGraph
import ApusTensor

/// An operator that applies one function to two inputs of one type.
struct BinaryMath: OperatorDefinition {
  let schema: OperatorSchema
  private let function: BinaryFunction
  private let values: (@Sendable ([Dim]) -> Dim)?

  init(
    _ name: String, _ versions: [Int], _ types: TypeSet, isCommutative: Bool = false, _ function: BinaryFunction,
    codes: CodeTrait? = nil, values: (@Sendable ([Dim]) -> Dim)? = nil
  ) {
    schema = OperatorSchema(
      name, versions: versions, inputs: [.required("A", "T"), .required("B", "T")], outputs: [.required("C", "T")],
      types: ["T": types], traits: isCommutative ? .commutative : [], layout: .broadcasting, codes: codes)
    self.function = function
    self.values = values
  }

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    if version < 7 { try node.upgradeLegacyBroadcast(in: builder) }
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    try inferBroadcast(&context, [0, 1], valuesBy: values)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try context.type(0)
    guard let loops = try function.loops(type) else { throw context.unsupportedType(type) }
    let isIntegerDivision = function == .div && type.isInteger
    return Elementwise.binary(loops, cost: isIntegerDivision ? .medium : function.cost, name: schema.id.name)
  }
}

/// Mod: the remainder of a division, floored or truncated.
struct Mod: OperatorDefinition {
  let schema = OperatorSchema(
    "Mod", versions: [10, 13, 28], inputs: [.required("A", "T"), .required("B", "T")], outputs: [.required("C", "T")],
    attributes: [.int("fmod", default: 0)], types: ["T": .numeric], layout: .broadcasting, portable: .moreTypes)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let truncates = try context.bool("fmod")
    try inferBroadcast(&context, [0, 1]) { operands in
      guard let b = operands[1].known, b != 0 else { return .unknown }
      if let a = operands[0].known { return Dim(truncates ? truncatedRemainder(a, b) : floorModulo(a, b)) }
      if truncates || b < 0 { return .unknown }
      return operands[0] - operands[0].dividedRoundingDown(by: operands[1]) * operands[1]
    }
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try context.type(0)
    let function: BinaryFunction = try context.bool("fmod") ? .remainder : .modulo
    guard let loops = try function.loops(type) else { throw context.unsupportedType(type) }
    return Elementwise.binary(loops, cost: function.cost, name: "Mod")
  }
}

/// An operator that folds any number of inputs of one type with one function, from left to right.
struct VariadicMath: OperatorDefinition {
  let schema: OperatorSchema
  private let function: BinaryFunction
  /// True if the result is divided by the number of inputs.
  private let isMean: Bool
  private let values: (@Sendable ([Dim]) -> Dim)?

  init(
    _ name: String, _ versions: [Int], _ types: TypeSet, output: String, _ function: BinaryFunction,
    isMean: Bool = false,
    values: (@Sendable ([Dim]) -> Dim)? = nil
  ) {
    schema = OperatorSchema(
      name, versions: versions, inputs: [.variadic("data_0", "T")], outputs: [.required(output, "T")],
      types: ["T": types], identity: .oneInput, layout: .broadcasting)
    self.function = function
    self.isMean = isMean
    self.values = values
  }

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    node.removeLegacyHints()
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    guard !context.inputs.isEmpty else { throw .invalid("\(schema.id) has no inputs; expected at least one") }
    let type = context.type(0)
    for (index, fact) in context.inputs.enumerated() {
      guard fact != nil else { throw .invalid("input \(index) is missing") }
      if let type, let other = context.type(index), other != type {
        throw .mismatch("inputs 0 and \(index) must have the same type; found \(type) and \(other)")
      }
    }
    try inferBroadcast(&context, Array(context.inputs.indices), valuesBy: values)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try context.type(0)
    // A single input is the result, and the sum of two rounds once.
    let roundsBetween = function == .add && context.inputs.count > (isMean ? 1 : 2)
    if roundsBetween, StagedKernel.halves[type] != nil {
      return try StagedKernel.prepare(context) { (wide) throws(OperatorError) in try prepare(wide) }
    }
    guard let loops = try function.loops(type) else { throw context.unsupportedType(type) }
    var finish: UnaryLoop?
    if isMean && context.inputs.count > 1 {
      guard let divide = try BinaryFunction.div.loops(type)?.scalarB,
        let divisor = Lane.float64.store(type)
      else { throw context.unsupportedType(type) }
      let count = Double(context.inputs.count)
      finish = { x, y, length in
        withUnsafeTemporaryAllocation(byteCount: 8, alignment: 8) { memory in
          guard let scalar = memory.baseAddress else { return }
          withUnsafePointer(to: count) { divisor($0, scalar, 0, 1) }
          divide(x, UnsafeRawPointer(scalar), y, length)
        }
      }
    }
    return Elementwise.variadic(loops, finish: finish, cost: .light, name: schema.id.name)
  }
}

let binaryMathOperators: [any OperatorDefinition] = [
  BinaryMath("Add", [1, 6, 7, 13, 14], .numeric, isCommutative: true, .add, codes: .computes) { $0[0] + $0[1] },
  BinaryMath("Sub", [1, 6, 7, 13, 14], .numeric, .sub) { $0[0] - $0[1] },
  BinaryMath("Mul", [1, 6, 7, 13, 14], .numeric, isCommutative: true, .mul, codes: .computes) { $0[0] * $0[1] },
  BinaryMath("Div", [1, 6, 7, 13, 14], .numeric, .div) { operands in
    guard let b = operands[1].known, b != 0 else { return .unknown }
    if let a = operands[0].known { return Dim(a.dividedReportingOverflow(by: b).partialValue) }
    // Below zero, truncation is not floor.
    return b > 0 && operands[0].isSurelyNonNegative ? operands[0].dividedRoundingDown(by: operands[1]) : .unknown
  },
  Mod(),
  VariadicMath("Min", [1, 6, 8, 12, 13], .numeric, output: "min", .min) { $0.dropFirst().reduce($0[0], Dim.min) },
  VariadicMath("Max", [1, 6, 8, 12, 13], .numeric, output: "max", .max) { $0.dropFirst().reduce($0[0], Dim.max) },
  VariadicMath("Sum", [1, 6, 8, 13], .floats, output: "sum", .add),
  VariadicMath("Mean", [1, 6, 8, 13], .floats, output: "mean", .add, isMean: true),
]
