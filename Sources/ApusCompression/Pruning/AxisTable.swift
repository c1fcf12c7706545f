// Every index of every axis of a graph's values, and which of them must be taken away together.

import ApusGraph
import ApusTensor

/// Indices of axes as a disjoint-set forest: indices that can only go together are one class. A class may be kept, for
/// a reason, and it may be the channels of a weight.
package struct AxisTable {
  /// An axis of a value whose extent is a number above 0.
  package struct Slot: Sendable {
    package let value: ValueID
    package let axis: Int
    /// The number of its first index among all.
    let first: Int
    package let count: Int
  }

  package private(set) var slots: [Slot] = []
  /// By value: the slot of its first axis in `slotByAxis`.
  private var firstAxis: [Int] = []
  private var slotByAxis: [Int] = []
  private var parents: [Int32] = []
  /// By root: the position of the reason why its class is kept, or -1.
  private var reasonOf: [Int32] = []
  private var sources: [Bool] = []
  private var reasons: [String] = []

  /// Axes of more indices, and graphs of more in all, are left as they are.
  private static let maximumExtent = 1 << 21
  private static let maximumIndices = 1 << 27

  package init(_ graph: Graph) {
    var total = 0
    for (index, value) in graph.values.enumerated() {
      firstAxis.append(slotByAxis.count)
      guard let shape = value.fact.tensor?.shape else { continue }
      for (axis, extent) in shape.enumerated() {
        guard let count = extent.known, count > 0, count <= Self.maximumExtent, total + count <= Self.maximumIndices
        else {
          slotByAxis.append(-1)
          continue
        }
        slotByAxis.append(slots.count)
        slots.append(Slot(value: ValueID(index), axis: axis, first: total, count: count))
        total += count
      }
    }
    firstAxis.append(slotByAxis.count)
    parents = (0..<total).map { Int32(truncatingIfNeeded: $0) }
    reasonOf = [Int32](repeating: -1, count: total)
    sources = [Bool](repeating: false, count: total)
  }

  /// The axis of a value; nil where its extent is 0 or no number.
  package func slot(_ value: ValueID, _ axis: Int) -> Int? {
    let place = firstAxis[value.index] + axis
    guard axis >= 0, place < firstAxis[value.index + 1] else { return nil }
    return slotByAxis[place] < 0 ? nil : slotByAxis[place]
  }

  /// The slots of all axes of a value.
  package func slots(of value: ValueID) -> [Int] {
    slotByAxis[firstAxis[value.index]..<firstAxis[value.index + 1]].filter { $0 >= 0 }
  }

  // MARK: - Classes

  /// The class of an index: its root.
  package mutating func root(_ slot: Int, _ index: Int) -> Int { find(slots[slot].first + index) }

  private mutating func find(_ index: Int) -> Int {
    var index = index
    while Int(parents[index]) != index {
      parents[index] = parents[Int(parents[index])]
      index = Int(parents[index])
    }
    return index
  }

  package mutating func join(_ slot: Int, _ index: Int, _ other: Int, _ otherIndex: Int) {
    let (a, b) = (root(slot, index), root(other, otherIndex))
    if a == b { return }
    // The lower number stays: the order of the classes does not depend on that of the links.
    let (root, child) = (min(a, b), max(a, b))
    parents[child] = Int32(truncatingIfNeeded: root)
    sources[root] = sources[root] || sources[child]
    if reasonOf[root] < 0 { reasonOf[root] = reasonOf[child] }
  }

  /// Lets nothing of an axis go.
  package mutating func keep(_ slot: Int, because reason: String) {
    reasons.append(reason)
    for index in 0..<slots[slot].count {
      let root = root(slot, index)
      if reasonOf[root] < 0 { reasonOf[root] = Int32(truncatingIfNeeded: reasons.count - 1) }
    }
  }

  /// Why a class is kept; nil: it may go.
  package func reason(ofRoot root: Int) -> String? { reasonOf[root] < 0 ? nil : reasons[Int(reasonOf[root])] }

  package mutating func markSource(_ slot: Int) {
    for index in 0..<slots[slot].count { sources[root(slot, index)] = true }
  }

  package func isSource(root: Int) -> Bool { sources[root] }

  /// Whether an index of the axis is a channel of a weight, and whether all are kept.
  package mutating func state(of slot: Int) -> (hasSource: Bool, isKept: Bool) {
    var (hasSource, isKept) = (false, true)
    for index in 0..<slots[slot].count {
      let root = root(slot, index)
      hasSource = hasSource || sources[root]
      isKept = isKept && reasonOf[root] >= 0
    }
    return (hasSource, isKept)
  }

  /// How many classes would be left of two axes if `links` (index of one, index of the other) were joined.
  package mutating func classesLeft(_ slot: Int, _ other: Int, _ links: [(Int, Int)]) -> Int {
    var local: [Int: Int] = [:]
    func top(_ root: Int) -> Int {
      var root = root
      while let next = local[root], next != root {
        local[root] = local[next]
        root = next
      }
      return root
    }
    for (index, otherIndex) in links {
      let (a, b) = (root(slot, index), root(other, otherIndex))
      local[a] = local[a] ?? a
      local[b] = local[b] ?? b
      let (x, y) = (top(a), top(b))
      if x != y { local[max(x, y)] = min(x, y) }
    }
    return local.filter { $0.key == $0.value }.count
  }

  /// The indices of all classes that may go and are channels of a weight: by root in ascending order, each as its
  /// (slot, index) in ascending order.
  package mutating func freeClasses() -> [(root: Int, members: [(slot: Int, index: Int)])] {
    var places: [Int: Int] = [:]
    var classes: [(root: Int, members: [(slot: Int, index: Int)])] = []
    for slot in slots.indices {
      for index in 0..<slots[slot].count {
        let root = root(slot, index)
        guard sources[root], reasonOf[root] < 0 else { continue }
        let place = places[root] ?? classes.count
        if place == classes.count {
          places[root] = place
          classes.append((root, []))
        }
        classes[place].members.append((slot, index))
      }
    }
    return classes
  }
}
