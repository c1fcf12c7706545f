// The step of a reduction: tasks of outputs, long folds cut into chunks, all in an order that only shapes decide.

import ApusGraph
import ApusTensor

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// A reduction prepared for one lane type.
struct ReductionKernel<Element: ReductionLane>: Sendable {
  let fold: LaneFold<Element>
  /// Reads elements into lanes; nil where the elements are lanes.
  let load: LaneLoad?
  let store: LaneStore
  /// The output from the joined fold and the number of elements.
  let finish: @Sendable (Element.Total, Int) -> Element.Total

  /// What is done to the lanes before they are folded: x becomes exp(x - shift), a shift for each column.
  typealias Shift =
    @Sendable (
      _ x: UnsafePointer<Element>, _ shift: UnsafePointer<Element>, _ stride: Int, UnsafeMutablePointer<Element>, Int
    )
    -> Void

  /// Lanes of a block, and columns of a tile at most.
  static var block: Int { 512 }
  /// Columns of a tile where tiles are few.
  private static var narrowTile: Int { 64 }
  /// Long folds are cut into chunks of at least so many elements, at most `mostChunks`. The bits of a sum depend on
  /// where it is cut, so these numbers belong to the result and are no cost.
  private static var chunk: Int { 65_536 }
  private static var mostChunks: Int { 64 }
  /// Rows that are folded in lanes before they are joined in totals.
  static var rowBlock: Int { 256 }

  /// The working memory of one part.
  struct Memory {
    static var bytes: Int { 4 * ReductionKernel.block * 8 }
    /// Loaded lanes, folded lanes, shifts.
    let lanes: UnsafeMutablePointer<Element>
    let folded: UnsafeMutablePointer<Element>
    let shifts: UnsafeMutablePointer<Element>
    let totals: UnsafeMutablePointer<Element.Total>

    init(_ base: UnsafeMutableRawPointer) {
      lanes = base.assumingMemoryBound(to: Element.self)
      folded = (base + ReductionKernel.block * 8).assumingMemoryBound(to: Element.self)
      shifts = (base + 2 * ReductionKernel.block * 8).assumingMemoryBound(to: Element.self)
      totals = (base + 3 * ReductionKernel.block * 8).assumingMemoryBound(to: Element.Total.self)
    }
  }

  func step(_ geometry: ReductionGeometry, name: String) -> Step {
    if let step = shortLineStep(geometry) {
      return step.named(name, cost: Cost(operations: geometry.outerCount * geometry.reduceCount))
    }
    // Long folds are cut, so that there is work for all threads: where, their length alone decides.
    let wanted = max(1, min(Self.mostChunks, geometry.reduceCount / Self.chunk))
    let chunk = max(1, (geometry.reduceCount + wanted - 1) / wanted)
    let chunks = max(1, (geometry.reduceCount + chunk - 1) / chunk)
    // Narrow tiles for the same reason; no column knows how many others there are.
    let isWide = geometry.outerCount * chunks * (geometry.columns / Self.block) >= 16
    let width = isWide ? Self.block : Self.narrowTile
    let tiles = (geometry.columns + width - 1) / width
    let tasks = geometry.outerCount * tiles
    if tasks == 0 { return Step(phases: []) { _, _, _ in } }
    let columns = min(geometry.columns, width)
    let work = geometry.reduceCount * columns
    let partition = Partition(tasks * chunks, of: .light * 2 * chunk * columns)
    let partials = partition.parts * Memory.bytes
    let scratch = partials + (chunks > 1 ? tasks * chunks * columns * 8 : 0)
    var step = Step(phases: chunks > 1 ? [partition.parts, 1] : [partition.parts], scratchBytes: scratch) {
      run, phase, part in
      let memory = Memory(run.scratch + part &* Memory.bytes)
      let table = (run.scratch + partials).assumingMemoryBound(to: Element.Total.self)
      if phase == 1 {
        return join(geometry, tileWidth: width, chunks: chunks, table, memory, run.outputBytes())
      }
      for item in partition.range(part) {
        let (task, number) = (item / chunks, item % chunks)
        let (outer, tile) = (task / tiles, task % tiles)
        let first = tile &* width
        let count = min(width, geometry.columns &- first)
        let base = geometry.keptOffset(outer) &+ first
        let range = number &* chunk..<min(geometry.reduceCount, (number &+ 1) &* chunk)
        fold(geometry, run.inputBytes(0), base, count, range, memory, shift: nil)
        if chunks > 1 {
          (table + item &* columns).update(from: memory.totals, count: count)
        } else {
          write(memory, count, geometry.reduceCount, run.outputBytes(), at: outer &* geometry.columns &+ first)
        }
      }
    }
    step.kernelName = name
    step.cost = Cost(operations: tasks * work)
    return step
  }

