// SoftmaxCrossEntropyLoss: the loss of scores. https://onnx.ai/onnx/operators/onnx__SoftmaxCrossEntropyLoss.html
// Versions: 12, 13 (bfloat16).

import ApusGraph
import ApusTensor

package struct SoftmaxCrossEntropyLoss: OperatorDefinition {
  package let schema = OperatorSchema(
    "SoftmaxCrossEntropyLoss", versions: [12, 13],
    inputs: [.required("scores", "T"), .required("labels", "Tind"), .optional("weights", "T")],
    outputs: [.required("output", "T"), .optional("log_prob", "T")], attributes: NegativeLogLikelihood.attributes,
    types: ["T": .floats, "Tind": .indices])

  package init() {}

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, context.type(0), try NegativeLogLikelihood(context).lossShape(context))
    context.copy(to: 1)
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let loss = try NegativeLogLikelihood(context)
    let softmax = Softmax(logarithm: true)
    func kernel<Element: Real>(_ type: Element.Type, _ logarithm: @escaping @Sendable (AxisRows) -> Step)
      -> PreparedKernel
    {
      .planned { plan in
        let shape = plan.shape(0)
        var sequence = StepSequence()
        let probabilities =
          plan.isWanted(1) ? .output(1) : sequence.reserve(bytes: shape.elementCount * MemoryLayout<Element>.stride)
        sequence.append(logarithm(AxisRows(shape, axis: 1)), inputs: [.input(0)], outputs: [probabilities])
        let step = loss.step(
          type, shape: shape, target: plan.inputs[1]?.dataType ?? .int64, hasWeights: plan.isPresent(2))
        sequence.append(
          step, inputs: [probabilities, .input(1), plan.isPresent(2) ? .input(2) : .none], outputs: [.output(0)])
        return sequence.step
      }
    }
    return try prepareReal(
      context, float: { (_) throws(OperatorError) in kernel(Float.self) { softmax.fastStep($0) } },
      double: { (_) throws(OperatorError) in kernel(Double.self) { softmax.plainStep($0, Double.self) } })
  }
}
