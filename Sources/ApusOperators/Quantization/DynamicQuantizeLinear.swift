// DynamicQuantizeLinear: quantizes to uint8 with the scale and zero point that the data ask for.
// https://onnx.ai/onnx/operators/onnx__DynamicQuantizeLinear.html. Versions: 11.

import ApusGraph
import ApusTensor
import CApusKernels

struct DynamicQuantizeLinear: OperatorDefinition {
  let schema = OperatorSchema(
    "DynamicQuantizeLinear", versions: [11], inputs: [.required("x", "T1")],
    outputs: [.required("y", "T2"), .required("y_scale", "tensor(float)"), .required("y_zero_point", "T2")],
    types: ["T1": [.float32], "T2": [.uint8], "tensor(float)": [.float32]])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, .uint8, context.shape(0))
    context.set(1, .float32, [])
    context.set(2, .uint8, [])
  }

  /// Elements whose extremes a part finds: one that is no number hides those beside it.
  private static let extremesLength = 16_384

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .planned { plan throws(OperatorError) in
      let count = plan.shape(0).elementCount
      let partition = Partition(count, sumLength: Self.extremesLength)
      let kernels = apus_kernels().pointee
      let (maximum, minimum, quantize) = (kernels.max_f32, kernels.min_f32, kernels.quantize_u8)
      let (wantsY, wantsScale, wantsZero) = (plan.isWanted(0), plan.isWanted(1), plan.isWanted(2))
      let step = Step(phases: [partition.parts, partition.parts], scratchBytes: partition.parts * 8) {
        run, phase, part in
        let range = partition.range(part)
        let x = run.input(0, as: Float.self) + range.lowerBound
        let extremes = run.scratch.assumingMemoryBound(to: Float.self)
        if phase == 0 {
          extremes[2 &* part] = minimum(range.count, x)
          extremes[2 &* part &+ 1] = maximum(range.count, x)
          return
        }
        let (scale, zero) = DynamicQuantizeLinear.parameters(extremes, parts: partition.parts)
        if wantsY { quantize(range.count, x, run.outputBytes(0) + range.lowerBound, scale, Int32(zero)) }
        if part == 0 && wantsScale { run.output(1, as: Float.self).pointee = scale }
        if part == 0 && wantsZero { run.output(2, as: UInt8.self).pointee = zero }
      }
      return step.named("DynamicQuantizeLinear", cost: Cost(operations: 5 * count))
    }
  }

  /// Scale and zero point for the least and greatest element, given as pairs. All elements equal to 0: a scale of 1 /
  /// 255.
  private static func parameters(_ extremes: UnsafePointer<Float>, parts: Int) -> (scale: Float, zero: UInt8) {
    var (low, high): (Float, Float) = (0, 0)
    for part in 0..<parts {
      if extremes[2 &* part] < low { low = extremes[2 &* part] }
      if extremes[2 &* part &+ 1] > high { high = extremes[2 &* part &+ 1] }
    }
    let scale = (low == high ? 1 : high - low) / 255
    let zero = clamp(0 - low / scale, 0, 255).rounded(.toNearestOrEven)
    return (scale, zero >= 0 && zero <= 255 ? UInt8(zero) : 0)
  }
}
