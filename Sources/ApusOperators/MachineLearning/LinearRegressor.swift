// LinearRegressor. https://onnx.ai/onnx/operators/onnx_aionnxml_LinearRegressor.html
// Versions: 1.

import ApusGraph
import ApusTensor

struct LinearRegressor: OperatorDefinition {
  let schema = OperatorSchema(
    "LinearRegressor", domain: "ai.onnx.ml", versions: [1],
    inputs: [.required("X", "T")],
    outputs: [.required("Y", "tensor(float)")],
    attributes: [
      .optional("coefficients", .floats), .optional("intercepts", .floats), .string("post_transform", default: "NONE"),
      .int("targets", default: 1),
    ],
    types: ["T": featureTypes, "tensor(float)": [.float32]])

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    node.noteExtraCoefficients(targets: node.attributes.int("targets") ?? 1, in: builder)
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, .float32, [try RowModelKernel.rows(context), Dim(try context.int("targets"))])
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try context.type(0)
    let coefficients = context.optionalFloats("coefficients") ?? []
    let intercepts = context.optionalFloats("intercepts") ?? []
    let transform = try PostTransform(context)
    let targets = try context.int("targets")
    if type == .float64 {
      return try RowModelKernel.prepareRegressor(
        LinearModel<Double>(
          type, lane: .float64, coefficients: coefficients, intercepts: intercepts, transform: transform,
          result: .regression, targets: targets), context)
    }
    return try RowModelKernel.prepareRegressor(
      LinearModel<Float>(
        type, lane: .float32, coefficients: coefficients, intercepts: intercepts, transform: transform,
        result: .regression, targets: targets), context)
  }
}
