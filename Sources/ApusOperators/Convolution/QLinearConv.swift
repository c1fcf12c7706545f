// QLinearConv: convolution of quantized tensors. https://onnx.ai/onnx/operators/onnx__QLinearConv.html
// Versions: 10.

import ApusGraph
import ApusTensor

package struct QLinearConv: OperatorDefinition {
  package init() {}

  package let schema = OperatorSchema(
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

  private static let operands = IntegerOperands(
    operands: ConvolutionOperands(x: 0, w: 3, bias: 8), xZero: 2, wZero: 5,
    requantization: .init(xScale: 1, wScale: 4, yScale: 6, yZero: 7))

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    try QLinearConv.operands.operands.infer(&context, outputType: context.type(7))
    try QLinearConv.operands.inferParameters(context)
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .planned(try IntegerConvolution(context, QLinearConv.operands))
  }
}
