// Binarizer: 1 above a threshold, else 0. https://onnx.ai/onnx/operators/onnx_aionnxml_Binarizer.html
// Versions: 1.

import ApusGraph
import ApusTensor

struct Binarizer: OperatorDefinition {
  let schema = OperatorSchema(
    "Binarizer", domain: "ai.onnx.ml", versions: [1],
    inputs: [.required("X", "T")],
    outputs: [.required("Y", "T")],
    attributes: [.float("threshold", default: 0)],
    types: ["T": featureTypes])

  func infer(_ context: inout InferenceContext) throws(OperatorError) { context.copy() }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let threshold = Double(try context.float("threshold"))
    return try FeatureKernel.prepare(context) { values, count, _, _ in
      for index in 0..<count { values[index] = values[index] > threshold ? 1 : 0 }
    }
  }
}
