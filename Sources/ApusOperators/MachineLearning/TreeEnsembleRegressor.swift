// TreeEnsembleRegressor. https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsembleRegressor.html
// Versions: 1, 3 (numbers as tensors of float64), 5 (deprecated for TreeEnsemble).

import ApusGraph
import ApusTensor

struct TreeEnsembleRegressor: OperatorDefinition {
  let schema = OperatorSchema(
    "TreeEnsembleRegressor", domain: "ai.onnx.ml", versions: [1, 3, 5],
    inputs: [.required("X", "T")],
    outputs: [.required("Y", "tensor(float)")],
    attributes: LegacyTrees.attributes(prefix: "target") + [
      .string("aggregate_function", default: "SUM"), .optional("n_targets", .int),
    ],
    types: ["T": featureTypes, "tensor(float)": [.float32]])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, .float32, [try RowModelKernel.rows(context), Dim(try context.int("n_targets"))])
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let targets = try context.int("n_targets")
    guard targets > 0, targets <= 1 << 24 else { throw .invalid("n_targets is \(targets)") }
    let name = try context.string("aggregate_function", oneOf: TreeAggregate.allCases.map(\.rawValue))
    var base = try LegacyTrees.numbers(context, "base_values")
    if base.count != targets {
      guard base.isEmpty else { throw .invalid("\(base.count) base_values for \(targets) targets") }
      base = []
    }
    return try prepareTrees(
      context, LegacyTrees.forest(context, prefix: "target", targetCount: targets),
      aggregate: TreeAggregate(rawValue: name) ?? .sum, base: base, transform: PostTransform(context),
      result: .regression,
      labels: nil, isDouble: LegacyTrees.isDouble(context, prefix: "target"))
  }
}
