// BitwiseAnd, BitwiseOr, BitwiseXor, BitwiseNot (18) and BitShift (11, 28: signed integers), of integers.
// https://onnx.ai/onnx/operators/onnx__BitShift.html …

import ApusGraph
import ApusTensor

/// A function of the bits of two integers with broadcasting.
struct BitwiseLogic: OperatorDefinition {
  let schema: OperatorSchema
  private let function: BinaryFunction

  private init(_ name: String, _ function: BinaryFunction) {
    schema = OperatorSchema(
      name, versions: [18], inputs: [.required("A", "T"), .required("B", "T")], outputs: [.required("C", "T")],
      types: ["T": .integers], traits: .commutative, layout: .broadcasting)
    self.function = function
  }

  static let all: [any OperatorDefinition] = [
    BitwiseLogic("BitwiseAnd", .bitwiseAnd),
    BitwiseLogic("BitwiseOr", .bitwiseOr),
    BitwiseLogic("BitwiseXor", .bitwiseXor),
  ]

  func infer(_ context: inout InferenceContext) throws(OperatorError) { try inferBroadcast(&context, [0, 1]) }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try context.type(0)
    guard let loops = try function.loops(type) else { throw context.unsupportedType(type) }
    return Elementwise.binary(loops, cost: .light, name: schema.id.name)
  }
}

/// BitShift: an arithmetic shift for signed types. An amount below 0, or from the width on, shifts everything out.
struct BitShift: OperatorDefinition {
  let schema = OperatorSchema(
    "BitShift", versions: [11, 28], inputs: [.required("X", "T"), .required("Y", "T")], outputs: [.required("Z", "T")],
    attributes: [.required("direction", .string)], types: ["T": .integers], layout: .broadcasting,
    portable: .moreTypes(than: .unsigned))

  func infer(_ context: inout InferenceContext) throws(OperatorError) { try inferBroadcast(&context, [0, 1]) }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try context.type(0)
    let isLeft = try context.string("direction", oneOf: ["LEFT", "RIGHT"]) == "LEFT"
    guard let loops = try (isLeft ? BinaryFunction.shiftLeft : .shiftRight).loops(type) else {
      throw context.unsupportedType(type)
    }
    return Elementwise.binary(loops, cost: .light, name: "BitShift")
  }
}

struct BitwiseNot: OperatorDefinition {
  let schema = OperatorSchema(
    "BitwiseNot", versions: [18], inputs: [.required("X", "T")], outputs: [.required("Y", "T")],
    types: ["T": .integers], layout: .elementwise)

  func infer(_ context: inout InferenceContext) throws(OperatorError) { context.copy() }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try context.type(0)
    guard let loop = try UnaryFunction.bitwiseNot.loop(type) else { throw context.unsupportedType(type) }
    return Elementwise.unary(loop, cost: .light, name: "BitwiseNot")
  }
}
