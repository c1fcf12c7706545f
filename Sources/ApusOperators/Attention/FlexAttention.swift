// ai.onnx.preview.FlexAttention: attention whose scores and probabilities subgraphs may change.
// https://onnx.ai/onnx/operators/onnx_aionnxpreview_FlexAttention.html
// Versions: 1.

import ApusGraph
import ApusTensor

package struct FlexAttention: OperatorDefinition {
  package let schema = OperatorSchema(
    "FlexAttention", domain: "ai.onnx.preview", versions: [1],
    inputs: [.required("Q", "T1"), .required("K", "T1"), .required("V", "T1")],
    outputs: [.required("Y", "T1")],
    attributes: [
      .optional("prob_mod", .graph), .optional("scale", .float), .optional("score_mod", .graph),
      .optional("softmax_precision", .int),
    ],
    types: ["T1": .floats])

  package init() {}

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let shapes = [context.shape(0), context.shape(1), context.shape(2)]
    for (index, shape) in shapes.enumerated() {
      if let shape, shape.count != 4 {
        throw .mismatch("\(schema.inputs[index].name) is \(shape.text); expected 4 axes")
      }
    }
    if let q = shapes[0], let k = shapes[1] {
      guard !q[0].isSurelyDifferent(from: k[0]), !q[3].isSurelyDifferent(from: k[3]) else {
        throw .mismatch("Q is \(q.text) and K \(k.text); batch and head size must be equal")
      }
      if let a = q[1].known, let b = k[1].known, b == 0 || a % b != 0 {
        throw .mismatch("\(a) heads of Q cannot share \(b) heads of K")
      }
    }
    if let k = shapes[1], let v = shapes[2],
      zip(k.dropLast(), v.dropLast()).contains(where: { $0.isSurelyDifferent(from: $1) })
    {
      throw .mismatch("K is \(k.text) and V \(v.text); batch, heads and length must be equal")
    }
    let result = shapes[0].map { [$0[0], $0[1], $0[2], shapes[2]?[3] ?? .unknown] }
    context.set(0, context.type(0), result)
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try context.type(0)
    var precision = type == .float64 ? DataType.float64 : .float32
    if let value = context.optionalInt("softmax_precision") {
      guard let given = Int32(exactly: value).flatMap(DataType.init(rawValue:)), TypeSet.floats.tensors.contains(given)
      else {
        throw .invalid("softmax_precision is \(value); expected 1, 10, 11 or 16")
      }
      precision = given
    }
    return .eager(
      FlexAttentionKernel(
        type: type, precision: precision, wide: type == .float64 || precision == .float64 ? .float64 : .float32,
        scale: context.optionalFloat("scale"), hasScoreMod: context.has("score_mod"),
        hasProbMod: context.has("prob_mod")))
  }
}

/// Computes scores, probabilities and result as whole tensors, with the subgraphs in between.
private struct FlexAttentionKernel: EagerKernel {
  let type: DataType
  /// The type that the subgraphs see.
  let precision: DataType
  /// float32 or float64: the type of the computation.
  let wide: DataType
  let scale: Float?
  let hasScoreMod: Bool
  let hasProbMod: Bool

  func execute(_ inputs: [Value?], _ context: any EagerContext) throws(OperatorError) -> [Value?] {
    let q = try converted(inputs.tensor(0), to: wide, context)
    let k = try converted(inputs.tensor(1), to: wide, context)
    let v = try converted(inputs.tensor(2), to: wide, context)
    guard q.rank == 4, k.rank == 4, v.rank == 4, k.shape[0] == q.shape[0], k.shape[3] == q.shape[3],
      v.shape.dims.dropLast() == k.shape.dims.dropLast(), k.shape[1] > 0, q.shape[1] % k.shape[1] == 0
    else { throw .mismatch("Q \(q.shape), K \(k.shape) and V \(v.shape) do not fit") }
    let (heads, queries, keys, size, valueSize) = (q.shape[1], q.shape[2], k.shape[2], q.shape[3], v.shape[3])
    let shape: Shape = [q.shape[0], heads, queries, keys]
    let extents: Shape = [q.shape[0], heads, queries, valueSize]
    for made in [shape, extents] { try context.check(allocating: TensorType(wide, made).byteCount) }
    let factor = scale ?? 1 / Float(size).squareRoot()
    var scores = try product(
      q, k, (queries, keys, size), right: .columnMajor(rows: size), to: shape, scale: factor, context)
    scores = try modified(scores, "score_mod", hasScoreMod, context)
    let softmax = Softmax()
    let rows = AxisRows(shape, axis: 3)
    scores = try run(
      wide == .float64 ? softmax.plainStep(rows, Double.self) : softmax.fastStep(rows), [scores], to: shape, context)
    scores = try modified(scores, "prob_mod", hasProbMod, context)
    let result = try product(
      scores, v, (queries, valueSize, keys), right: .rowMajor(columns: valueSize),
      to: extents, scale: 1, context)
    return [.tensor(try converted(result, to: type, context))]
  }

