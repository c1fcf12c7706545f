// Conv of the engine's own domain: float32 images with channels last, and an epilogue. Made by passes only.
// Like https://onnx.ai/onnx/operators/onnx__Conv.html but for the layout of X and Y.

import ApusGraph
import ApusTensor

/// Y = activation(convolution(X, W) + B + residual). X, residual and Y are [batch, spatial axes…, channels]; W is in
/// the specification's layout and, to be fast, constant.
package struct ChannelsLastConv: EngineOperator {
  package let schema = OperatorSchema(
    "Conv", domain: "apus", versions: [1],
    inputs: [.required("X", "T"), .required("W", "T"), .optional("B", "T"), .optional("residual", "T")],
    outputs: [.required("Y", "T")],
    attributes: convolutionAttributes + Activation.attributes,
    types: ["T": [.float32]], multiplyAdds: convolutionProducts(weights: 1))

  package init() {}

  private static let operands = ConvolutionOperands(bias: 2, channelsLast: true)

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    try ChannelsLastConv.operands.infer(&context, outputType: context.type(0))
    guard let residual = context.shape(3), let output = context.outputs.first?.tensor?.shape else { return }
    if residual.count != output.count || zip(residual, output).contains(where: { $0.isSurelyDifferent(from: $1) }) {
      throw .mismatch("the residual has the shape \(residual); expected that of the output, \(output)")
    }
  }

  package func lower(_ node: Node, into builder: GraphBuilder) throws(OperatorError) {
    try LoweredOperations.lowerChannelsLast(node, residual: 3, into: builder)
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    try PreparedConvolution<Float>(
      context, ChannelsLastConv.operands, residual: 3, activation: try Activation(epilogueOf: context)
    ).prepared
  }
}
