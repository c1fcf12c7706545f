// apus.IntegerGemm: a product of bytes as floats, with bias, residual and activation. Made by passes, never read from a
// file. Versions: 1.

import ApusGraph
import ApusTensor

/// Y = activation(float(sum((A - a_zero_point) (B - b_zero_point))) * scale + bias + residual). A [..., k]; B [..., k,
/// n], or a matrix [n, k] with transB; scale one number or [n]; bias [n]; residual as the result.
package struct IntegerGemm: EngineOperator {
  package static let id = OperatorID("IntegerGemm", domain: "apus")
  package static let scale = 4
  package static let bias = 5
  package static let residual = 6

  package let schema = OperatorSchema(
    "IntegerGemm", domain: "apus", versions: [1],
    inputs: [
      .required("A", "T1"), .required("B", "T2"), .optional("a_zero_point", "T1"), .optional("b_zero_point", "T2"),
      .required("scale", "T"), .optional("bias", "T"), .optional("residual", "T"),
    ],
    outputs: [.required("Y", "T")], attributes: [.int("transB", default: 0)] + Activation.attributes,
    types: ["T": .float32, "T1": .bytes, "T2": .bytes], multiplyAdds: matMulProducts(a: 0))

  package init() {}

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let shape = try integerGemmShape(&context, a: 0, b: 1, bias: IntegerGemm.bias)
    if let scale = context.shape(IntegerGemm.scale), scale.count > 1 {
      throw .mismatch("scale has the shape \(scale); expected one number, or one a column")
    }
    if let residual = context.shape(IntegerGemm.residual), let shape,
      residual.count != shape.count || zip(residual, shape).contains(where: { $0.isSurelyDifferent(from: $1) })
    {
      throw .mismatch("residual is \(residual); expected \(shape)")
    }
    context.set(0, .float32, shape)
  }

  package func lower(_ node: Node, into builder: GraphBuilder) throws(OperatorError) {
    func input(_ position: Int) -> ValueID? { position < node.inputs.count ? node.inputs[position] : nil }
    guard let a = input(0), let scale = input(IntegerGemm.scale) else { throw .invalid("\(node.op) lacks inputs") }
    var operations = LoweredOperations(node, in: builder)
    try operations.appendIntegerProduct(node, b: 1, zeroPoints: (2, 3))
    operations.append("Cast", [("to", .int(Int(DataType.float32.rawValue)))]) { (sum) throws(OperatorError) in [sum] }
    operations.append("Mul") { (sum) throws(OperatorError) in [sum, scale] }
    operations.appendSum(input(IntegerGemm.bias))
    operations.appendSum(input(IntegerGemm.residual))
    try operations.appendActivation(.float32)
    try operations.finish(a)
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let isTransposed = try context.bool("transB")
    let product = try IntegerProduct(
      context, IntegerOperandPositions(a: 0, aZero: 2, b: 1, bZero: 3, isTransposed: isTransposed))
    let activation = try Activation(epilogueOf: context)
    let bias = context.isPresent(IntegerGemm.bias) ? IntegerGemm.bias : nil
    let residual = context.isPresent(IntegerGemm.residual) ? IntegerGemm.residual : nil
    return .planned(packing: product.packedInputs) { (plan) throws(OperatorError) in
      let scales = plan.shape(IntegerGemm.scale).elementCount
      let columns = plan.shape(1).asRightFactor(isTransposed: isTransposed).last ?? 1
      guard scales == 1 || scales == columns else {
        throw .mismatch("scale has \(scales) elements; expected one, or one for each of \(columns) columns")
      }
      let result = ByteResult.FloatResult(
        scale: IntegerGemm.scale, scaleCount: scales, bias: bias, residual: residual, epilogue: activation.epilogue)
      return try product.step(plan, .floats(result)) { () throws(OperatorError) in
        try IntegerGemm.plain(plan, product, result, activation, columns: columns)
      }
    }
  }

  /// The sums in scratch memory, then the rest number by number.
  private static func plain(
    _ plan: PlanContext, _ product: IntegerProduct, _ result: ByteResult.FloatResult, _ activation: Activation,
    columns: Int
  ) throws(OperatorError) -> Step {
    guard let y = plan.outputs[0] else { throw .invalid("nobody wants the result") }
    let exact = ExactActivation(activation)
    let (hasBias, hasResidual) = (result.bias != nil, result.residual != nil)
    var sequence = StepSequence()
    let sums = sequence.reserve(bytes: y.count * 4)
    let (name, cost) = try product.append(plan, to: sums, in: &sequence)
    let rows = Partition(columns == 0 ? 0 : y.count / columns, of: .medium * 2 * columns)
    let finish = Step.parallel(parts: rows.parts) { run, part in
      let (sums, scale) = (run.input(0, as: Int32.self), run.input(1, as: Float.self))
      let y = run.output(0, as: Float.self)
      for row in rows.range(part) {
        for column in 0..<columns {
          let index = row &* columns &+ column
          var value = Float(sums[index]) * scale[result.scaleCount == 1 ? 0 : column]
          if hasBias { value += run.input(2, as: Float.self)[column] }
          if hasResidual { value += run.input(3, as: Float.self)[index] }
          y[index] = activation.kind == .none ? value : Float(exact(Double(value)))
        }
      }
    }
    sequence.append(
      finish,
      inputs: [
        sums, .input(result.scale), result.bias.map { .input($0) } ?? .none,
        result.residual.map { .input($0) } ?? .none,
      ], outputs: [.output(0)])
    return sequence.step.named(name, cost: cost)
  }
}
