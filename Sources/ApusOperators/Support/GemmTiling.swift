// How matrix products divide into parts: from their extents, the register tile and the machine.

import ApusGraph

/// The division of `batch` products of an [m, k] and a [k, n] matrix into parts.
///
/// A part is either a block of rows times a block of panels of one product, or several whole products. The bits of the
/// result do not depend on the division.
struct GemmTiling: Sendable {
  let batch: Int
  let m: Int
  let panels: Int
  let rowsPerBlock: Int
  let panelsPerBlock: Int
  let rowBlocks: Int
  let panelBlocks: Int
  /// True if the blocks of some rows follow one another, not those of some columns. A thread computes neighbouring
  /// parts: of those it reads what they have in common once, and the rest beside the other threads.
  private let goesByRows: Bool
  /// More than 1 only if each product is one block.
  let batchesPerPart: Int
  let parts: Int

  /// One part of the work.
  struct Tile {
    let batches: Range<Int>
    let rows: Range<Int>
    let panels: Range<Int>
  }

  /// How a kernel fares beside the float32 one. It may be that of the machine for sums that are exact, whose bits no
  /// division changes.
  struct Pace: Sendable {
    /// Products in the time of one.
    var speed = 1
    /// Bytes of an element of B.
    var bytes = 4
    /// What reading a row of A takes, in columns of the product.
    var rowColumns = 8

    static let float32 = Pace()
  }

  /// Some for each processor, so that all end at about the same time. More of them would be smaller, and would read B
  /// more often.
  static let usualParts = min(Partition.maximumParts, 8 * processors)
  /// The same where each part has scratch memory of its own, which shall stay in the cache of its thread.
  static let partsWithScratch = min(Partition.maximumParts, 2 * processors)
  static let processors = min(Partition.maximumParts, Topology.processors)

  init(
    batch: Int, m: Int, n: Int, k: Int, tileRows: Int, panelColumns: Int, pace: Pace = .float32,
    mostParts: Int = GemmTiling.usualParts
  ) {
    self.batch = batch
    self.m = m
    // Rows of A and of C are what another step has written, or will read, on the same thread.
    goesByRows = k * n < m * (k + n)
    panels = (n + panelColumns - 1) / panelColumns
    // Products of few rows wait for the elements of B.
    let column = Cost(operations: max(2 * m / pace.speed, 1), bytes: pace.bytes) * max(k, 1)
    let wanted = min(max((column * n * batch).worthwhileParts, 1), mostParts)
    if batch >= wanted || batch == 0 || m == 0 || panels == 0 {
      (rowsPerBlock, panelsPerBlock, rowBlocks, panelBlocks) = (max(m, 1), max(panels, 1), 1, 1)
      batchesPerPart = max(1, (batch + wanted - 1) / wanted)
      parts = m == 0 || panels == 0 ? 0 : (batch + batchesPerPart - 1) / batchesPerPart
      return
    }
    let rowTiles = (m + tileRows - 1) / tileRows
    let limit = (wanted + batch - 1) / batch
    var best = (cost: Int.max, rows: 1, panels: 1)
    for blocks in 1...min(rowTiles, limit) {
      let rows = (rowTiles + blocks - 1) / blocks
      let columns = (panels + min(panels, limit / blocks) - 1) / min(panels, limit / blocks)
      // The largest block, and what it must read.
      let (height, width) = (min(rows * tileRows, m), columns * panelColumns)
      let cost = height * width + pace.rowColumns * height + Pace.float32.rowColumns * width
      if cost < best.cost { best = (cost, rows, columns) }
    }
    rowsPerBlock = best.rows * tileRows
    panelsPerBlock = best.panels
    rowBlocks = (m + rowsPerBlock - 1) / rowsPerBlock
    panelBlocks = (panels + panelsPerBlock - 1) / panelsPerBlock
    batchesPerPart = 1
    parts = batch * rowBlocks * panelBlocks
  }

  func tile(_ part: Int) -> Tile {
    if rowBlocks == 1 && panelBlocks == 1 {
      let first = part &* batchesPerPart
      return Tile(batches: first..<min(first &+ batchesPerPart, batch), rows: 0..<m, panels: 0..<panels)
    }
    let blocks = rowBlocks &* panelBlocks
    let index = part / blocks
    let block = part &- index &* blocks
    let (slow, fast) = block.quotientAndRemainder(dividingBy: goesByRows ? panelBlocks : rowBlocks)
    let row = (goesByRows ? slow : fast) &* rowsPerBlock
    let panel = (goesByRows ? fast : slow) &* panelsPerBlock
    return Tile(
      batches: index..<index &+ 1, rows: row..<min(row &+ rowsPerBlock, m),
      panels: panel..<min(panel &+ panelsPerBlock, panels))
  }
}
