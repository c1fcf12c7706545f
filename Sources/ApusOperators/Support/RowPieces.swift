// Elements of operands that lie in rows, walked in pieces that are runs in all of them.

import ApusGraph

/// The pieces of two operands and a result with as many elements, each of which may lie in rows.
struct RowPieces: Sendable {
  private let a: Rows?
  private let b: Rows?
  private let y: Rows?

  init(a: Rows?, b: Rows? = nil, y: Rows?) { (self.a, self.b, self.y) = (a, b, y) }

  /// Calls `body` for pieces of the elements `range` in order, with the place of the first element of each.
  @inline(__always)
  func forEach(in range: Range<Int>, _ body: (_ a: Int, _ b: Int, _ y: Int, _ count: Int) -> Void) {
    var index = range.lowerBound
    while index < range.upperBound {
      var count = range.upperBound &- index
      let places = (
        RowPieces.place(index, a, &count), RowPieces.place(index, b, &count), RowPieces.place(index, y, &count)
      )
      body(places.0, places.1, places.2, count)
      index &+= count
    }
  }

  /// The place of an element; `count` becomes no more than what is left of its row.
  @inline(__always)
  private static func place(_ index: Int, _ rows: Rows?, _ count: inout Int) -> Int {
    guard let rows else { return index }
    let (row, column) = index.quotientAndRemainder(dividingBy: rows.length)
    count = min(count, rows.length &- column)
    return row &* rows.distance &+ column
  }
}
