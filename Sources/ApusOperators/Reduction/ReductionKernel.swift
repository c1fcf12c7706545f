// The step of a reduction: tasks of outputs, long folds cut into chunks, all in an order that only shapes decide.

import ApusGraph
import ApusTensor

/// A reduction prepared for one element type.
struct ReductionKernel<Element: ReductionElement>: Sendable {
  let fold: ElementFold<Element>
  /// Reads elements of another type; nil where the elements of the tensor are folded as they are.
  var load: LaneLoad?
  /// Writes elements of another type.
  var store: LaneStore?
  /// Makes outputs of joined folds, in place, from their number and that of the elements of each. nil: they are it.
  var finish: Finish?

  typealias Finish = @Sendable (_ totals: UnsafeMutablePointer<Element.Total>, _ count: Int, _ reduced: Int) -> Void

  /// What is done to elements before they are folded: `rows` rows of n, less a shift for each row, or one for each of
  /// the n columns.
  typealias Shift =
    @Sendable (
      _ x: UnsafeMutablePointer<Element>, _ shifts: UnsafePointer<Element>, _ rows: Int, _ n: Int, _ isByRow: Bool
    ) -> Void

  /// Outputs of a tile at most, and where tiles of columns are few.
  static var block: Int { 512 }
  private static var narrowTile: Int { 64 }
  /// Elements that the rows of a tile should have together, so that there are several tiles.
  private static var tileElements: Int { 32_768 }
  /// Long folds are cut into chunks of at least so many elements, at most `mostChunks`. The bits of a sum depend on
  /// where it is cut, so these numbers belong to the result and are no cost; so do the next ones.
  private static var chunk: Int { 65_536 }
  private static var mostChunks: Int { 64 }
  /// Elements of a line, and rows of columns, that are folded in elements before they are joined in wider totals.
  private static var linePiece: Int { 4096 }
  private static var columnPiece: Int { 256 }
  /// Rows of columns that are loaded at once, and columns of theirs that fit a block together.
  private static var stagedRows: Int { 32 }
  private static var stagedColumns: Int { 256 }
  private static var stagedElements: Int { max(linePiece, stagedRows * stagedColumns) }

  /// Elements that are not folded where they lie are brought into a block of `stagedElements` first.
  private func isStaged(_ shift: Shift?) -> Bool { load != nil || shift != nil }

  private static var isExact: Bool { Element.self == Element.Total.self }

  /// The working memory of one part.
  struct Memory {
    static func bytes(isStaged: Bool) -> Int {
      (3 * ReductionKernel.block + (isStaged ? ReductionKernel.stagedElements : 0)) * 8
    }
    let folded: UnsafeMutablePointer<Element>
    let shifts: UnsafeMutablePointer<Element>
    let totals: UnsafeMutablePointer<Element.Total>
    let staged: UnsafeMutablePointer<Element>

    init(_ base: UnsafeMutableRawPointer) {
      let bytes = ReductionKernel.block * 8
      folded = base.assumingMemoryBound(to: Element.self)
      shifts = (base + bytes).assumingMemoryBound(to: Element.self)
      totals = (base + 2 * bytes).assumingMemoryBound(to: Element.Total.self)
      staged = (base + 3 * bytes).assumingMemoryBound(to: Element.self)
    }
  }

  /// Outputs of a tile. What an output is does not depend on it.
  static func tileWidth(_ geometry: ReductionGeometry, chunks: Int, isStaged: Bool) -> Int {
    if geometry.isLine { return max(1, min(block, tileElements / max(geometry.reduceCount, 1))) }
    let isWide = geometry.outerCount * chunks * (geometry.columns / block) >= 16
    // Rows are brought to a block by calls that are worth some elements each.
    return isWide ? block : isStaged ? stagedColumns : narrowTile
  }

