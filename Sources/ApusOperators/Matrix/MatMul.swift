// MatMul: matrix product as of numpy.matmul. https://onnx.ai/onnx/operators/onnx__MatMul.html
// Versions: 1, 9 (int32, uint32, int64, uint64), 13 (bfloat16).

import ApusGraph
import ApusTensor

package struct MatMul: OperatorDefinition {
  package let schema = OperatorSchema(
    "MatMul", versions: [1, 9, 13],
    inputs: [.required("A", "T"), .required("B", "T")],
    outputs: [.required("Y", "T")],
    types: ["T": .floats + [.uint32, .uint64, .int32, .int64]], multiplyAdds: matMulProducts(a: 0),
    axes: AxisRules.matMul,
    weights: WeightTrait { facts in
      guard let weights = facts.shape(1)?.count, weights >= 2, let data = facts.shape(0)?.count, data >= 1 else {
        return nil
      }
      // The product has as many axes as the operand with more of them, less the one that a vector lacks.
      let result = max(weights, data) - (data == 1 ? 1 : 0)
      return WeightTrait.Axes(outputs: weights - 1, inputs: weights - 2, data: data - 1, result: result - 1)
    })

  package init() {}

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, context.type(0), try matMulShape(context.shape(0), context.shape(1)))
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    switch try context.type(0) {
    case .float16, .bfloat16:
      try MatMulKernel.prepareHalves(context) { (context) throws(OperatorError) in
        try MatMul.chosen(context, .float32)
      }
    case let type: try MatMul.chosen(context, type)
    }
  }

  private static func chosen(_ context: PrepareContext, _ type: DataType) throws(OperatorError) -> PreparedKernel {
    try ElementCandidate.choose(
      .matMul, type: type,
      [
        .plain { MatMul.plain(context) },
        .vectors("panels") { () throws(OperatorError) in try MatMulKernel.prepare(context) },
      ])
  }

  private static func plain(_ context: PrepareContext) -> PreparedKernel {
    .planned { (plan) throws(OperatorError) in
      let extents = MatMulExtents(plan.shape(0), plan.shape(1))
      guard let type = plan.inputs[0]?.dataType, let step = extents.plain.step(type) else {
        throw .unsupported("there is no matrix product of \(plan.inputs[0]?.dataType.description ?? "absent") elements")
      }
      return step
    }
  }
}

/// The float32 product on packed panels; B is packed here if it is constant.
struct MatMulKernel: Kernel {
  /// What a fused operator adds to the product.
  struct Options: Sendable {
    var transposesA = false
    var transposesB = false
    /// Every product times this.
    var scale: Float = 1
    var epilogue = GemmEpilogue()
    /// The positions of a bias [n] and of a tensor as the result, both added.
    var bias: Int?
    var add: Int?
    /// A may be rounded to bfloat16.
    var mayRoundRows = false
  }

  private let options: Options
  private let packed: PackedMatrix?

  static func prepare(_ context: PrepareContext, _ options: Options = Options()) throws(OperatorError) -> PreparedKernel
  {
    .planned(try MatMulKernel(context, options))
  }

  init(_ context: PrepareContext, _ options: Options) throws(OperatorError) {
    self.options = options
    guard let tensor = context.packable(1), tensor.rank > 0, tensor.count > 0,
      tensor.dataType == .float32 || PackedMatrix.isHalf(tensor.dataType)
    else {
      packed = nil
      return
    }
    let depthAxis = options.transposesB && tensor.rank > 1 ? tensor.rank - 1 : max(tensor.rank - 2, 0)
    // The rows of A do not matter for the packing of B.
    let extents = MatMulExtents([1, tensor.shape[depthAxis]], tensor.shape, transposesB: options.transposesB)
    packed = try PackedMatrix(
      tensor, count: extents.rightCount, k: extents.k, n: extents.n, layout: extents.right, scale: options.scale,
      mayRound: true, mayRoundRows: options.mayRoundRows, in: context.packedWeights)
  }

  /// A node with operands of float16 or bfloat16, as `prepare` makes it of one that computes in float32. Where B is
  /// constant and is not multiplied by `scale`, it keeps its type, for panels of it.
  static func prepareHalves(
    _ context: PrepareContext, scale: Float = 1,
    _ prepare: (PrepareContext) throws(OperatorError) -> PreparedKernel
  ) throws(OperatorError) -> PreparedKernel {
    let others = context.inputs.indices.filter { $0 != 1 }
    if scale == 1, !KernelSelection.current.isPlain, let b = context.packable(1), b.rank > 0, b.count > 0 {
      if context.outputType(0) == .float32, context.optionalType(0) == .float32 { return try prepare(context) }
      return try StagedKernel.prepare(context, packing: context.packedWeights, operands: others, prepare)
    }
    return try StagedKernel.prepare(context, packed: [1], prepare)
  }

  var packedOperands: [PackedOperand] { packed.map { [PackedOperand(input: 1, storage: $0.storage)] } ?? [] }
  var takesRows: Bool { true }

  func plan(_ context: PlanContext) throws(OperatorError) -> Step {
    step(context, GemmPlan.Operands(bias: options.bias, add: options.add))
  }

  /// The step with operands that only the plan knows.
  func step(_ context: PlanContext, _ operands: GemmPlan.Operands) -> Step {
    let extents = MatMulExtents(
      context.shape(0), context.shape(1), transposesA: options.transposesA, transposesB: options.transposesB)
    var batch = extents.batch
    let right: GemmPlan.RightOperand
    if let packed {
      batch = batch.countingB(matrix: extents.k * extents.n)
      right = .packedOperand(stride: packed.stride, element: packed.element)
    } else {
      right = .unpacked(extents.right, scale: options.scale)
    }
    var (left, operands) = (extents.left, operands)
    let takesRows = !context.spread.isEmpty && spread(&left, &operands, extents, context)
    var step = GemmPlan(
      m: extents.m, n: extents.n, k: extents.k, left: left, right: right, batch: batch, epilogue: options.epilogue
    ).step(operands)
    if takesRows { step.spread = context.spread }
    return step
  }

  /// The rows of A, of the addend and of the result as far apart as they are; false if the operands lie otherwise.
  private func spread(
    _ left: inout MatrixLayout, _ operands: inout GemmPlan.Operands, _ extents: MatMulExtents, _ context: PlanContext
  ) -> Bool {
    guard extents.batch.count == 1, context.rows(input: 1) == nil, !operands.addsOutput,
      let target = context.distance(output: 0, rowsOf: extents.n)
    else { return false }
    if context.rows(input: 0) != nil {
      guard left.columnStride == 1, let row = context.distance(input: 0, rowsOf: extents.k) else { return false }
      left.rowStride = row
    }
    if let add = operands.add {
      guard let row = context.distance(input: add, rowsOf: extents.n) else { return false }
      operands.addRow = row
    }
    if let bias = operands.bias, context.rows(input: bias) != nil { return false }
    operands.targetRow = target
    return true
  }
}
