// TreeEnsemble: branches and leaves in lists of their own, and sets as conditions. Versions: 5.
// https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html

import ApusGraph
import ApusTensor

struct TreeEnsemble: OperatorDefinition {
  let schema = OperatorSchema(
    "TreeEnsemble", domain: "ai.onnx.ml", versions: [5],
    inputs: [.required("X", "T")],
    outputs: [.required("Y", "T")],
    attributes: [
      .int("aggregate_function", default: 1), .required("leaf_targetids", .ints), .required("leaf_weights", .tensor),
      .optional("membership_values", .tensor), .optional("n_targets", .int), .required("nodes_falseleafs", .ints),
      .required("nodes_falsenodeids", .ints), .required("nodes_featureids", .ints),
      .optional("nodes_hitrates", .tensor),
      .optional("nodes_missing_value_tracks_true", .ints), .required("nodes_modes", .tensor),
      .required("nodes_splits", .tensor), .required("nodes_trueleafs", .ints), .required("nodes_truenodeids", .ints),
      .int("post_transform", default: 0), .required("tree_roots", .ints),
    ],
    types: ["T": .ieeeFloats])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, context.type(0), [try RowModelKernel.rows(context), Dim(try TreeEnsemble.targets(context))])
  }

  /// n_targets, or as many as the leaves name.
  private static func targets(_ context: some OperatorContext) throws(OperatorError) -> Int {
    let largest = try context.ints("leaf_targetids").max() ?? 0
    let targets = context.optionalInt("n_targets") ?? (largest < 1 << 24 ? largest + 1 : 0)
    guard targets > 0, targets <= 1 << 24 else { throw .invalid("n_targets is \(targets)") }
    return targets
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let (aggregate, transform) = (try context.int("aggregate_function"), try context.int("post_transform"))
    let aggregates: [TreeAggregate] = [.average, .sum, .minimum, .maximum]
    let transforms: [PostTransform] = [.none, .softmax, .logistic, .softmaxZero, .probit]
    guard aggregates.indices.contains(aggregate), transforms.indices.contains(transform) else {
      throw .invalid("aggregate_function is \(aggregate) and post_transform \(transform); expected 0 to 3 and 0 to 4")
    }
    return try prepareTrees(
      context, forest(context), aggregate: aggregates[aggregate], base: [], transform: transforms[transform],
      result: .regression, labels: nil, isDouble: context.type(0) == .float64)
  }

  private func forest(_ context: PrepareContext) throws(OperatorError) -> TreeForest {
    func numbers(_ name: String) throws(OperatorError) -> [Double] {
      guard let tensor = context.optionalTensor(name) else { return [] }
      return try doubles(of: tensor)
    }
    let features = try context.ints("nodes_featureids")
    let modes = context.optionalTensor("nodes_modes")?.integers ?? []
    let splits = try numbers("nodes_splits")
    let (onTrue, onFalse) = (try context.ints("nodes_truenodeids"), try context.ints("nodes_falsenodeids"))
    let (trueLeaves, falseLeaves) = (try context.ints("nodes_trueleafs"), try context.ints("nodes_falseleafs"))
    let missing = context.optionalInts("nodes_missing_value_tracks_true") ?? []
    let counts = [modes.count, splits.count, onTrue.count, onFalse.count, trueLeaves.count, falseLeaves.count]
    guard counts.allSatisfy({ $0 == features.count }), missing.isEmpty || missing.count == features.count else {
      throw .invalid(
        "the lists nodes_* have \(features.count), \(counts) and \(missing.count) elements; expected equal counts")
    }
    let (targets, weights) = (try context.ints("leaf_targetids"), try numbers("leaf_weights"))
    guard targets.count == weights.count else {
      throw .invalid("there are \(targets.count) leaf_targetids and \(weights.count) leaf_weights")
    }
    var builder = TreeForestBuilder(
      branches: [], leaves: zip(targets, weights).map { [(target: $0, weight: $1)] }, roots: [],
      targetCount: try TreeEnsemble.targets(context))
    // Each set ends with NaN.
    let members = try numbers("membership_values")
    builder.sets = members.split(omittingEmptySubsequences: false) { $0.isNaN }.map { Array($0) }
    if builder.sets.last?.isEmpty == true { builder.sets.removeLast() }
    var set = 0
    for index in features.indices {
      guard let mode = UInt8(exactly: modes[index]).flatMap(TreeMode.init(rawValue:)) else {
        throw .invalid("the node mode \(modes[index]) is not known; expected 0 to 6")
      }
      builder.branches.append(
        .init(
          mode: mode, feature: features[index], threshold: splits[index],
          onTrue: trueLeaves[index] != 0 ? .leaf(onTrue[index]) : .branch(onTrue[index]),
          onFalse: falseLeaves[index] != 0 ? .leaf(onFalse[index]) : .branch(onFalse[index]),
          isMissingTrue: !missing.isEmpty && missing[index] != 0, set: set))
      if mode == .member { set += 1 }
    }
    guard set <= builder.sets.count else {
      throw .invalid("membership_values has \(builder.sets.count) sets, ended by NaN, for \(set) nodes")
    }
    for root in try context.ints("tree_roots") {
      guard features.indices.contains(root) else { throw .invalid("the root \(root) does not exist") }
      // A tree that is a leaf is written as a node with that leaf on both sides.
      let isLeaf = trueLeaves[root] != 0 && falseLeaves[root] != 0 && onTrue[root] == onFalse[root]
      builder.roots.append(isLeaf ? .leaf(onTrue[root]) : .branch(root))
    }
    return try builder.build()
  }
}
