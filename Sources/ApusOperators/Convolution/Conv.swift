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
    types: ["T": .floats],
    layout: .images(
      twin: OperatorID("Conv", domain: "apus"), isFaster: { !ConvolutionFacts.staysPlanar($0) },
      isFasterAlone: { !ConvolutionFacts.isFastestPlanar($0) }
    ) { $0.type(0) == .float32 && $0.constant(1) != nil },
    portable: .moreTypes, multiplyAdds: convolutionProducts(weights: 1), axes: AxisRules.convolution,
    weights: WeightTrait(bias: 2) { facts in
      WeightTrait.Axes(outputs: 0, inputs: 1, data: 1, result: 1, groups: facts.optionalInt("group") ?? 1)
    })

  package init() {}

  private static let operands = ConvolutionOperands(bias: 2)

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    try Conv.operands.infer(&context, outputType: context.type(0))
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    switch try context.type(0) {
    case .float32: try PreparedConvolution<Float>(context, Conv.operands).prepared
    case .float64: try PreparedConvolution<Double>(context, Conv.operands).prepared
    case .float16, .bfloat16:
      try StagedKernel.prepare(context, packed: [1]) { (context) throws(OperatorError) in
        try PreparedConvolution<Float>(context, Conv.operands).prepared
      }
    case let type: throw context.unsupportedType(type)
    }
  }
}
