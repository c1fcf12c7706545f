// QLinearConv: convolution of quantized tensors. https://onnx.ai/onnx/operators/onnx__QLinearConv.html
// Versions: 10.

import ApusGraph
import ApusTensor

/// With `channelsLast` the operator of the engine's own domain, made by passes only: x and y are [batch, spatial axes…,
/// channels]; w is in the specification's layout.
package struct QLinearConv: EngineOperator {
  package let schema: OperatorSchema
  private let operands: IntegerOperands

  package init(channelsLast: Bool = false) {
    operands = IntegerOperands(
      operands: ConvolutionOperands(x: 0, w: 3, bias: 8, channelsLast: channelsLast), xZero: 2, wZero: 5,
      requantization: .init(xScale: 1, wScale: 4, yScale: 6, yZero: 7))
    schema = OperatorSchema(
      "QLinearConv", domain: channelsLast ? "apus" : "", versions: channelsLast ? [1] : [10],
      inputs: [
        .required("x", "T1"), .required("x_scale", "tensor(float)"), .required("x_zero_point", "T1"),
        .required("w", "T2"),
        .required("w_scale", "tensor(float)"), .required("w_zero_point", "T2"), .required("y_scale", "tensor(float)"),
        .required("y_zero_point", "T3"), .optional("B", "T4"),
      ],
      outputs: [.required("y", "T3")],
      attributes: convolutionAttributes,
      types: [
        "T1": [.int8, .uint8], "T2": [.int8, .uint8], "T3": [.int8, .uint8], "T4": [.int32],
        "tensor(float)": [.float32],
      ],
      layout: channelsLast
        ? .fixed
        : .images(twin: OperatorID("QLinearConv", domain: "apus"), isFaster: { _ in true }) { $0.constant(3) != nil },
      multiplyAdds: convolutionProducts(weights: 3))
  }

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    try operands.operands.infer(&context, outputType: context.type(7))
    try operands.inferParameters(context)
  }

  /// Of the operator with channels at the end.
  package func lower(_ node: Node, into builder: GraphBuilder) throws(OperatorError) {
    try LoweredOperations.lowerChannelsLast(node, into: builder)
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .planned(try IntegerConvolution(context, operands))
  }
}
