// Makes a TreeForest of nodes that refer to each other in any order, and checks that they are trees.

import ApusGraph
import ApusTensor

/// The comparison of a branch.
enum TreeMode: UInt8, Sendable {
  case lessOrEqual, less, greaterOrEqual, greater, equal, notEqual, member

  /// The names of TreeEnsembleRegressor and TreeEnsembleClassifier; nil: a leaf.
  static func named(_ name: String) throws(OperatorError) -> TreeMode? {
    switch name {
    case "LEAF": return nil
    case "BRANCH_LEQ": return .lessOrEqual
    case "BRANCH_LT": return .less
    case "BRANCH_GTE": return .greaterOrEqual
    case "BRANCH_GT": return .greater
    case "BRANCH_EQ": return .equal
    case "BRANCH_NEQ": return .notEqual
    default: throw .invalid("the node mode '\(name)' is not known")
    }
  }
}

struct TreeForestBuilder {
  /// A node of a tree: a branch by its position in the source, or a leaf.
  enum Reference: Hashable {
    case branch(Int)
    case leaf(Int)
  }

  struct Branch {
    var mode: TreeMode
    var feature: Int
    var threshold: Double
    var onTrue: Reference
    var onFalse: Reference
    var isMissingTrue: Bool
    /// For members: the set.
    var set = 0
  }

  /// By position in the source; nil where there is no branch.
  var branches: [Branch?]
  /// What each leaf adds.
  var leaves: [[(target: Int, weight: Double)]]
  var roots: [Reference]
  var targetCount: Int
  var sets: [[Double]] = []

  func build() throws(OperatorError) -> TreeForest {
    var nodes: [TreeNode] = []
    var starts: [Int32] = [0]
    var payload: [Int32: [(target: Int, weight: Double)]] = [:]
    var rootIndices: [Int32] = []
    var visited = [Bool](repeating: false, count: branches.count)
    guard leaves.count + branches.count < 1 << 29 else { throw .invalid("the forest has too many nodes") }
    for root in roots {
      rootIndices.append(Int32(nodes.count))
      nodes.append(.leaf(at: Int32(nodes.count)))
      var open: [(reference: Reference, slot: Int)] = [(root, nodes.count - 1)]
      var position = 0
      while position < open.count {
        let (reference, slot) = open[position]
        position += 1
        switch reference {
        case .leaf(let leaf):
          guard leaves.indices.contains(leaf) else { throw .invalid("the leaf \(leaf) does not exist") }
          payload[Int32(slot)] = leaves[leaf]
        case .branch(let index):
          guard branches.indices.contains(index), let branch = branches[index] else {
            throw .invalid("the node \(index) does not exist")
          }
          guard !visited[index] else { throw .invalid("the node \(index) is reached twice; expected trees") }
          visited[index] = true
          let child = nodes.count
          let (node, isSwapped) = try TreeForestBuilder.node(branch, child: Int32(child))
          nodes[slot] = node
          nodes.append(.leaf(at: Int32(child)))
          nodes.append(.leaf(at: Int32(child + 1)))
          open.append((isSwapped ? branch.onFalse : branch.onTrue, child))
          open.append((isSwapped ? branch.onTrue : branch.onFalse, child + 1))
        }
      }
    }
    var targets: [Int32] = []
    var weights: [Double] = []
    for index in nodes.indices {
      for entry in payload[Int32(index)] ?? [] {
        guard entry.target >= 0, entry.target < targetCount else {
          throw .invalid("a leaf has the target \(entry.target); expected 0 to \(targetCount - 1)")
        }
        guard targets.count < 1 << 29 else { throw .invalid("the forest has too many weights") }
        targets.append(Int32(entry.target))
        weights.append(entry.weight)
      }
      starts.append(Int32(targets.count))
    }
    var setStarts = [0]
    var members: [Double] = []
    for set in sets {
      members += set.sorted()
      setStarts.append(members.count)
    }
    return TreeForest(
      nodes: nodes, roots: rootIndices, starts: starts, targets: targets, weights: weights, targetCount: targetCount,
      setStarts: setStarts, members: members)
  }

  /// The branch as one of few comparisons, and whether its children change places for it: x < t is x ≤ the number
  /// before t, x > t is not x ≤ t, and so on.
  private static func node(_ branch: Branch, child: Int32) throws(OperatorError) -> (node: TreeNode, isSwapped: Bool) {
    guard branch.feature >= 0, branch.feature <= Int(TreeNode.featureMask) else {
      throw .invalid("a node has the feature \(branch.feature)")
    }
    var feature = UInt32(branch.feature)
    var threshold = branch.threshold
    var isSwapped = false
    switch branch.mode {
    case .lessOrEqual: break
    case .greater: isSwapped = true
    case .less, .greaterOrEqual:
      isSwapped = branch.mode == .greaterOrEqual
      if threshold == -.infinity { feature |= TreeNode.isNever } else { threshold = threshold.nextDown }
    case .equal: feature |= TreeNode.isEqual
    case .notEqual:
      feature |= TreeNode.isEqual
      isSwapped = true
    case .member:
      feature |= TreeNode.isMember
      threshold = Double(branch.set)
    }
    // No number compares with NaN: ≤, ≥, < and > are never true.
    if branch.threshold.isNaN, branch.mode.rawValue <= TreeMode.greater.rawValue {
      feature |= TreeNode.isNever
      isSwapped = false
    }
    if branch.isMissingTrue != isSwapped { feature |= TreeNode.nanIsTrue }
    return (TreeNode(threshold: threshold, feature: feature, child: child), isSwapped)
  }
}

/// The elements of a float tensor as float64.
func doubles(of tensor: Tensor) throws(OperatorError) -> [Double] {
  guard let load = Lane.float64.load(tensor.dataType) else { throw .invalid("\(tensor.dataType) is no number") }
  return withExtendedLifetime(tensor) {
    [Double](unsafeUninitializedCapacity: tensor.count) { buffer, count in
      if let target = buffer.baseAddress { load(tensor.base, 0, target, tensor.count) }
      count = tensor.count
    }
  }
}
