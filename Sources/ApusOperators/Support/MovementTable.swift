// A copy by tables: along each axis a list says which element of the source each element of the target is.

import ApusGraph
import ApusTensor

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Fills a contiguous target whose element [i, j, …] is the element [table₀[i], table₁[j], …] of the source.
struct MovementTable: Sendable {
  /// For each axis but the last, by position in the target: the offset in the source in bytes.
  private let outer: [[Int]]
  /// The same for the positions of the last axis before and after `run`.
  private let before: [Int]
  private let after: [Int]
  private let width: Int
  /// The longest stretch of the last axis that is contiguous in the source: positions in the target.
  private let run: Range<Int>
  /// Where that stretch starts in the source, in bytes.
  private let runStart: Int

  /// `tables[axis]` has the extent of the target's axis, and its values lie within the source's. Rank must be above 0.
  init(tables: [[Int]], sourceShape: Shape, width: Int) {
    let strides = sourceShape.strides
    let last = tables.last ?? []
    outer = tables.dropLast().enumerated().map { axis, table in table.map { $0 * strides[axis] * width } }
    run = MovementTable.longestRun(last)
    runStart = run.isEmpty ? 0 : last[run.lowerBound] * width
    before = last[..<run.lowerBound].map { $0 * width }
    after = last[run.upperBound...].map { $0 * width }
    self.width = width
  }

  private static func longestRun(_ table: [Int]) -> Range<Int> {
    var best = 0..<0
    var start = 0
    for index in table.indices where index + 1 == table.count || table[index + 1] != table[index] + 1 {
      if index + 1 - start > best.count { best = start..<index + 1 }
      start = index + 1
    }
    return best
  }

  /// A step that fills output 0 from an input.
  func step(input: Int, output shape: Shape, name: String) -> Step {
    let columns = shape[shape.rank - 1]
    let rows = shape.elementCount / max(columns, 1)
    let partition = Partition(rows, of: .copying(bytes: columns * width))
    return Step.parallel(parts: rows * columns == 0 ? 0 : partition.parts) { run, part in
      for row in partition.range(part) {
        fill(row: row, columns: columns, run.inputBytes(input), run.outputBytes() + row &* columns &* width)
      }
    }.named(name, cost: .copying(bytes: columns * width) * rows)
  }

  private func fill(row: Int, columns: Int, _ source: UnsafeRawPointer, _ target: UnsafeMutableRawPointer) {
    var rest = row
    var from = source
    var axis = outer.count - 1
    while axis >= 0 {
      let extent = outer[axis].count
      from += outer[axis][rest % extent]
      rest /= extent
      axis -= 1
    }
    for column in before.indices { memcpy(target + column &* width, from + before[column], width) }
    memcpy(target + run.lowerBound &* width, from + runStart, run.count &* width)
    let tail = target + run.upperBound &* width
    for column in after.indices { memcpy(tail + column &* width, from + after[column], width) }
  }
}
