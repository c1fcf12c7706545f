// Conv: convolution over any number of spatial axes. https://onnx.ai/onnx/operators/onnx__Conv.html
// Versions: 1, 11 (defaults of strides and dilations stated), 22 (bfloat16).

import ApusGraph
import ApusTensor

package struct Conv: OperatorDefinition {
  package let schema = OperatorSchema(
    "Conv", versions: [1, 11, 22],
    inputs: [.required("X", "T"), .required("W", "T"), .optional("B", "T")],
    outputs: [.required("Y", "T")],
    attributes: convolutionAttributes,
    types: ["T": .floats])

  /// True: never the fast form, for tests that hold the two against each other.
  private let isDirect: Bool

  package init(direct: Bool = false) { isDirect = direct }

  private static let operands = ConvolutionOperands(bias: 2)

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    try Conv.operands.infer(&context, outputType: context.type(0))
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    switch try context.type(0) {
    case .float32: try prepareFloat(context)
    case .float64:
      .planned(PreparedConvolution<Double>(context, Conv.operands, weights: nil, ConvolutionEpilogue()))
    case .float16, .bfloat16:
      try StagedKernel.prepare(context, packed: [1]) { (context) throws(OperatorError) in try prepareFloat(context) }
    case let type: throw context.unsupportedType(type)
    }
  }

  private func prepareFloat(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let weights = isDirect ? nil : try ConvolutionWeights(context, input: 1)
    return .planned(
      PreparedConvolution<Float>(context, Conv.operands, weights: weights, ConvolutionEpilogue(), isDirect: isDirect))
  }
}
