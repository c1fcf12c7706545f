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
    types: ["T": .floats, "U": [.float32, .bfloat16]])

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
    return try prepareReal(
      context,
      float: { (_) throws(OperatorError) in
        try ElementCandidate.choose(
          .layerNormalization, type: .float32,
          [
            .plain { LayerNormalization.plain(Float.self, axis, epsilon) },
            .vectors("rows") { LayerNormalization.fast(axis, epsilon) },
          ])
      },
      double: { (_) throws(OperatorError) in LayerNormalization.plain(Double.self, axis, epsilon) })
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

  private static func fast(_ axis: Int, _ epsilon: Float) -> PreparedKernel {
    let kernels = VectorKernels.current
    return .planned { (plan) throws(OperatorError) in
      try step(plan, axis: axis, width: 4) { rows in
        Step.parallel(parts: rows.partition.parts) { run, part in
          let (x, y): (UnsafePointer<Float>, UnsafeMutablePointer<Float>) = (run.input(0), run.output(0))
          let (scale, bias): (UnsafePointer<Float>, UnsafePointer<Float>) = (run.input(1), run.input(2))
          withUnsafeTemporaryAllocation(of: Float.self, capacity: 2) { statistics in
            // The mean of nothing, which the kernel leaves alone.
            statistics.initialize(repeating: .nan)
            for row in rows.partition.range(part) {
              kernels.table.pointee.layer_norm_f32(
                rows.length, x + row &* rows.length, y + row &* rows.length, scale + row &* rows.scaleStride,
                rows.hasBias ? bias + row &* rows.biasStride : nil, epsilon, statistics.baseAddress)
              if rows.wantsMean { run.output(1, as: Float.self)[row] = statistics[0] }
              if rows.wantsDeviation { run.output(2, as: Float.self)[row] = statistics[1] }
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
