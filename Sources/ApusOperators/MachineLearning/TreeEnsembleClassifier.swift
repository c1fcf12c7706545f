// TreeEnsembleClassifier. https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsembleClassifier.html
// Versions: 1, 3 (numbers as tensors of float64), 5 (deprecated for TreeEnsemble).

import ApusGraph
import ApusTensor

struct TreeEnsembleClassifier: OperatorDefinition {
  let schema = OperatorSchema(
    "TreeEnsembleClassifier", domain: "ai.onnx.ml", versions: [1, 3, 5],
    inputs: [.required("X", "T1")],
    outputs: [.required("Y", "T2"), .required("Z", "tensor(float)")],
    attributes: LegacyTrees.attributes(prefix: "class") + [
      .optional("classlabels_int64s", .ints), .optional("classlabels_strings", .strings),
    ],
    types: ["T1": featureTypes, "T2": [.string, .int64], "tensor(float)": [.float32]])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let rows = try RowModelKernel.rows(context)
    let labels = try ClassLabels(context, integers: "classlabels_int64s")
    context.set(0, labels.dataType, [rows])
    context.set(1, .float32, [rows, Dim(labels.count)])
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let labels = try ClassLabels(context, integers: "classlabels_int64s")
    let classIDs = context.optionalInts("class_ids") ?? []
    var base = try LegacyTrees.numbers(context, "base_values")
    let isDouble = LegacyTrees.isDouble(context, prefix: "class")
    let transform = try PostTransform(context)
    // Two classes of which the leaves name the first: its score says how much the second class is meant.
    if labels.count == 2, !classIDs.isEmpty, classIDs.allSatisfy({ $0 == 0 }) {
      let isProbability = try LegacyTrees.numbers(context, "class_weights").allSatisfy { $0 >= 0 }
      guard base.count <= 2 else { throw .invalid("\(base.count) base_values for 2 classes") }
      base = Array(base.prefix(1))
      let forest = try LegacyTrees.forest(context, prefix: "class", targetCount: 1, isJoined: true)
      return try prepareTrees(
        context, forest, aggregate: .sum, base: base, transform: transform,
        result: .twoClasses(isProbability: isProbability), labels: labels, isDouble: isDouble)
    }
    if base.count == 1, labels.count > 1 { base += [Double](repeating: 0, count: labels.count - 1) }
    guard base.isEmpty || base.count == labels.count else {
      throw .invalid("\(base.count) base_values for \(labels.count) classes")
    }
    let forest = try LegacyTrees.forest(context, prefix: "class", targetCount: labels.count)
    return try prepareTrees(
      context, forest, aggregate: .sum, base: base, transform: transform,
      result: labels.count == 1 ? .oneClass : .classes, labels: labels.count == 1 ? labels.orNothing : labels,
      isDouble: isDouble)
  }
}