  func step(_ geometry: ReductionGeometry, name: String) -> Step {
    // Long folds are cut, so that there is work for all threads: where, their length alone decides.
    let wanted = max(1, min(Self.mostChunks, geometry.reduceCount / Self.chunk))
    let chunk = max(1, (geometry.reduceCount + wanted - 1) / wanted)
    let chunks = max(1, (geometry.reduceCount + chunk - 1) / chunk)
    let width = Self.tileWidth(geometry, chunks: chunks, isStaged: load != nil)
    let tiles = (geometry.columns + width - 1) / width
    let tasks = geometry.outerCount * tiles
    if tasks == 0 { return Step(phases: []) { _, _, _ in } }
    let columns = min(geometry.columns, width)
    let work = geometry.reduceCount * columns
    let partition = Partition(tasks * chunks, of: .light * 2 * chunk * columns)
    let bytes = Memory.bytes(isStaged: load != nil)
    let partials = partition.parts * bytes
    let scratch = partials + (chunks > 1 ? tasks * chunks * columns * 8 : 0)
    let isDirect = chunks == 1 && store == nil && finish == nil && isOnePiece(geometry)
    var step = Step(phases: chunks > 1 ? [partition.parts, 1] : [partition.parts], scratchBytes: scratch) {
      run, phase, part in
      let memory = Memory(run.scratch + part &* bytes)
      let table = (run.scratch + partials).assumingMemoryBound(to: Element.Total.self)
      if phase == 1 {
        return join(geometry, tileWidth: width, chunks: chunks, table, memory, run.outputBytes())
      }
      for item in partition.range(part) {
        let (task, number) = (item / chunks, item % chunks)
        let (outer, tile) = (task / tiles, task % tiles)
        let first = tile &* width
        let count = min(width, geometry.columns &- first)
        let base = geometry.keptOffset(outer) &+ first &* geometry.columnStride
        let place = outer &* geometry.columns &+ first
        if isDirect {
          let y = run.outputBytes().assumingMemoryBound(to: Element.self) + place
          foldPiece(geometry, run.inputBytes(0), base, count, geometry.lineLength, memory, shift: nil, to: y)
          continue
        }
        let range = number &* chunk..<min(geometry.reduceCount, (number &+ 1) &* chunk)
        fold(geometry, run.inputBytes(0), base, count, range, memory, shift: nil)
        if chunks > 1 {
          (table + item &* columns).update(from: memory.totals, count: count)
        } else {
          write(memory, count, geometry.reduceCount, run.outputBytes(), at: place)
        }
      }
    }
    step.kernelName = name
    step.cost = Cost(operations: tasks * work)
    return step
  }

  /// Joins the partial results of all chunks, in order.
  private func join(
    _ geometry: ReductionGeometry, tileWidth: Int, chunks: Int, _ table: UnsafeMutablePointer<Element.Total>,
    _ memory: Memory, _ output: UnsafeMutableRawPointer
  ) {
    let columns = min(geometry.columns, tileWidth)
    let tiles = (geometry.columns + tileWidth - 1) / tileWidth
    for task in 0..<geometry.outerCount &* tiles {
      let first = task % tiles &* tileWidth
      let count = min(tileWidth, geometry.columns &- first)
      for column in 0..<count {
        var total = table[task &* chunks &* columns &+ column]
        for number in 1..<chunks {
          total = Element.Total.merged(fold.fold, total, table[(task &* chunks &+ number) &* columns &+ column])
        }
        memory.totals[column] = total
      }
      write(memory, count, geometry.reduceCount, output, at: task / tiles &* geometry.columns &+ first)
    }
  }

  /// Finishes `count` totals and writes them.
  func write(_ memory: Memory, _ count: Int, _ reduced: Int, _ output: UnsafeMutableRawPointer, at start: Int) {
    if let finish { finish(memory.totals, count, reduced) }
    let target = store == nil ? output.assumingMemoryBound(to: Element.self) + start : memory.folded
    for column in 0..<count { target[column] = Element(total: memory.totals[column]) }
    if let store { store(target, output, start, count) }
  }

  // MARK: - Folding

  /// Elements of a line, or rows, that are folded at once.
  private func pieceLength(_ geometry: ReductionGeometry, _ shift: Shift?) -> Int {
    if isStaged(shift) { return geometry.isLine ? Self.linePiece : Self.stagedRows }
    return Self.isExact ? Int.max : geometry.isLine ? Self.linePiece : Self.columnPiece
  }

