// A tensor seen as rows along one axis, for operators that work on each row by itself.

import ApusGraph
import ApusTensor

/// The extents around one axis: element j of row (o, i) lies at `(o * length + j) * inner + i`.
struct AxisRows: Sendable {
  let outer: Int
  let length: Int
  let inner: Int

  init(_ shape: Shape, axis: Int) {
    outer = shape.count(of: 0..<axis)
    length = shape[axis]
    inner = shape.count(of: axis + 1..<shape.rank)
  }

  /// Columns that one part takes at once where the axis is not the last.
  static let blockWidth = 64

  /// A step that calls `lines` with `count` rows of neighbours, one behind the other, if `inner` is 1, and `columns`
  /// for up to `blockWidth` neighbouring rows of elements that lie `inner` apart otherwise.
  func step<Element>(
    _ type: Element.Type, cost: Cost = .medium,
    lines:
      @escaping @Sendable (
        _ x: UnsafePointer<Element>, _ y: UnsafeMutablePointer<Element>, _ count: Int, _ length: Int
      ) -> Void,
    columns:
      @escaping @Sendable (
        _ x: UnsafePointer<Element>, _ y: UnsafeMutablePointer<Element>, _ width: Int, _ rows: AxisRows
      ) -> Void
  ) -> Step {
    let width = min(inner, AxisRows.blockWidth)
    let blocks = inner == 0 ? 0 : (inner + width - 1) / width
    let items = length == 0 ? 0 : outer * (inner == 1 ? 1 : blocks)
    let partition = Partition(items, of: cost * length * max(width, 1))
    return .parallel(parts: items == 0 ? 0 : partition.parts) { run, part in
      let (x, y) = (run.input(0, as: Element.self), run.output(0, as: Element.self))
      let range = partition.range(part)
      if inner == 1 {
        let start = range.lowerBound &* length
        return lines(x + start, y + start, range.count, length)
      }
      for item in range {
        let (outerIndex, block) = item.quotientAndRemainder(dividingBy: blocks)
        let start = outerIndex &* length &* inner &+ block &* width
        columns(x + start, y + start, min(width, inner &- block &* width), self)
      }
    }
  }

  /// The same with rows one by one.
  func step<Element>(
    _ type: Element.Type, cost: Cost = .medium,
    row: @escaping @Sendable (_ x: UnsafePointer<Element>, _ y: UnsafeMutablePointer<Element>, _ length: Int) -> Void,
    columns:
      @escaping @Sendable (
        _ x: UnsafePointer<Element>, _ y: UnsafeMutablePointer<Element>, _ width: Int, _ rows: AxisRows
      ) -> Void
  ) -> Step {
    step(type, cost: cost) { x, y, count, length in
      for index in 0..<count { row(x + index &* length, y + index &* length, length) }
    } columns: { x, y, width, rows in
      columns(x, y, width, rows)
    }
  }
}

/// An operator with one input whose output has its type and shape, and an axis. Before version 13 such operators saw
/// the tensor as a matrix, all axes from `axis` on as one.
func upgradeFlattenedAxis(
  _ node: inout Node, from version: Int, in builder: GraphBuilder
) throws(OperatorError) {
  guard version < 13 else { return }
  let axis = node.attributes.int("axis") ?? 1
  node.attributes["axis"] = .int(-1)
  guard let input = node.inputs.first ?? nil else { return }
  if let rank = builder.shape(input)?.count, rank > 0, (axis < 0 ? axis + rank : axis) == rank - 1 { return }
  let rows = try builder.apply(OperatorID("Flatten"), name: node.name + "/rows", [input], [("axis", .int(axis))])
  let results = builder.addValue()
  try builder.append(
    Node(node.op, name: node.name + "/matrix", inputs: [rows], outputs: [results], attributes: node.attributes))
  let shape = try builder.apply(OperatorID("Shape"), name: node.name + "/shape", [input])
  node.op = OperatorID("Reshape")
  node.inputs = [results, shape]
  // An extent of 0 is one, not a sign to copy.
  node.attributes = Attributes([("allowzero", .int(1))])
}
