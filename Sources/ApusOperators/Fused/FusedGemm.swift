// apus.Gemm: Y = activation(alpha * A·B + bias + residual). Made by passes, never read from a file.
// Versions: 1.

import ApusGraph
import ApusTensor

/// A [..., k]; B [k, n], or [n, k] with transB, or a batch of such matrices; bias [n]; residual as the result [..., n].
/// B may be of float16 or bfloat16 where the others are of float32: it stands for the same numbers in float32. With
/// `narrow`, A may be rounded to bfloat16.
package struct FusedGemm: EngineOperator {
  package static let id = OperatorID("Gemm", domain: "apus")

  package let schema = OperatorSchema(
    "Gemm", domain: "apus", versions: [1],
    inputs: [.required("A", "T"), .required("B", "TB"), .optional("bias", "T"), .optional("residual", "T")],
    outputs: [.required("Y", "T")],
    attributes: [.int("transB", default: 0), .float("alpha", default: 1), .int("narrow", default: 0)]
      + Activation.attributes,
    types: ["T": .floats, "TB": .floats], multiplyAdds: matMulProducts(a: 0))

  /// True if the kernels of this machine round A to bfloat16 where `narrow` says that it may be. Elsewhere a model that
  /// rounds it does so by itself.
  package static var canRoundRows: Bool { GemmKernels.current.hasPairs }

  package init() {}

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    guard var b = context.shape(1) else { return context.set(0, context.type(0), nil) }
    let axes = b.count
    guard axes >= 2 else { throw .mismatch("B has \(axes) axes; expected 2 or more") }
    if try context.bool("transB") { b.swapAt(axes - 2, axes - 1) }
    let shape = try matMulShape(context.shape(0), b)
    if let bias = context.shape(2), bias.count != 1 || bias[0].isSurelyDifferent(from: b[axes - 1]) {
      throw .mismatch("bias is \(bias); expected [\(b[axes - 1])]")
    }
    if let residual = context.shape(3), let shape,
      residual.count != shape.count || zip(residual, shape).contains(where: { $0.isSurelyDifferent(from: $1) })
    {
      throw .mismatch("residual is \(residual); expected \(shape)")
    }
    context.set(0, context.type(0), shape)
  }

  /// Gemm for matrices, MatMul for everything else.
  package func lower(_ node: Node, into builder: GraphBuilder) throws(OperatorError) {
    guard var a = node.inputs[0], var b = node.inputs[1], let type = builder.type(a) else {
      throw .unsupported("\(node.op) of an unknown element type has no form that other runtimes know")
    }
    func input(_ position: Int) -> ValueID? { position < node.inputs.count ? node.inputs[position] : nil }
    func cast(_ value: ValueID, _ name: String, _ type: DataType) throws(OperatorError) -> ValueID {
      try builder.apply(OperatorID("Cast"), name: "\(node.name)/\(name)", [value], [("to", .int(Int(type.rawValue)))])
    }
    if node.attributes.int("narrow") ?? 0 != 0 {
      a = try cast(try cast(a, "A/narrow", .bfloat16), "A", type)
    }
    if builder.type(b) != type { b = try cast(b, "B", type) }
    let factor = b
    let alpha = node.attributes.float("alpha") ?? 1
    let transposesB = node.attributes.int("transB") ?? 0 != 0
    guard let axes = builder.shape(b)?.count else {
      throw .unsupported("\(node.op) with a B of unknown rank has no form that other runtimes know")
    }
    var operations = LoweredOperations(node, in: builder)
    if builder.shape(a)?.count == 2, axes == 2 {
      let attributes: [(String, AttributeValue)] =
        (transposesB ? [("transB", .int(1))] : []) + (alpha == 1 ? [] : [("alpha", .float(alpha))])
      let bias = input(2).map { [$0] } ?? []
      operations.append("Gemm", attributes) { (a) throws(OperatorError) in [a, factor] + bias }
    } else {
      let turned =
        transposesB
        ? try builder.apply(
          OperatorID("Transpose"), name: "\(node.name)/B", [b],
          [("perm", .ints(Array(0..<axes - 2) + [axes - 1, axes - 2]))]) : b
      operations.append("MatMul") { (a) throws(OperatorError) in [a, turned] }
      if alpha != 1 {
        let scale = try builder.addScalar(alpha, type)
        operations.append("Mul") { (value) throws(OperatorError) in [value, scale] }
      }
      operations.appendSum(input(2))
    }
    operations.appendSum(input(3))
    try operations.appendActivation(type)
    try operations.finish(a)
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let types = (try context.type(0), try context.type(1))
    if types.0 == .float64 { return try FusedGemm.plain(context, Double.self) }
    if types == (.float32, .float32) { return try FusedGemm.chosen(context) }
    return try MatMulKernel.prepareHalves(context, scale: try context.float("alpha")) {
      (context) throws(OperatorError) in try FusedGemm.chosen(context)
    }
  }

  private static func chosen(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    try ElementCandidate.choose(
      .gemm, type: .float32,
      [
        .plain { () throws(OperatorError) in try FusedGemm.plain(context, Float.self) },
        .vectors("panels") { () throws(OperatorError) in try FusedGemm.packed(context) },
      ])
  }

  private static func packed(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let (isNarrow, alpha) = (try context.bool("narrow"), try context.float("alpha"))
    return try MatMulKernel.prepare(
      context,
      MatMulKernel.Options(
        transposesB: try context.bool("transB"), scale: alpha,
        epilogue: try Activation(epilogueOf: context).epilogue, bias: context.isPresent(2) ? 2 : nil,
        // A factor would have to be rounded with the weights.
        add: context.isPresent(3) ? 3 : nil, mayRoundRows: isNarrow && alpha == 1))
  }

  private static func plain<Element: Real>(
    _ context: PrepareContext, _ element: Element.Type
  ) throws(OperatorError) -> PreparedKernel {
    let activation = ExactActivation(try Activation(epilogueOf: context))
    let alpha = Element(try context.float("alpha"))
    let transposesB = try context.bool("transB")
    let (hasBias, hasResidual) = (context.isPresent(2), context.isPresent(3))
    return .planned { (plan) throws(OperatorError) in
      let extents = MatMulExtents(plan.shape(0), plan.shape(1), transposesB: transposesB)
      guard let type = plan.outputs[0], let product = extents.plain.step(type.dataType) else {
        throw .unsupported("apus.Gemm has no kernel for this type")
      }
      let columns = extents.n
      let rows = Partition(type.count / max(columns, 1), of: .medium * 2 * columns)
      let finish = Step.parallel(parts: columns == 0 ? 0 : rows.parts) { run, part in
        let y = run.output(0, as: Element.self)
        for row in rows.range(part) {
          for column in 0..<columns {
            let index = row &* columns &+ column
            var sum = alpha * y[index]
            if hasBias { sum += run.input(0, as: Element.self)[column] }
            if hasResidual { sum += run.input(1, as: Element.self)[index] }
            y[index] = Element(activation(Double(sum)))
          }
        }
      }
      var sequence = StepSequence()
      sequence.append(product, inputs: [.input(0), .input(1)], outputs: [.output(0)])
      sequence.append(
        finish, inputs: [hasBias ? .input(2) : .none, hasResidual ? .input(3) : .none], outputs: [.output(0)])
      return sequence.step.named(product.kernelName, cost: product.cost)
    }
  }
}
