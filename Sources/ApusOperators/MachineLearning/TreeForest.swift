// A forest of decision trees in flat arrays, and the way of rows from the roots to the leaves.

import ApusTensor

/// One node. The children of a branch lie side by side: the true one at `child`, the false one behind it. A leaf is its
/// own true child, so that a row that has arrived stays.
struct TreeNode: Sendable {
  /// A row goes to the true child if its feature is not above this; EQ: if it is equal; member: the position of the
  /// set.
  var threshold: Double
  /// The feature, and the flags below.
  var feature: UInt32
  var child: Int32

  static let featureMask: UInt32 = 0x0FFF_FFFF
  /// NaN goes to the true child.
  static let nanIsTrue: UInt32 = 0x8000_0000
  static let isEqual: UInt32 = 0x4000_0000
  static let isMember: UInt32 = 0x2000_0000
  static let isNever: UInt32 = 0x1000_0000

  static func leaf(at index: Int32) -> TreeNode {
    TreeNode(threshold: .infinity, feature: nanIsTrue, child: index)
  }
}

/// Immutable once made. `@unchecked Sendable`: the pointers are written by the initialiser only.
final class TreeForest: @unchecked Sendable {
  let nodes: UnsafePointer<TreeNode>
  let nodeCount: Int
  let roots: [Int32]
  /// What each leaf adds: positions `starts[node] ..< starts[node + 1]` of targets and weights.
  let starts: [Int32]
  let targets: [Int32]
  let weights: [Double]
  let targetCount: Int
  /// Features that a row must have.
  let featureCount: Int
  /// True if every branch is an order comparison.
  let isOrdered: Bool
  /// The sets of member nodes, each sorted: positions `setStarts[i] ..< setStarts[i + 1]` of `members`.
  let setStarts: [Int]
  let members: [Double]
  /// The mean number of branches on the way, roughly.
  let depth: Int

  init(
    nodes: [TreeNode], roots: [Int32], starts: [Int32], targets: [Int32], weights: [Double], targetCount: Int,
    setStarts: [Int], members: [Double]
  ) {
    let memory = UnsafeMutablePointer<TreeNode>.allocate(capacity: max(nodes.count, 1))
    nodes.withUnsafeBufferPointer {
      if let source = $0.baseAddress { memory.initialize(from: source, count: nodes.count) }
    }
    self.nodes = UnsafePointer(memory)
    nodeCount = nodes.count
    self.roots = roots
    (self.starts, self.targets, self.weights, self.targetCount) = (starts, targets, weights, targetCount)
    (self.setStarts, self.members) = (setStarts, members)
    let kinds = TreeNode.isEqual | TreeNode.isMember | TreeNode.isNever
    isOrdered = nodes.allSatisfy { $0.feature & kinds == 0 }
    var isBranch = [Bool](repeating: true, count: nodes.count)
    for (index, node) in nodes.enumerated() { isBranch[index] = Int(node.child) != index }
    let features = zip(nodes, isBranch).lazy.filter(\.1).map { Int($0.0.feature & TreeNode.featureMask) + 1 }
    featureCount = features.max() ?? 0
    depth = max(1, Int.bitWidth - (nodes.count / max(roots.count, 1)).leadingZeroBitCount)
  }

  deinit { nodes.deallocate() }

  /// Lanes that go down side by side, so that the waits for memory overlap.
  static let lanes = 8

  /// Takes `count` (at most 8) rows through one tree. `leaves[k]` becomes the leaf of the row `rows + k * columns`.
  @inline(__always)
  func descend<Feature: BinaryFloatingPoint>(
    root: Int32, _ rows: UnsafePointer<Feature>, columns: Int, count: Int, leaves: UnsafeMutablePointer<Int32>
  ) {
    for lane in 0..<count { leaves[lane] = root }
    var moved = true
    while moved {
      moved = false
      for lane in 0..<count {
        let index = leaves[lane]
        let next = isOrdered ? orderedStep(index, rows + lane &* columns) : generalStep(index, rows + lane &* columns)
        moved = moved || next != index
        leaves[lane] = next
      }
    }
  }

  /// Takes one row through `count` (at most 8) trees.
  @inline(__always)
  func descend<Feature: BinaryFloatingPoint>(
    roots: UnsafePointer<Int32>, _ row: UnsafePointer<Feature>, count: Int, leaves: UnsafeMutablePointer<Int32>
  ) {
    for lane in 0..<count { leaves[lane] = roots[lane] }
    var moved = true
    while moved {
      moved = false
      for lane in 0..<count {
        let index = leaves[lane]
        let next = isOrdered ? orderedStep(index, row) : generalStep(index, row)
        moved = moved || next != index
        leaves[lane] = next
      }
    }
  }

  @inline(__always)
  private func orderedStep<Feature: BinaryFloatingPoint>(_ index: Int32, _ row: UnsafePointer<Feature>) -> Int32 {
    let node = nodes[Int(index)]
    let value = Double(row[Int(node.feature & TreeNode.featureMask)])
    let isAbove: Int32 = value > node.threshold ? 1 : 0
    let isLostNaN: Int32 = value != value && node.feature < TreeNode.nanIsTrue ? 1 : 0
    return node.child &+ (isAbove | isLostNaN)
  }

  private func generalStep<Feature: BinaryFloatingPoint>(_ index: Int32, _ row: UnsafePointer<Feature>) -> Int32 {
    let node = nodes[Int(index)]
    let value = Double(row[Int(node.feature & TreeNode.featureMask)])
    let isTrue: Bool
    if value != value {
      isTrue = node.feature & TreeNode.nanIsTrue != 0
    } else if node.feature & TreeNode.isEqual != 0 {
      isTrue = value == node.threshold
    } else if node.feature & TreeNode.isMember != 0 {
      isTrue = contains(value, set: Int(node.threshold))
    } else if node.feature & TreeNode.isNever != 0 {
      isTrue = false
    } else {
      isTrue = value <= node.threshold
    }
    return node.child &+ (isTrue ? 0 : 1)
  }

  private func contains(_ value: Double, set: Int) -> Bool {
    var (low, high) = (setStarts[set], setStarts[set + 1])
    while low < high {
      let middle = (low + high) / 2
      if members[middle] < value { low = middle + 1 } else { high = middle }
    }
    return low < setStarts[set + 1] && members[low] == value
  }
}
