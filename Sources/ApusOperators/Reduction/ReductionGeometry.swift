// A reduction as loops: kept and reduced axes joined where they are neighbours, and what the innermost loop does.

import ApusTensor

/// The loops of a reduction over a contiguous tensor.
///
/// Outputs are folded in tiles, the innermost kept axis or a part of it. Line form (the last axis is reduced): each
/// output folds `reduceCount` elements in lines of `lineLength` neighbours, and the outputs of a tile begin
/// `columnStride` apart. Tile form (the last axis is kept): a tile of neighbouring outputs folds rows, `lineLength` of
/// them `lineStride` apart. The outputs are in row-major order of the kept axes in both.
struct ReductionGeometry: Sendable {
  /// One loop, with a stride in elements.
  struct Axis: Sendable {
    var extent: Int
    var stride: Int
  }

  let isLine: Bool
  /// Outputs along the innermost kept axis, and the distance of their first elements: 1 in tile form.
  let columns: Int
  let columnStride: Int
  let lineLength: Int
  let lineStride: Int
  /// The kept axes but that of the columns, the reduced axes but that of the lines, outermost first.
  let outerKept: [Axis]
  let outerReduced: [Axis]
  /// The product of the extents of `outerKept`.
  let outerCount: Int
  /// Elements that one output folds.
  let reduceCount: Int

  /// `axes` are sorted positions.
  init(shape: Shape, axes: [Int]) {
    let strides = shape.strides
    var loops: [(axis: Axis, isReduced: Bool)] = []
    // A kept axis between reduced ones parts them even if it has one index only: how a fold is cut must not tell how
    // many other outputs there are.
    var parts = false
    for position in shape.indices {
      let isReduced = axes.contains(position)
      if shape[position] == 1 {
        parts = parts || !isReduced
        continue
      }
      defer { parts = false }
      let axis = Axis(extent: shape[position], stride: strides[position])
      if let last = loops.last, last.isReduced == isReduced, !(isReduced && parts) {
        // Products wrap only where another extent is 0, and with it all of them.
        loops[loops.count - 1].axis = Axis(extent: last.axis.extent &* axis.extent, stride: axis.stride)
      } else {
        loops.append((axis, isReduced))
      }
    }
    var line = Axis(extent: 1, stride: 1)
    var column = Axis(extent: 1, stride: 1)
    if let last = loops.last, last.isReduced {
      isLine = true
      line = loops.removeLast().axis
      if let last = loops.last, !last.isReduced { column = loops.removeLast().axis }
    } else {
      isLine = loops.isEmpty
      if !loops.isEmpty { column = loops.removeLast().axis }
      if let last = loops.last, last.isReduced { line = loops.removeLast().axis }
    }
    (columns, columnStride) = (column.extent, column.stride)
    (lineLength, lineStride) = (line.extent, line.stride)
    outerKept = loops.filter { !$0.isReduced }.map(\.axis)
    outerReduced = loops.filter(\.isReduced).map(\.axis)
    outerCount = outerKept.reduce(1) { $0 &* $1.extent }
    reduceCount = outerReduced.reduce(lineLength) { $0 &* $1.extent }
  }

  /// The first element of the outputs with the outer index `index`.
  func keptOffset(_ index: Int) -> Int { ReductionGeometry.offset(index, outerKept) }

  /// What the line with that number adds to it.
  func lineOffset(_ line: Int) -> Int { ReductionGeometry.offset(line, outerReduced) }

  private static func offset(_ index: Int, _ axes: [Axis]) -> Int {
    var rest = index
    var offset = 0
    var position = axes.count - 1
    while position >= 0 {
      let axis = axes[position]
      let next = rest / axis.extent
      offset &+= (rest &- next &* axis.extent) &* axis.stride
      rest = next
      position -= 1
    }
    return offset
  }
}
