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
  /// For each root the most branches on the way to a leaf.
  let heights: [Int]
  /// What each leaf adds: positions `starts[node] ..< starts[node + 1]` of targets and weights.
  let starts: UnsafePointer<Int32>
  let targets: UnsafePointer<Int32>
  let weights: UnsafePointer<Double>
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
    func copy<Element: BitwiseCopyable>(_ elements: [Element]) -> UnsafePointer<Element> {
      let memory = UnsafeMutableBufferPointer<Element>.allocate(capacity: max(elements.count, 1))
      _ = memory.initialize(from: elements)
      return UnsafePointer(memory.baseAddress!)
    }
    self.nodes = copy(nodes)
    nodeCount = nodes.count
    self.roots = roots
    heights = TreeForest.heights(nodes, roots)
    (self.starts, self.targets, self.weights) = (copy(starts), copy(targets), copy(weights))
    self.targetCount = targetCount
    (self.setStarts, self.members) = (setStarts, members)
    let kinds = TreeNode.isEqual | TreeNode.isMember | TreeNode.isNever
    isOrdered = nodes.allSatisfy { $0.feature & kinds == 0 }
    var isBranch = [Bool](repeating: true, count: nodes.count)
    for (index, node) in nodes.enumerated() { isBranch[index] = Int(node.child) != index }
    let features = zip(nodes, isBranch).lazy.filter(\.1).map { Int($0.0.feature & TreeNode.featureMask) + 1 }
    featureCount = features.max() ?? 0
    depth = max(1, Int.bitWidth - (nodes.count / max(roots.count, 1)).leadingZeroBitCount)
  }

  deinit {
    nodes.deallocate()
    starts.deallocate()
    targets.deallocate()
    weights.deallocate()
  }

  /// Children stand behind their parents, and trees one behind the other.
  private static func heights(_ nodes: [TreeNode], _ roots: [Int32]) -> [Int] {
    var below = [Int](repeating: 0, count: nodes.count)
    for (index, node) in nodes.enumerated().reversed() where Int(node.child) != index {
      below[index] = 1 + max(below[Int(node.child)], below[Int(node.child) + 1])
    }
    return roots.map { below[Int($0)] }
  }

  /// Lanes that go down side by side, so that the waits for memory overlap.
  static let lanes = 8

  /// What a step down has to look at.
  enum Step {
    /// Every branch is an order comparison; no feature is NaN, or some are.
    case ordered, orderedWithNaN
    case general
  }

  /// The step for `count` features.
  func step<Feature: BinaryFloatingPoint>(_ features: UnsafePointer<Feature>, _ count: Int) -> Step {
    if !isOrdered { return .general }
    var hasNaN = false
    for index in 0..<count { hasNaN = hasNaN || features[index] != features[index] }
    return hasNaN ? .orderedWithNaN : .ordered
  }

  /// Takes `count` (at most 8) rows through tree number `tree`. `leaves[k]` becomes the leaf of the row
  /// `rows + k * columns`; there is room for 8.
  @inline(__always)
  func descend<Feature: BinaryFloatingPoint>(
    tree: Int, root: Int32, _ step: Step, _ rows: UnsafePointer<Feature>, columns: Int, count: Int,
    leaves: UnsafeMutablePointer<Int32>
  ) {
    for lane in 0..<TreeForest.lanes { leaves[lane] = root }
    // Lanes that there are not go with the last row.
    let last = count &- 1
    descend(height: heights[tree], step, leaves) { lane in rows + min(lane, last) &* columns }
  }

  /// Takes one row through `count` (at most 8) trees from number `tree` on.
  @inline(__always)
  func descend<Feature: BinaryFloatingPoint>(
    tree: Int, roots: UnsafePointer<Int32>, _ step: Step, _ row: UnsafePointer<Feature>, count: Int,
    leaves: UnsafeMutablePointer<Int32>
  ) {
    var height = 0
    for lane in 0..<TreeForest.lanes {
      let own = min(lane, count &- 1)
      leaves[lane] = roots[own]
      height = max(height, heights[tree &+ own])
    }
    descend(height: height, step, leaves) { _ in row }
  }

  @inline(__always)
  private func descend<Feature: BinaryFloatingPoint>(
    height: Int, _ step: Step, _ leaves: UnsafeMutablePointer<Int32>, row: (Int) -> UnsafePointer<Feature>
  ) {
    switch step {
    case .ordered: descend(height, leaves) { lane, index in orderedStep(index, row(lane)) }
    case .orderedWithNaN: descend(height, leaves) { lane, index in orderedStepWithNaN(index, row(lane)) }
    case .general: descend(height, leaves) { lane, index in generalStep(index, row(lane)) }
    }
  }

  /// All lanes down to their leaves, at most `height` steps.
  @inline(__always)
  private func descend(_ height: Int, _ leaves: UnsafeMutablePointer<Int32>, _ next: (Int, Int32) -> Int32) {
    for _ in 0..<height {
      var moved: Int32 = 0
      for lane in 0..<TreeForest.lanes {
        let index = leaves[lane]
        let new = next(lane, index)
        moved |= new ^ index
        leaves[lane] = new
      }
      if moved == 0 { return }
    }
  }

  @inline(__always)
  private func orderedStep<Feature: BinaryFloatingPoint>(_ index: Int32, _ row: UnsafePointer<Feature>) -> Int32 {
    let node = nodes[Int(index)]
    return node.child &+ (Double(row[Int(node.feature & TreeNode.featureMask)]) > node.threshold ? 1 : 0)
  }

  @inline(__always)
  private func orderedStepWithNaN<Feature: BinaryFloatingPoint>(
    _ index: Int32, _ row: UnsafePointer<Feature>
  ) -> Int32 {
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
