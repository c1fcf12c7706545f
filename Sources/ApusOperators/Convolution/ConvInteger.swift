// ConvInteger: convolution of 8-bit integers into 32 bits. https://onnx.ai/onnx/operators/onnx__ConvInteger.html
// Versions: 10.

import ApusGraph
import ApusTensor

package struct ConvInteger: OperatorDefinition {
  package init() {}

  package let schema = OperatorSchema(
    "ConvInteger", versions: [10],
    inputs: [
      .required("x", "T1"), .required("w", "T2"), .optional("x_zero_point", "T1"), .optional("w_zero_point", "T2"),
    ],
    outputs: [.required("y", "T3")],
    attributes: convolutionAttributes,
    types: ["T1": [.int8, .uint8], "T2": [.int8, .uint8], "T3": [.int32]], multiplyAdds: convolutionProducts(weights: 1)
  )

  private static let operands = IntegerOperands(operands: ConvolutionOperands(), xZero: 2, wZero: 3)

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    try ConvInteger.operands.operands.infer(&context, outputType: .int32)
    try ConvInteger.operands.inferParameters(context)
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .planned(try IntegerConvolution(context, ConvInteger.operands))
  }
}
