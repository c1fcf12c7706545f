// LinearClassifier. https://onnx.ai/onnx/operators/onnx_aionnxml_LinearClassifier.html
// Versions: 1. `multi_class` says how the model was trained; the scores are computed the same way.

import ApusGraph
import ApusTensor

struct LinearClassifier: OperatorDefinition {
  let schema = OperatorSchema(
    "LinearClassifier", domain: "ai.onnx.ml", versions: [1],
    inputs: [.required("X", "T1")],
    outputs: [.required("Y", "T2"), .required("Z", "tensor(float)")],
    attributes: [
      .optional("classlabels_ints", .ints), .optional("classlabels_strings", .strings),
      .required("coefficients", .floats),
      .optional("intercepts", .floats), .int("multi_class", default: 0), .string("post_transform", default: "NONE"),
    ],
    types: ["T1": featureTypes, "T2": [.string, .int64], "tensor(float)": [.float32]])

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    node.noteExtraCoefficients(targets: node.attributes.floats("intercepts")?.count ?? 0, in: builder)
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let rows = try RowModelKernel.rows(context)
    let labels = try ClassLabels(context, integers: "classlabels_ints", isOptional: true)
    context.set(0, labels.dataType, [rows])
    let columns = context.shape(0)?.last?.known
    let targets = LinearClassifier.targets(context, columns: columns, labels)
    context.set(1, .float32, [rows, targets.map { Dim($0 == 1 && labels.count == 2 ? 2 : $0) } ?? .unknown])
  }

  /// The number of rows of coefficients: as many as intercepts, or as the features leave. Where their number is not
  /// known yet: as many as labels, of which two may have one row.
  private static func targets(_ context: some OperatorContext, columns: Int?, _ labels: ClassLabels) -> Int? {
    if let intercepts = context.optionalFloats("intercepts"), !intercepts.isEmpty { return intercepts.count }
    guard let columns, columns > 0 else { return labels.count > 0 ? labels.count : nil }
    return (context.optionalFloats("coefficients") ?? []).count / columns
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try context.type(0)
    let labels = try ClassLabels(context, integers: "classlabels_ints", isOptional: true)
    guard let targets = LinearClassifier.targets(context, columns: context.shape(0)?.last?.known, labels) else {
      throw .unsupported("without intercepts and labels the number of features must be known before running")
    }
    let isOpen = labels.count == 2 && targets == 2 && (context.optionalFloats("intercepts") ?? []).isEmpty
    let result: LinearResult =
      isOpen ? .oneOrTwoScores : targets > 1 ? .classes : labels.count == 2 ? .twoClasses : .oneClass
    let names: ClassLabels =
      result != .oneClass
      ? labels.filled(to: max(targets, 2)) : labels.count == 0 ? .integers([0, 1]) : labels.orNothing
    guard names.count >= (result == .classes ? targets : 2) else {
      throw .invalid("\(labels.count) class labels for \(targets) rows of coefficients")
    }
    let coefficients = context.optionalFloats("coefficients") ?? []
    let intercepts = context.optionalFloats("intercepts") ?? []
    let transform = try PostTransform(context)
    if type == .float64 {
      return try RowModelKernel.prepareClassifier(
        LinearModel<Double>(
          type, lane: .float64, coefficients: coefficients, intercepts: intercepts, transform: transform,
          result: result,
          targets: targets), names, context)
    }
    return try RowModelKernel.prepareClassifier(
      LinearModel<Float>(
        type, lane: .float32, coefficients: coefficients, intercepts: intercepts, transform: transform, result: result,
        targets: targets), names, context)
  }
}