  /// Elements of a line up to which many lines are folded side by side.
  private static var shortLine: Int { 16 }

  /// Short lines one behind the other: the first elements of many lines, then the second ones, and so on. nil for
  /// others.
  private func shortLineStep(_ geometry: ReductionGeometry) -> Step? {
    let length = geometry.lineLength
    guard geometry.isLine, geometry.outerReduced.isEmpty, length > 0, length <= Self.shortLine, geometry.outerCount > 0
    else { return nil }
    // Elements that must be loaded first have as much room as lanes.
    let lines = load == nil ? Self.block : Self.block / length
    let partition = Partition(geometry.outerCount, of: .light * 2 * length)
    return .parallel(parts: partition.parts, scratchBytes: partition.parts * Memory.bytes) { run, part in
      let memory = Memory(run.scratch + part &* Memory.bytes)
      let range = partition.range(part)
      var first = range.lowerBound
      while first < range.upperBound {
        let count = min(lines, range.upperBound &- first)
        var source = run.inputBytes(0).assumingMemoryBound(to: Element.self) + first &* length
        if let load {
          load(run.inputBytes(0), first &* length, memory.shifts, count &* length)
          source = UnsafePointer(memory.shifts)
        }
        for line in 0..<count { memory.folded[line] = fold.identity }
        for index in 0..<length {
          for line in 0..<count { memory.lanes[line] = source[line &* length &+ index] }
          fold.row(memory.lanes, memory.folded, count)
        }
        for line in 0..<count { memory.totals[line] = memory.folded[line].total }
        write(memory, count, length, run.outputBytes(), at: first)
        first &+= count
      }
    }
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
        for number in 1..<chunks { total = fold.join(total, table[(task &* chunks &+ number) &* columns &+ column]) }
        memory.totals[column] = total
      }
      write(memory, count, geometry.reduceCount, output, at: task / tiles &* geometry.columns &+ first)
    }
  }

  /// Finishes `count` totals and writes them.
  func write(_ memory: Memory, _ count: Int, _ reduced: Int, _ output: UnsafeMutableRawPointer, at start: Int) {
    for column in 0..<count { memory.lanes[column] = Element(total: finish(memory.totals[column], reduced)) }
    store(memory.lanes, output, start, count)
  }

  /// Folds the elements `range` of the reduced space for `count` neighbouring outputs, the first of which starts at the
  /// element `base`, into `memory.totals`.
  func fold(
    _ geometry: ReductionGeometry, _ input: UnsafeRawPointer, _ base: Int, _ count: Int, _ range: Range<Int>,
    _ memory: Memory, shift: Shift?
  ) {
    for column in 0..<count { memory.totals[column] = fold.identity.total }
    var position = range.lowerBound
    while position < range.upperBound {
      let line = position / geometry.lineLength
      let start = position &- line &* geometry.lineLength
      let length = min(geometry.lineLength &- start, range.upperBound &- position)
      let element = base &+ geometry.lineOffset(line) &+ start &* geometry.lineStride
      if geometry.isLine {
        foldLine(input, element, length, memory, shift)
      } else {
        foldRows(input, element, geometry.lineStride, length, count, memory, shift)
      }
      position &+= length
    }
  }

  /// Folds `length` neighbours into the first total.
  private func foldLine(
    _ input: UnsafeRawPointer, _ element: Int, _ length: Int, _ memory: Memory, _ shift: Shift?
  ) {
    if load == nil && shift == nil {
      let source = input.assumingMemoryBound(to: Element.self) + element
      var start = 0
      while start < length {
        let count = min(8 &* Self.block, length &- start)
        memory.totals[0] = fold.join(memory.totals[0], fold.line(source + start, count).total)
        start &+= count
      }
      return
    }
    var start = 0
    while start < length {
      let count = min(Self.block, length &- start)
      let source = lanes(input, element &+ start, count, memory)
      if let shift { shift(source, memory.shifts, 0, memory.lanes, count) }
      let folded = fold.line(shift == nil ? source : UnsafePointer(memory.lanes), count)
      memory.totals[0] = fold.join(memory.totals[0], folded.total)
      start &+= count
    }
  }

  /// Folds `length` rows of `count` columns, `stride` apart, into the totals.
  private func foldRows(
    _ input: UnsafeRawPointer, _ element: Int, _ stride: Int, _ length: Int, _ count: Int, _ memory: Memory,
    _ shift: Shift?
  ) {
    var start = 0
    while start < length {
      let rows = min(Self.rowBlock, length &- start)
      let first = element &+ start &* stride
      if let rowsKernel = fold.rows, load == nil, shift == nil {
        rowsKernel(input.assumingMemoryBound(to: Element.self) + first, stride, rows, memory.folded, count)
      } else {
        for column in 0..<count { memory.folded[column] = fold.identity }
        for row in 0..<rows {
          let source = lanes(input, first &+ row &* stride, count, memory)
          if let shift { shift(source, memory.shifts, 1, memory.lanes, count) }
          fold.row(shift == nil ? source : UnsafePointer(memory.lanes), memory.folded, count)
        }
      }
      for column in 0..<count { memory.totals[column] = fold.join(memory.totals[column], memory.folded[column].total) }
      start &+= rows
    }
  }

  /// The lanes of `count` neighbours: the elements themselves or a copy.
  @inline(__always)
  private func lanes(_ input: UnsafeRawPointer, _ element: Int, _ count: Int, _ memory: Memory) -> UnsafePointer<
    Element
  > {
    guard let load else { return input.assumingMemoryBound(to: Element.self) + element }
    load(input, element, memory.lanes, count)
    return UnsafePointer(memory.lanes)
  }
}

