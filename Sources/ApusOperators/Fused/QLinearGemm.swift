// apus.QLinearGemm: QLinearMatMul with a matrix B, which may be transposed, and a bias. Made by passes, never read from
// a file. Versions: 1.

import ApusGraph
import ApusTensor

/// y = saturate(round((sum((a - a_zero_point) (b - b_zero_point)) + C) * (a_scale * b_scale / y_scale)) +
/// y_zero_point). a [..., k]; b [k, n], or [n, k] with transB; C [n].
package struct QLinearGemm: EngineOperator {
  package static let id = OperatorID("QLinearGemm", domain: "apus")

  package let schema = OperatorSchema(
    "QLinearGemm", domain: "apus", versions: [1],
    inputs: [
      .required("a", "T1"), .required("a_scale", "TS"), .required("a_zero_point", "T1"), .required("b", "T2"),
      .required("b_scale", "TS"), .required("b_zero_point", "T2"), .required("y_scale", "TS"),
      .required("y_zero_point", "T3"), .optional("C", "T4"),
    ],
    outputs: [.required("y", "T3")], attributes: [.int("transB", default: 0)],
    types: ["TS": .float32, "T1": .bytes, "T2": .bytes, "T3": .bytes, "T4": .int32], multiplyAdds: matMulProducts(a: 0))

  package init() {}

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let shape = try integerGemmShape(&context, a: 0, b: 3, bias: 8)
    context.set(0, context.type(7), shape)
  }

  package func lower(_ node: Node, into builder: GraphBuilder) throws(OperatorError) {
    guard node.inputs.count >= 8, let a = node.inputs[0], let aScale = node.inputs[1], let bScale = node.inputs[4],
      let yScale = node.inputs[6], let one = try builder.addScalar(1, .float32)
    else { throw .invalid("\(node.op) lacks inputs") }
    var operations = LoweredOperations(node, in: builder)
    try operations.appendIntegerProduct(node, b: 3, zeroPoints: (2, 5))
    operations.appendSum(node.inputs.count > 8 ? node.inputs[8] : nil)
    operations.append("Cast", [("to", .int(Int(DataType.float32.rawValue)))]) { (sum) throws(OperatorError) in [sum] }
    let scale = try builder.apply(
      OperatorID("Div"), name: "\(node.name)/scale",
      [builder.apply(OperatorID("Mul"), name: "\(node.name)/scales", [aScale, bScale]), yScale])
    operations.append("Mul") { (sum) throws(OperatorError) in [sum, scale] }
    operations.append("QuantizeLinear") { (value) throws(OperatorError) in [value, one, node.inputs[7]] }
    try operations.finish(a)
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let isTransposed = try context.bool("transB")
    let product = try IntegerProduct(
      context, IntegerOperandPositions(a: 0, aZero: 2, b: 3, bZero: 5, isTransposed: isTransposed))
    let bias = context.isPresent(8) ? 8 : nil
    return .planned(packing: product.packedInputs) { (plan) throws(OperatorError) in
      let result = ByteResult(requantizing: plan, bias: bias, isTransposed: isTransposed)
      return try product.step(plan, result) { () throws(OperatorError) in
        try QuantizedProduct(plan, product, bias: bias, isTransposed: isTransposed).step
      }
    }
  }
}

/// The shape of a product with a matrix B as the attribute transB has it, and a bias of its columns.
func integerGemmShape(
  _ context: inout InferenceContext, a: Int, b: Int, bias: Int
) throws(OperatorError) -> [Dim]? {
  guard var right = context.shape(b) else { return nil }
  if try context.bool("transB") {
    guard right.count == 2 else { throw .mismatch("B has \(right.count) axes; expected 2") }
    right.reverse()
  }
  if let bias = context.shape(bias), let columns = right.last,
    bias.count != 1 || bias[0].isSurelyDifferent(from: columns)
  {
    throw .mismatch("the bias has the shape \(bias); expected [\(columns)]")
  }
  return try matMulShape(context.shape(a), right)
}

extension LoweredOperations {
  /// MatMulInteger of the value before and input `b`, transposed if the node says so, with zero points at inputs.
  mutating func appendIntegerProduct(_ node: Node, b: Int, zeroPoints: (a: Int, b: Int)) throws(OperatorError) {
    guard b < node.inputs.count, let right = node.inputs[b] else { throw .invalid("\(node.op) lacks a factor") }
    let factor =
      node.attributes.int("transB") ?? 0 == 0
      ? right
      : try builder.apply(OperatorID("Transpose"), name: "\(node.name)/B", [right], [("perm", .ints([1, 0]))])
    func zero(_ input: Int) -> ValueID? { input < node.inputs.count ? node.inputs[input] : nil }
    append("MatMulInteger") { (a) throws(OperatorError) in [a, factor, zero(zeroPoints.a), zero(zeroPoints.b)] }
  }
}
