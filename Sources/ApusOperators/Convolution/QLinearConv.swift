// QLinearConv: convolution of quantized tensors. https://onnx.ai/onnx/operators/onnx__QLinearConv.html
// Versions: 10.

import ApusGraph
import ApusTensor

struct QLinearConv: OperatorDefinition {
  let schema = OperatorSchema(
    "QLinearConv", versions: [10],
    inputs: [
      .required("x", "T1"), .required("x_scale", "tensor(float)"), .required("x_zero_point", "T1"), .required("w", "T2"),
      .required("w_scale", "tensor(float)"), .required("w_zero_point", "T2"), .required("y_scale", "tensor(float)"),
      .required("y_zero_point", "T3"), .optional("B", "T4"),
    ],
    outputs: [.required("y", "T3")],
    attributes: convolutionAttributes,
    types: [
      "T1": [.int8, .uint8], "T2": [.int8, .uint8], "T3": [.int8, .uint8], "T4": [.int32], "tensor(float)": [.float32],
    ])

  private static let source = IntegerConvolution(
    operands: ConvolutionOperands(x: 0, w: 3, bias: 8), xZero: 2, wZero: 5)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let source = QLinearConv.source
    try source.operands.infer(&context, outputType: context.type(7))
    try source.inferZeroPoints(context)
    try source.expectScalar(context, 1, name: "x_scale")
    try source.expectScalarOrChannels(context, 4, name: "w_scale")
    try source.expectScalar(context, 6, name: "y_scale")
    try source.expectScalar(context, 7, name: "y_zero_point")
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let attributes = NodeAttributes(context)
    let isSigned = context.outputType(0) == .int8
    return .planned { (plan) throws(OperatorError) in
      let sums = try QLinearConv.source.plan(attributes, plan)
      let planes = sums.convolution.batch &* sums.convolution.outputChannels
      let channels = sums.convolution.outputChannels
      let area = sums.convolution.geometry.outputCount
      let partition = Partition(planes, minimum: max(1, 32_768 / max(area, 1)))
      let scaleStride = plan.shape(4).elementCount > 1 ? 1 : 0
      let hasBias = plan.isPresent(8)
      let (offset, bytes) = (sums.scratchBytes, aligned(planes &* area &* 4))
      return Step(phases: sums.phases + [partition.parts], scratchBytes: offset + bytes) { run, phase, part in
        let target = (run.scratch + offset).assumingMemoryBound(to: Int32.self)
        if phase < 2 { return sums.run(run, phase: phase, part: part, target: target) }
        let (xScale, wScale, yScale) = (run.input(1, as: Float.self), run.input(4, as: Float.self), run.input(6, as: Float.self))
        let bias: UnsafePointer<Int32>? = hasBias ? run.input(8) : nil
        let zeroByte = run.input(7, as: UInt8.self)[0]
        let zero = isSigned ? Int32(Int8(bitPattern: zeroByte)) : Int32(zeroByte)
        for plane in partition.range(part) {
          let channel = plane % channels
          let scale = Double(xScale[0] * wScale[channel &* scaleStride] / yScale[0])
          requantize(
            target + plane &* area, run.output(0, as: UInt8.self) + plane &* area, count: area,
            bias: bias?[channel] ?? 0, scale: scale, zero: zero, isSigned: isSigned)
        }
      }.named("direct", operations: sums.convolution.operations)
    }
  }
}

/// Each sum plus `bias`, times `scale`, rounded half to even, plus `zero`, saturated to 8 bits.
private func requantize(
  _ sums: UnsafePointer<Int32>, _ target: UnsafeMutablePointer<UInt8>, count: Int, bias: Int32, scale: Double, zero: Int32,
  isSigned: Bool
) {
  let (low, high): (Double, Double) = isSigned ? (-128, 127) : (0, 255)
  for index in 0..<count {
    let value = (Double(sums[index] &+ bias) * scale).rounded(.toNearestOrEven) + Double(zero)
    // NaN, from a scale of 0, becomes the lower bound.
    let clamped = value >= high ? high : value > low ? value : low
    target[index] = UInt8(truncatingIfNeeded: Int(clamped))
  }
}
