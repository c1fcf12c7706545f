// Loops of a copy whose source and target may lie in rows, as parts of larger operands.

import ApusGraph
import ApusTensor

extension PlanContext {
  /// The rows of `length` elements that are parts of runs of `whole` elements of an input; nil if its own rows are not
  /// these runs.
  func rows(_ length: Int, of whole: Int, input: Int) -> Rows? {
    guard length > 0 else { return nil }
    guard let own = rows(input: input) else { return Rows(length: length, distance: whole) }
    return own.length == whole ? Rows(length: length, distance: own.distance) : nil
  }

  /// The elements from one row of `length` elements to the next, for an operand that lies in such rows or dense; nil if
  /// its rows are others.
  func distance(input: Int, rowsOf length: Int) -> Int? {
    guard let rows = rows(input: input) else { return length }
    return rows.length == length ? rows.distance : nil
  }

  func distance(output: Int, rowsOf length: Int) -> Int? {
    guard let rows = rows(output: output) else { return length }
    return rows.length == length ? rows.distance : nil
  }
}

/// The loops of one copy from an input to an output of a node, whose strides and offsets count elements of operands
/// that lie dense.
struct MovementLoops: Sendable {
  var input: Int
  var output = 0
  var width: Int
  var extents: [Int]
  var sourceStrides: [Int]
  var targetStrides: [Int]
  var sourceOffset = 0
  var targetOffset = 0

  /// The copy between dense operands.
  var copy: MovementCopy {
    get throws(OperatorError) {
      try MovementCopy(
        from: .input(input), to: output, width: width, extents: extents, sourceStrides: sourceStrides,
        targetStrides: targetStrides, sourceOffset: sourceOffset, targetOffset: targetOffset)
    }
  }

  /// The copy between operands that lie as the context says; nil where rows end within a loop.
  func copy(in context: PlanContext) throws(OperatorError) -> MovementCopy? {
    var loops = self
    if let rows = context.rows(input: input), !loops.spreadSource(rows) { return nil }
    if let rows = context.rows(output: output), !loops.spreadTarget(rows) { return nil }
    return try loops.copy
  }

  private mutating func spreadSource(_ rows: Rows) -> Bool {
    MovementLoops.spread(&extents, &sourceStrides, &targetStrides, &sourceOffset, rows)
  }

  private mutating func spreadTarget(_ rows: Rows) -> Bool {
    MovementLoops.spread(&extents, &targetStrides, &sourceStrides, &targetOffset, rows)
  }

  /// Strides of a dense operand become those of one in rows: a loop steps from row to row, or stays within a row. One
  /// that does both becomes two.
  private static func spread(
    _ extents: inout [Int], _ strides: inout [Int], _ others: inout [Int], _ offset: inout Int, _ rows: Rows
  ) -> Bool {
    let length = rows.length
    if extents.contains(0) { return true }
    if let long = extents.indices.first(where: {
      extents[$0] > 1 && strides[$0] > 0 && strides[$0] < length && length % strides[$0] == 0
        && strides[$0] * extents[$0] > length
    }) {
      let inner = length / strides[long]
      guard extents[long] % inner == 0 else { return false }
      extents.insert(inner, at: long + 1)
      strides.insert(strides[long], at: long + 1)
      others.insert(others[long], at: long + 1)
      extents[long] /= inner
      strides[long] *= inner
      others[long] *= inner
    }
    var last = offset % length
    for axis in extents.indices where extents[axis] > 1 && strides[axis] % length != 0 {
      if strides[axis] < 0 { return false }
      last += (extents[axis] - 1) * strides[axis]
    }
    if last >= length { return false }
    for axis in extents.indices where extents[axis] > 1 && strides[axis] % length == 0 {
      strides[axis] = strides[axis] / length * rows.distance
    }
    offset = offset / length * rows.distance + offset % length
    return true
  }
}
