// LayerNormalization: each row less its mean, over its deviation.
// https://onnx.ai/onnx/operators/onnx__LayerNormalization.html Versions: 17. Computed in float32 for narrower inputs,
// in float64 for float64, whatever stash_type says; stash_type is the type of Mean and InvStdDev.

import ApusGraph
import ApusTensor
import CApusKernels

package struct LayerNormalization: OperatorDefinition {
  package let schema = OperatorSchema(
    "LayerNormalization", versions: [17],
    inputs: [.required("X", "T"), .required("Scale", "T"), .optional("B", "T")],
    outputs: [.required("Y", "T"), .optional("Mean", "U"), .optional("InvStdDev", "U")],
    attributes: [.int("axis", default: -1), .float("epsilon", default: 1e-5), .int("stash_type", default: 1)],
    types: ["T": .floats, "U": [.float32, .bfloat16]], traits: .isSensitive, axes: AxisRules.leadingAxes)

  package init() {}

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.copy()
    let stash = try context.int("stash_type")
    guard let type = Int32(exactly: stash).flatMap(DataType.init(rawValue:)), type == .float32 || type == .bfloat16
    else {
      throw .invalid("stash_type is \(stash); expected 1 (float32) or 16 (bfloat16)")
    }
    var reduced = context.shape(0)
    if let shape = reduced {
      let axis = try resolveAxis(context.int("axis"), rank: shape.count)
      for index in axis..<shape.count { reduced?[index] = 1 }
      try checkBroadcast(context, parameters: [1, 2])
    }
    context.set(1, type, reduced)
    context.set(2, type, reduced)
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let axis = try context.int("axis")
    let epsilon = try context.float("epsilon")
    let plain: @Sendable () throws(OperatorError) -> PreparedKernel = { () throws(OperatorError) in
      try prepareReal(
        context,
        float: { (_) throws(OperatorError) in LayerNormalization.plain(Float.self, axis, epsilon) },
        double: { (_) throws(OperatorError) in LayerNormalization.plain(Double.self, axis, epsilon) })
    }
    if try context.type(0) == .float64 { return try plain() }
    return try ElementCandidate.choose(
      .layerNormalization, type: .float32,
      [
        .plain(plain),
        .vectors("rows") { () throws(OperatorError) in
          let codecs = (1...2).map { index in
            index < context.outputs.count ? context.outputs[index]?.tensor.flatMap { FloatCodec($0.dataType) } : nil
          }
          guard let narrow = NarrowRows(context) else {
            return LayerNormalization.fast(axis, epsilon, .none, codecs)
          }
          return try NarrowRows.prepare(context, parameters: [1, 2]) { (_) throws(OperatorError) in
            LayerNormalization.fast(axis, epsilon, narrow, codecs)
          }
        },
      ])
  }

  /// The rows of the input, and its parameters.
  private struct Rows: Sendable {
    let count: Int
    let length: Int
    let partition: Partition
    let scaleStride: Int
    let biasStride: Int
    let hasBias: Bool
    let wantsMean: Bool
    let wantsDeviation: Bool
  }

  /// A step of `rows` behind those that bring the parameters into rows. Its inputs are X, Scale and B, its outputs
  /// those of the node.
  private static func step(
    _ plan: PlanContext, axis: Int, width: Int, _ rows: (Rows) -> Step
  ) throws(OperatorError) -> Step {
    let shape = plan.shape(0)
    let axis = try resolveAxis(axis, rank: shape.rank)
    var sequence = StepSequence()
    guard let scale = try RowParameter(plan, 1, shape: shape, axis: axis, width: width, in: &sequence) else {
      throw .invalid("Scale is missing")
    }
    let bias = try RowParameter(plan, 2, shape: shape, axis: axis, width: width, in: &sequence)
    let (count, length) = (shape.count(of: 0..<axis), shape.count(of: axis..<shape.rank))
    let inner = rows(
      Rows(
        count: count, length: length, partition: Partition(count, of: .medium * length),
        scaleStride: scale.rowStride, biasStride: bias?.rowStride ?? 0, hasBias: bias != nil,
        wantsMean: plan.isWanted(1), wantsDeviation: plan.isWanted(2)))
    sequence.append(
      inner, inputs: [.input(0), scale.place, bias?.place ?? .none],
      outputs: [.output(0), plan.isWanted(1) ? .output(1) : .none, plan.isWanted(2) ? .output(2) : .none])
    return sequence.step.named(inner.kernelName).overwriting(0)
  }

  /// `codecs` are those of Mean and InvStdDev.
  private static func fast(
    _ axis: Int, _ epsilon: Float, _ narrow: NarrowRows, _ codecs: [FloatCodec?]
  ) -> PreparedKernel {
    let kernels = VectorKernels.current
    return .planned { (plan) throws(OperatorError) in
      try step(plan, axis: axis, width: 4) { rows in
        let bytes = narrow.scratchBytes(length: rows.length)
        return Step.parallel(parts: rows.partition.parts, scratchBytes: rows.partition.parts * bytes) { run, part in
          let (scale, bias): (UnsafePointer<Float>, UnsafePointer<Float>) = (run.input(1), run.input(2))
          withUnsafeTemporaryAllocation(of: Float.self, capacity: 2) { statistics in
            guard let moments = statistics.baseAddress else { return }
            // The mean of nothing, which the kernel leaves alone.
            statistics.initialize(repeating: .nan)
            for row in rows.partition.range(part) {
              narrow.with(run, row &* rows.length, rows.length, run.scratch + part &* bytes) { x, y in
                kernels.table.pointee.layer_norm_f32(
                  rows.length, x, y, scale + row &* rows.scaleStride,
                  rows.hasBias ? bias + row &* rows.biasStride : nil, epsilon, moments)
              }
              if rows.wantsMean { codecs[0]?.store(moments, run.outputBytes(1), row, 1) }
              if rows.wantsDeviation { codecs[1]?.store(moments + 1, run.outputBytes(2), row, 1) }
            }
          }
        }.named("layer_norm_f32")
      }
    }
  }

  private static func plain<Element: Real>(_ type: Element.Type, _ axis: Int, _ epsilon: Float) -> PreparedKernel {
    .planned { (plan) throws(OperatorError) in
      try step(plan, axis: axis, width: MemoryLayout<Element>.stride) { rows in
        Step.parallel(parts: rows.partition.parts) { run, part in
          for row in rows.partition.range(part) {
            let x = run.input(0, as: Element.self) + row &* rows.length
            let y = run.output(0, as: Element.self) + row &* rows.length
            let scale = run.input(1, as: Element.self) + row &* rows.scaleStride
            let bias = run.input(2, as: Element.self) + row &* rows.biasStride
            let moments = rowMoments(x, rows.length)
            let factor = 1 / (moments.variance + Double(epsilon)).squareRoot()
            for index in 0..<rows.length {
              let value = (Double(x[index]) - moments.mean) * factor * Double(scale[index])
              y[index] = Element(rows.hasBias ? value + Double(bias[index]) : value)
            }
            if rows.wantsMean { run.output(1, as: Element.self)[row] = Element(moments.mean) }
            if rows.wantsDeviation { run.output(2, as: Element.self)[row] = Element(factor) }
          }
        }.named("plain")
      }
    }
  }
}

/// The mean, and the mean of squares around it, in float64.
func rowMoments<Element: Real>(_ x: UnsafePointer<Element>, _ length: Int) -> (mean: Double, variance: Double) {
  var sum = 0.0
  for index in 0..<length { sum += Double(x[index]) }
  let mean = sum / Double(length)
  var squares = 0.0
  for index in 0..<length {
    let difference = Double(x[index]) - mean
    squares += difference * difference
  }
  return (mean, squares / Double(length))
}