/// The logarithm of a sum of exponentials: the maximum first, then the sum of exp(x - maximum).
struct LogSumExpKernel<Element: ReductionLane & BinaryFloatingPoint>: Sendable where Element.Total == Double {
  let maximum: ReductionKernel<Element>
  let sum: ReductionKernel<Element>
  let shift: ReductionKernel<Element>.Shift

  func step(_ geometry: ReductionGeometry) -> Step {
    let block = ReductionKernel<Element>.block
    let tiles = (geometry.columns + block - 1) / block
    let tasks = geometry.outerCount * tiles
    if tasks == 0 { return Step(phases: []) { _, _, _ in } }
    let work = geometry.reduceCount * min(geometry.columns, block)
    let partition = Partition(tasks, of: .medium * 2 * work)
    let bytes = ReductionKernel<Element>.Memory.bytes
    return Step.parallel(parts: partition.parts, scratchBytes: partition.parts * bytes) { run, part in
      let memory = ReductionKernel<Element>.Memory(run.scratch + part &* bytes)
      for task in partition.range(part) {
        let (outer, first) = (task / tiles, task % tiles &* block)
        let count = min(block, geometry.columns &- first)
        let base = geometry.keptOffset(outer) &+ first
        let all = 0..<geometry.reduceCount
        maximum.fold(geometry, run.inputBytes(0), base, count, all, memory, shift: nil)
        for column in 0..<count {
          // An infinite maximum must not meet itself: infinity - infinity is no number.
          let largest = Element(total: memory.totals[column])
          memory.shifts[column] = largest.isInfinite ? 0 : largest
        }
        sum.fold(geometry, run.inputBytes(0), base, count, all, memory, shift: shift)
        for column in 0..<count {
          memory.lanes[column] = Element(total: log(memory.totals[column]) + memory.shifts[column].total)
        }
        sum.store(memory.lanes, run.outputBytes(), outer &* geometry.columns &+ first, count)
      }
    }.named("log of sum of exponentials", cost: Cost(operations: tasks * work))
  }
}
