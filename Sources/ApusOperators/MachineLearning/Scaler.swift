// Scaler: (X − offset) · scale. https://onnx.ai/onnx/operators/onnx_aionnxml_Scaler.html
// Versions: 1.

import ApusGraph
import ApusTensor

struct Scaler: OperatorDefinition {
  let schema = OperatorSchema(
    "Scaler", domain: "ai.onnx.ml", versions: [1],
    inputs: [.required("X", "T")],
    outputs: [.required("Y", "tensor(float)")],
    attributes: [.optional("offset", .floats), .optional("scale", .floats)],
    types: ["T": featureTypes, "tensor(float)": [.float32]])

  func infer(_ context: inout InferenceContext) throws(OperatorError) { context.set(0, .float32, context.shape(0)) }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let offsets = (context.optionalFloats("offset") ?? [0]).map { Double($0) }
    let scales = (context.optionalFloats("scale") ?? [1]).map { Double($0) }
    return try FeatureKernel.prepare(
      context,
      check: { (columns) throws(OperatorError) in
        try FeatureKernel.check(offsets.count, columns: columns, "offset")
        try FeatureKernel.check(scales.count, columns: columns, "scale")
      },
      body: { values, count, first, columns in
        var column = first
        for index in 0..<count {
          let offset = offsets.count == 1 ? offsets[0] : offsets[column]
          values[index] = (values[index] - offset) * (scales.count == 1 ? scales[0] : scales[column])
          column = column &+ 1 == columns ? 0 : column &+ 1
        }
      })
  }
}
