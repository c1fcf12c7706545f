// ConvInteger: convolution of 8-bit integers into 32 bits. https://onnx.ai/onnx/operators/onnx__ConvInteger.html
// Versions: 10.

import ApusGraph
import ApusTensor

struct ConvInteger: OperatorDefinition {
  let schema = OperatorSchema(
    "ConvInteger", versions: [10],
    inputs: [.required("x", "T1"), .required("w", "T2"), .optional("x_zero_point", "T1"), .optional("w_zero_point", "T2")],
    outputs: [.required("y", "T3")],
    attributes: convolutionAttributes,
    types: ["T1": [.int8, .uint8], "T2": [.int8, .uint8], "T3": [.int32]])

  private static let source = IntegerConvolution(operands: ConvolutionOperands(), xZero: 2, wZero: 3)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    try ConvInteger.source.operands.infer(&context, outputType: .int32)
    try ConvInteger.source.inferZeroPoints(context)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let attributes = NodeAttributes(context)
    let source = IntegerConvolution(
      operands: ConvInteger.source.operands, xZero: context.isPresent(2) ? 2 : nil, wZero: context.isPresent(3) ? 3 : nil)
    return .planned { (plan) throws(OperatorError) in
      let sums = try source.plan(attributes, plan)
      return Step(phases: sums.phases, scratchBytes: sums.scratchBytes) { run, phase, part in
        sums.run(run, phase: phase, part: part, target: run.output())
      }.named("direct", operations: sums.convolution.operations)
    }
  }
}
