// The attributes that TreeEnsembleRegressor and TreeEnsembleClassifier have in common: one list entry a node, leaves
// among them, nodes by tree and number. Versions: 1, 3 (numbers as tensors of float64), 5 (deprecated).

import ApusGraph
import ApusTensor

enum LegacyTrees {
  /// The attributes of nodes; `prefix` is "target" or "class".
  static func attributes(prefix: String) -> [AttributeSchema] {
    [
      .optional("base_values", .floats), .optional("base_values_as_tensor", .tensor),
      .optional("nodes_falsenodeids", .ints), .optional("nodes_featureids", .ints),
      .optional("nodes_hitrates", .floats),
      .optional("nodes_hitrates_as_tensor", .tensor), .optional("nodes_missing_value_tracks_true", .ints),
      .optional("nodes_modes", .strings), .optional("nodes_nodeids", .ints), .optional("nodes_treeids", .ints),
      .optional("nodes_truenodeids", .ints), .optional("nodes_values", .floats),
      .optional("nodes_values_as_tensor", .tensor), .string("post_transform", default: "NONE"),
      .optional("\(prefix)_ids", .ints), .optional("\(prefix)_nodeids", .ints), .optional("\(prefix)_treeids", .ints),
      .optional("\(prefix)_weights", .floats), .optional("\(prefix)_weights_as_tensor", .tensor),
    ]
  }

  /// Numbers given as floats or as a tensor of float64.
  static func numbers(_ context: some OperatorContext, _ name: String) throws(OperatorError) -> [Double] {
    if let tensor = context.optionalTensor("\(name)_as_tensor") { return try doubles(of: tensor) }
    return (context.optionalFloats(name) ?? []).map { Double($0) }
  }

  /// True if sums are made in float64: for features of float64 and for weights that are.
  static func isDouble(_ context: PrepareContext, prefix: String) -> Bool {
    context.optionalType(0) == .float64
      || ["\(prefix)_weights", "base_values", "nodes_values"].contains {
        context.optionalTensor("\($0)_as_tensor")?.dataType == .float64
      }
  }

  private struct Key: Hashable {
    let tree: Int
    let node: Int
  }

  /// The forest with its leaves; `isJoined`: with one target, to which the weights of all belong.
  static func forest(
    _ context: PrepareContext, prefix: String, targetCount: Int, isJoined: Bool = false
  ) throws(OperatorError) -> TreeForest {
    let trees = context.optionalInts("nodes_treeids") ?? []
    let ids = context.optionalInts("nodes_nodeids") ?? []
    let features = context.optionalInts("nodes_featureids") ?? []
    let modes = context.optionalStrings("nodes_modes") ?? []
    let values = try numbers(context, "nodes_values")
    let onTrue = context.optionalInts("nodes_truenodeids") ?? []
    let onFalse = context.optionalInts("nodes_falsenodeids") ?? []
    let missing = context.optionalInts("nodes_missing_value_tracks_true") ?? []
    let counts = [ids.count, features.count, modes.count, values.count, onTrue.count, onFalse.count]
    guard !trees.isEmpty, counts.allSatisfy({ $0 == trees.count }), missing.isEmpty || missing.count == trees.count
    else {
      throw .invalid(
        "the lists nodes_* have \(trees.count), \(counts) and \(missing.count) elements; expected equal counts")
    }
    var positions: [Key: Int] = [:]
    positions.reserveCapacity(trees.count)
    var builder = TreeForestBuilder(
      branches: [], leaves: [[(target: Int, weight: Double)]](repeating: [], count: trees.count), roots: [],
      targetCount: targetCount)
    var seen: Set<Int> = []
    var isLeaf: [Bool] = []
    for index in trees.indices {
      guard positions.updateValue(index, forKey: Key(tree: trees[index], node: ids[index])) == nil else {
        throw .invalid("the node \(ids[index]) of tree \(trees[index]) is there twice")
      }
      isLeaf.append(try TreeMode.named(modes[index]) == nil)
      if seen.insert(trees[index]).inserted { builder.roots.append(isLeaf[index] ? .leaf(index) : .branch(index)) }
    }
    func reference(_ node: Int, of tree: Int) throws(OperatorError) -> TreeForestBuilder.Reference {
      guard let position = positions[Key(tree: tree, node: node)] else {
        throw .invalid("the node \(node) of tree \(tree) does not exist")
      }
      return isLeaf[position] ? .leaf(position) : .branch(position)
    }
    for index in trees.indices {
      guard let mode = try TreeMode.named(modes[index]) else {
        builder.branches.append(nil)
        continue
      }
      builder.branches.append(
        .init(
          mode: mode, feature: features[index], threshold: values[index],
          onTrue: try reference(onTrue[index], of: trees[index]),
          onFalse: try reference(onFalse[index], of: trees[index]),
          isMissingTrue: !missing.isEmpty && missing[index] != 0))
    }
    let (leafIDs, leafNodes) = (
      context.optionalInts("\(prefix)_ids") ?? [], context.optionalInts("\(prefix)_nodeids") ?? []
    )
    let leafTrees = context.optionalInts("\(prefix)_treeids") ?? []
    let weights = try numbers(context, "\(prefix)_weights")
    guard leafIDs.count == leafNodes.count, leafIDs.count == leafTrees.count, leafIDs.count == weights.count else {
      throw .invalid(
        "the lists \(prefix)_* have \(leafIDs.count), \(leafNodes.count), \(leafTrees.count) and \(weights.count) "
          + "elements; expected equal counts")
    }
    for index in leafIDs.indices {
      guard let position = positions[Key(tree: leafTrees[index], node: leafNodes[index])] else {
        throw .invalid("the node \(leafNodes[index]) of tree \(leafTrees[index]) does not exist")
      }
      builder.leaves[position].append((target: isJoined ? 0 : leafIDs[index], weight: weights[index]))
    }
    return try builder.build()
  }
}