  private func isOnePiece(_ geometry: ReductionGeometry) -> Bool {
    geometry.reduceCount == geometry.lineLength && geometry.lineLength <= pieceLength(geometry, nil)
  }

  /// Folds the elements `range` of the reduced space for `count` outputs of a tile, the first of which starts at the
  /// element `base`, into `memory.totals`.
  func fold(
    _ geometry: ReductionGeometry, _ input: UnsafeRawPointer, _ base: Int, _ count: Int, _ range: Range<Int>,
    _ memory: Memory, shift: Shift?
  ) {
    let piece = pieceLength(geometry, shift)
    if range == 0..<geometry.lineLength, range.count == geometry.reduceCount, range.count <= piece {
      foldPiece(geometry, input, base, count, range.count, memory, shift: shift, to: memory.folded)
      for column in 0..<count { memory.totals[column] = memory.folded[column].total }
      return
    }
    memory.totals.update(repeating: fold.identity.total, count: count)
    var position = range.lowerBound
    while position < range.upperBound {
      let line = position / geometry.lineLength
      let start = position &- line &* geometry.lineLength
      let length = min(piece, geometry.lineLength &- start, range.upperBound &- position)
      let element = base &+ geometry.lineOffset(line) &+ start &* geometry.lineStride
      foldPiece(geometry, input, element, count, length, memory, shift: shift, to: memory.folded)
      fold.join(memory.folded, to: memory.totals, count)
      position &+= length
    }
  }

  /// Folds `length` elements of a line, or rows, for each of `count` outputs into y; the first element is `element`.
  private func foldPiece(
    _ geometry: ReductionGeometry, _ input: UnsafeRawPointer, _ element: Int, _ count: Int, _ length: Int,
    _ memory: Memory, shift: Shift?, to y: UnsafeMutablePointer<Element>
  ) {
    if isStaged(shift) { return foldStaged(geometry, input, element, count, length, memory, shift, to: y) }
    let x = input.assumingMemoryBound(to: Element.self) + element
    if geometry.isLine {
      fold.rows(count, length, x, geometry.columnStride, y)
    } else {
      fold.columns(length, count, x, geometry.lineStride, y)
    }
  }

  /// The same by way of a block of memory.
  private func foldStaged(
    _ geometry: ReductionGeometry, _ input: UnsafeRawPointer, _ element: Int, _ count: Int, _ length: Int,
    _ memory: Memory, _ shift: Shift?, to y: UnsafeMutablePointer<Element>
  ) {
    if geometry.isLine {
      let most = max(1, Self.linePiece / max(length, 1))
      var first = 0
      while first < count {
        let rows = min(most, count &- first)
        stage(input, element &+ first &* geometry.columnStride, rows, length, geometry.columnStride, memory.staged)
        shift?(memory.staged, memory.shifts + first, rows, length, true)
        fold.rows(rows, length, memory.staged, length, y + first)
        first &+= rows
      }
    } else {
      var first = 0
      while first < count {
        let columns = min(Self.stagedColumns, count &- first)
        stage(input, element &+ first, length, columns, geometry.lineStride, memory.staged)
        shift?(memory.staged, memory.shifts + first, length, columns, false)
        fold.columns(length, columns, memory.staged, columns, y + first)
        first &+= columns
      }
    }
  }

  /// Brings `rows` rows of `length` neighbours, `stride` apart, one behind the other.
  private func stage(
    _ input: UnsafeRawPointer, _ element: Int, _ rows: Int, _ length: Int, _ stride: Int,
    _ target: UnsafeMutablePointer<Element>
  ) {
    let isDense = stride == length || rows == 1
    for row in 0..<(isDense ? 1 : rows) {
      let (start, place) = (element &+ row &* stride, target + row &* length)
      let count = isDense ? rows &* length : length
      if let load {
        load(input, start, place, count)
      } else {
        place.update(from: input.assumingMemoryBound(to: Element.self) + start, count: count)
      }
    }
  }
}
