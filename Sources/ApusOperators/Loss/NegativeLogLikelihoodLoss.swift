// NegativeLogLikelihoodLoss: the loss of log-probabilities.
// https://onnx.ai/onnx/operators/onnx__NegativeLogLikelihoodLoss.html Versions: 12, 13 (targets of several axes), 22
// (bfloat16).

import ApusGraph
import ApusTensor

package struct NegativeLogLikelihoodLoss: OperatorDefinition {
  package let schema = OperatorSchema(
    "NegativeLogLikelihoodLoss", versions: [12, 13, 22],
    inputs: [.required("input", "T"), .required("target", "Tind"), .optional("weight", "T")],
    outputs: [.required("loss", "T")], attributes: NegativeLogLikelihood.attributes,
    types: ["T": .floats, "Tind": .indices], portable: .moreTypes)

  package init() {}

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, context.type(0), try NegativeLogLikelihood(context).lossShape(context))
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let loss = try NegativeLogLikelihood(context)
    func kernel<Element: Real>(_ type: Element.Type) -> PreparedKernel {
      .planned { plan in
        loss.step(type, shape: plan.shape(0), target: plan.inputs[1]?.dataType ?? .int64, hasWeights: plan.isPresent(2))
      }
    }
    return try prepareReal(
      context, float: { (_) throws(OperatorError) in kernel(Float.self) },
      double: { (_) throws(OperatorError) in kernel(Double.self) })
  }
}