  /// The tensor as the subgraph leaves it, in the wide type. Rounds to the precision also without a subgraph.
  private func modified(
    _ tensor: Tensor, _ name: String, _ hasSubgraph: Bool, _ context: any EagerContext
  ) throws(OperatorError) -> Tensor {
    var result = try converted(tensor, to: precision, context)
    if hasSubgraph {
      let outputs = try context.run(subgraph: name, inputs: [.tensor(result)])
      guard outputs.count == 1, let output = outputs[0].tensor, output.dataType == precision,
        output.shape == result.shape
      else {
        throw .mismatch(
          "\(name) gave \(outputs.map { $0.type.description }.joined(separator: ", ")); expected "
            + "\(precision)\(result.shape)")
      }
      result = output
    }
    return try converted(result, to: wide, context)
  }

  /// The product of each head, heads of the right side shared by groups.
  private func product(
    _ a: Tensor, _ b: Tensor, _ extents: (m: Int, n: Int, k: Int), right: MatrixLayout, to shape: Shape, scale: Float,
    _ context: any EagerContext
  ) throws(OperatorError) -> Tensor {
    let (m, n, k) = extents
    let (keyHeads, group) = (b.shape[1], a.shape[1] / b.shape[1])
    let batch = GemmBatch(
      extents: [a.shape[0], keyHeads, group], a: [keyHeads * group * m * k, group * m * k, m * k],
      b: [keyHeads * k * n, k * n, 0])
    let left = MatrixLayout.rowMajor(columns: k)
    if wide == .float32 {
      let plan = GemmPlan(m: m, n: n, k: k, left: left, right: .unpacked(right, scale: scale), batch: batch)
      return try run(plan.step(), [a, b], to: shape, context)
    }
    let plain = PlainProduct(m: m, n: n, k: k, left: left, right: right, batch: batch)
    guard let step = plain.step(.float64) else { throw .unsupported("FlexAttention has no kernel for \(type)") }
    let result = try run(step, [a, b], to: shape, context)
    if scale == 1 { return result }
    let count = result.count
    let scaling = Step.serial { run in
      for index in 0..<count {
        run.output(0, as: Double.self)[index] = run.input(0, as: Double.self)[index] * Double(scale)
      }
    }
    return try run(scaling, [result], to: shape, context)
  }

  private func run(_ step: Step, _ inputs: [Tensor], to shape: Shape, _ context: any EagerContext) throws(OperatorError)
    -> Tensor
  {
    let output = TensorType(wide, shape)
    let results = try KernelRunner.run(step, inputs: inputs, outputTypes: [output], allowance: context.allowance) {
      context.parallel(parts: $0, $1)
    }
    guard let result = results.first ?? nil else { throw .invalid("a step gave no result") }
    return result
  }

  private func converted(_ tensor: Tensor, to target: DataType, _ context: any EagerContext) throws(OperatorError)
    -> Tensor
  {
    if tensor.dataType == target { return tensor }
    guard let convert = elementConverter(from: tensor.dataType, to: target) else {
      throw .unsupported("FlexAttention has no kernel for \(tensor.dataType)")
    }
    return try tensor.converted(to: target, convert, context.allowance)
  }
}
