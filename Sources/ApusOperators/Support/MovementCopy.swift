// A copy of a box of elements between two strided layouts: what Transpose, Slice, Concat, Expand, Tile … come down to.

import ApusGraph
import ApusTensor
import CApusKernels

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Nested loops that copy elements of one width from a source to a target. Immutable; made while planning.
///
/// The loops are cut into `count` blocks of elements that are best copied together; any range of these can be copied
/// alone, so that parts can divide them. Reads and writes need no alignment.
struct MovementCopy: Sendable {
  /// Where the elements come from.
  enum Source: Sendable {
    case input(Int)
    /// A tensor that was known when the kernel was prepared.
    case constant(Tensor)
    /// Zero bytes; every stride must be 0.
    case zeros
  }

  /// One loop, with strides in bytes.
  struct Axis: Sendable {
    var count: Int
    var source: Int
    var target: Int
  }

  /// Loops around each other, as few as the strides allow. Most copies have two at most, which take no list.
  struct LoopNest {
    fileprivate(set) var outer: [Axis] = []
    fileprivate(set) var row: Axis?
    fileprivate(set) var column: Axis?

    /// Puts a loop inside of the others; two that step through memory as one become one.
    mutating func append(_ axis: Axis) {
      if axis.count == 1 { return }
      if let last = column, last.source == axis.source * axis.count, last.target == axis.target * axis.count {
        column = Axis(count: last.count * axis.count, source: axis.source, target: axis.target)
        return
      }
      if let row { outer.append(row) }
      (row, column) = (column, axis)
    }

    /// Dense runs of `length` elements to places `distance` elements apart.
    static func runs(_ count: Int, of length: Int, width: Int, to distance: Int) -> LoopNest {
      var loops = LoopNest()
      loops.append(Axis(count: count, source: length * width, target: distance * width))
      loops.append(Axis(count: length, source: width, target: width))
      return loops
    }

    /// Takes the innermost loop away.
    fileprivate mutating func removeLast() { (column, row) = (row, outer.popLast()) }

    /// Makes the axis along which the source is contiguous the other side of a tile.
    fileprivate mutating func turn(contiguous width: Int) {
      guard let column, column.source != width, let row, row.source != width,
        let index = outer.lastIndex(where: { $0.source == width })
      else { return }
      self.row = outer.remove(at: index)
      outer.append(row)
    }
  }

  let source: Source
  let output: Int
  /// The blocks of elements that are copied.
  let count: Int
  /// The bytes that are copied.
  let byteCount: Int
  /// Bytes of one element; may be wider than the element type where neighbours stay neighbours.
  let width: Int
  private let sourceOffset: Int
  private let targetOffset: Int
  /// All loops but the two innermost, outermost first.
  private let outer: [Axis]
  private let row: Axis
  private let column: Axis
  private let copyPlane: PlaneCopy
  /// Rows and columns of a block, and how many blocks stand below and beside each other.
  private let blockRows: Int
  private let blockColumns: Int
  private let rowBlocks: Int
  private let columnBlocks: Int

  /// Copies `extents` elements of `width` bytes. Strides and offsets count elements.
  init(
    from source: Source, to output: Int = 0, width: Int, extents: [Int], sourceStrides: [Int], targetStrides: [Int],
    sourceOffset: Int = 0, targetOffset: Int = 0
  ) throws(OperatorError) {
    var loops = LoopNest()
    for index in extents.indices {
      loops.append(
        Axis(count: extents[index], source: sourceStrides[index] * width, target: targetStrides[index] * width))
    }
    try self.init(
      from: source, to: output, width: width, loops, sourceOffset: sourceOffset, targetOffset: targetOffset)
  }

  /// Copies the elements of `loops`. Offsets count elements.
  init(
    from source: Source, to output: Int = 0, width: Int, _ nest: LoopNest, sourceOffset: Int = 0, targetOffset: Int = 0
  ) throws(OperatorError) {
    var loops = nest
    self.source = source
    self.output = output
    self.sourceOffset = sourceOffset * width
    self.targetOffset = targetOffset * width
    var width = width
    // A short run of neighbours is one wider element.
    if let run = loops.column, run.source == width, run.target == width, [2, 4, 8, 16].contains(run.count * width) {
      width *= run.count
      loops.removeLast()
    }
    self.width = width
    loops.turn(contiguous: width)
    column = loops.column ?? Axis(count: 1, source: width, target: width)
    row = loops.row ?? Axis(count: 1, source: 0, target: 0)
    outer = loops.outer
    byteCount = outer.reduce(width * row.count * column.count) { $0 * $1.count }
    copyPlane = try PlaneCopy.function(width: width, row: row, column: column)
    (blockRows, blockColumns) = MovementCopy.block(width: width, row: row, column: column)
    rowBlocks = (row.count + blockRows - 1) / blockRows
    columnBlocks = (column.count + blockColumns - 1) / blockColumns
    count = byteCount == 0 ? 0 : outer.reduce(rowBlocks * columnBlocks) { $0 * $1.count }
  }

  private static let fewColumns = 4

  /// The elements that are copied together.
  private static func block(width: Int, row: Axis, column: Axis) -> (rows: Int, columns: Int) {
    let columns = max(1, min(column.count, (16 << 10) / width))
    if row.source == width, column.source != width {
      // Each line of the cache that is read gives one element to every row: with fewer rows it is read again. Of few
      // columns whole runs are put together.
      let rows = columns <= fewColumns ? (16 << 10) / (columns * width) : 64 / width
      return (max(1, min(row.count, rows)), min(columns, row.count <= fewColumns ? (16 << 10) / width : 512))
    }
    return (max(1, min(row.count, (16 << 10) / (columns * width))), columns)
  }

  /// True if the copy moves one run of bytes to the start of a target of just as many: a view could stand for it.
  var isContiguous: Bool {
    outer.isEmpty && row.count == 1 && (column.count == 1 || (column.source == width && column.target == width))
  }

  /// The blocks in parts.
  var partition: Partition { Partition(count, of: .copying(bytes: count == 0 ? 0 : byteCount / count)) }

  /// The first byte that is read.
  var firstSourceByte: Int { sourceOffset }

  /// Copies the blocks of `range`.
  func run(_ context: RunContext, _ range: Range<Int>) {
    let target = context.outputBytes(output)
    switch source {
    case .input(let index): run(from: context.inputBytes(index), to: target, range)
    case .constant(let tensor):
      tensor.withUnsafeBytes { if let base = $0.baseAddress { run(from: base, to: target, range) } }
    case .zeros: run(from: UnsafeRawPointer(MovementCopy.zeros), to: target, range)
    }
  }

  /// Copies the blocks of `range` between the given memory.
  func run(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, _ range: Range<Int>) {
    if let last = outer.last, rowBlocks == 1, columnBlocks == 1 {
      runPlanes(from: source, to: target, range, along: last)
    } else {
      runBlocks(from: source, to: target, range)
    }
  }

  /// The same where the two innermost loops are one block: the loop around them takes no division.
  private func runPlanes(
    from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, _ range: Range<Int>, along last: Axis
  ) {
    var index = range.lowerBound
    while index < range.upperBound {
      var (rest, first) = index.quotientAndRemainder(dividingBy: last.count)
      var from = sourceOffset &+ first &* last.source
      var to = targetOffset &+ first &* last.target
      var axis = outer.count &- 2
      while axis >= 0 {
        let next = rest / outer[axis].count
        let position = rest &- next &* outer[axis].count
        from &+= position &* outer[axis].source
        to &+= position &* outer[axis].target
        rest = next
        axis &-= 1
      }
      let end = min(last.count, first &+ range.upperBound &- index)
      index &+= end &- first
      while first < end {
        copyPlane(source + from, target + to, row.count, column.count)
        from &+= last.source
        to &+= last.target
        first &+= 1
      }
    }
  }

  private func runBlocks(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, _ range: Range<Int>) {
    for index in range {
      let (line, columnBlock) = index.quotientAndRemainder(dividingBy: columnBlocks)
      var (plane, rowBlock) = line.quotientAndRemainder(dividingBy: rowBlocks)
      let (firstRow, firstColumn) = (rowBlock &* blockRows, columnBlock &* blockColumns)
      var from = sourceOffset &+ firstRow &* row.source &+ firstColumn &* column.source
      var to = targetOffset &+ firstRow &* row.target &+ firstColumn &* column.target
      var axis = outer.count &- 1
      while axis >= 0 {
        let next = plane / outer[axis].count
        let position = plane &- next &* outer[axis].count
        from &+= position &* outer[axis].source
        to &+= position &* outer[axis].target
        plane = next
        axis &-= 1
      }
      copyPlane(
        source + from, target + to, min(blockRows, row.count &- firstRow),
        min(blockColumns, column.count &- firstColumn))
    }
  }

  /// Zero bytes to read from. Never written: `nonisolated(unsafe)` because pointers are not Sendable.
  private nonisolated(unsafe) static let zeros: UnsafeMutableRawPointer = {
    let block = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64)
    block.initializeMemory(as: UInt8.self, repeating: 0, count: 64)
    return block
  }()
}

/// The two innermost loops of a copy: `rows` × `columns` elements with fixed strides in bytes.
private struct PlaneCopy: Sendable {
  typealias Function =
    @Sendable (
      _ source: UnsafeRawPointer, _ target: UnsafeMutableRawPointer, _ rows: Int, _ columns: Int, _ strides: PlaneCopy
    ) -> Void

  let row: MovementCopy.Axis
  let column: MovementCopy.Axis
  let width: Int
  private let function: Function

  /// A function as one value, which generic code hands on as it is.
  private struct Loops: Sendable {
    let function: Function
  }

  static func function(
    width: Int, row: MovementCopy.Axis, column: MovementCopy.Axis
  ) throws(OperatorError) -> PlaneCopy {
    let function: Function
    if column.source == width && column.target == width {
      function = copyRuns
    } else if isTransposition(width: width, row: row, column: column) {
      function = try PlaneFacts.Candidate.choose(
        .planeCopy, for: PlaneFacts(row: row, column: column, width: width), PlaneFacts.candidates
      ).function
    } else {
      function = loops(width: width)
    }
    return PlaneCopy(row: row, column: column, width: width, function: function)
  }

  /// A copy that might be one of the transposing kernels.
  private static func isTransposition(width: Int, row: MovementCopy.Axis, column: MovementCopy.Axis) -> Bool {
    row.count > 1 && row.source == width && column.target == width
      && column.source % width == 0 && row.target % width == 0
  }

  /// What a copy whose source is contiguous along the rows, and its target along the columns, is chosen by.
  private struct PlaneFacts: KernelFacts {
    typealias Candidate = KernelCandidate<PlaneFacts, Loops>

    let row: MovementCopy.Axis
    let column: MovementCopy.Axis
    let width: Int

    var elementType: DataType? { nil }
    private var elements: Double { Double(row.count) * Double(column.count) }

    static let candidates = [
      Candidate("plain") {
        .cost(.loops(operations: $0.elements))
      } make: {
        Loops(function: loops(width: $0.width))
      },
      Candidate("transpose") {
        [1, 2, 4, 8].contains($0.width)
          ? .cost(.vectors(operations: $0.elements)) : .refused("no elements of \($0.width) bytes")
      } make: {
        transposition(width: $0.width, row: $0.row, column: $0.column).map { Loops(function: $0) }
      },
    ]
  }

  private static func loops(width: Int) -> Function {
    switch width {
    case 1: { copyElements(UInt8.self, $0, $1, $2, $3, $4) }
    case 2: { copyElements(UInt16.self, $0, $1, $2, $3, $4) }
    case 4: { copyElements(UInt32.self, $0, $1, $2, $3, $4) }
    case 8: { copyElements(UInt64.self, $0, $1, $2, $3, $4) }
    case 16: { copyElements(SIMD2<UInt64>.self, $0, $1, $2, $3, $4) }
    default: copyBlocks
    }
  }

  /// The micro-kernel.
  private static func transposition(width: Int, row: MovementCopy.Axis, column: MovementCopy.Axis) -> Function? {
    let kernels = apus_kernels().pointee
    let kernel: @convention(c) (Int, Int, UnsafeRawPointer, Int, UnsafeMutableRawPointer, Int) -> Void
    switch width {
    case 1: kernel = kernels.transpose_1
    case 2: kernel = kernels.transpose_2
    case 4: kernel = kernels.transpose_4
    case 8: kernel = kernels.transpose_8
    default: return nil
    }
    let (sourceLine, targetLine) = (column.source / width, row.target / width)
    return { source, target, rows, columns, _ in kernel(columns, rows, source, sourceLine, target, targetLine) }
  }

  @inline(__always)
  func callAsFunction(_ source: UnsafeRawPointer, _ target: UnsafeMutableRawPointer, _ rows: Int, _ columns: Int) {
    function(source, target, rows, columns, self)
  }
}

/// Rows whose elements are neighbours on both sides.
private func copyRuns(
  _ source: UnsafeRawPointer, _ target: UnsafeMutableRawPointer, _ rows: Int, _ columns: Int, _ strides: PlaneCopy
) {
  let bytes = columns &* strides.width
  for row in 0..<rows {
    memcpy(target + row &* strides.row.target, source + row &* strides.row.source, bytes)
  }
}

/// Elements of any width.
private func copyBlocks(
  _ source: UnsafeRawPointer, _ target: UnsafeMutableRawPointer, _ rows: Int, _ columns: Int, _ strides: PlaneCopy
) {
  for row in 0..<rows {
    for column in 0..<columns {
      memcpy(
        target + (row &* strides.row.target &+ column &* strides.column.target),
        source + (row &* strides.row.source &+ column &* strides.column.source), strides.width)
    }
  }
}

/// Elements of one machine width under any strides. Offsets stay within the operands, so they cannot overflow.
@inline(__always)
private func copyElements<Element: BitwiseCopyable>(
  _ type: Element.Type, _ source: UnsafeRawPointer, _ target: UnsafeMutableRawPointer, _ rows: Int, _ columns: Int,
  _ strides: PlaneCopy
) {
  let (rowSource, rowTarget) = (strides.row.source, strides.row.target)
  let (columnSource, columnTarget) = (strides.column.source, strides.column.target)
  let size = MemoryLayout<Element>.size
  if columnSource == 0 {
    for row in 0..<rows {
      let element = (source + row &* rowSource).loadUnaligned(as: Element.self)
      let line = target + row &* rowTarget
      if columnTarget == size {
        for column in 0..<columns { line.storeBytes(of: element, toByteOffset: column &* size, as: Element.self) }
      } else {
        for column in 0..<columns {
          line.storeBytes(of: element, toByteOffset: column &* columnTarget, as: Element.self)
        }
      }
    }
    return
  }
  if rows > 1 && rowSource == size {
    copyTiles(type, source, target, rows, columns, strides)
    return
  }
  // The longer loop goes inside.
  if columns < rows && columns < 8 {
    for column in 0..<columns {
      let from = source + column &* columnSource
      let to = target + column &* columnTarget
      for row in 0..<rows {
        to.storeBytes(
          of: (from + row &* rowSource).loadUnaligned(as: Element.self), toByteOffset: row &* rowTarget,
          as: Element.self)
      }
    }
    return
  }
  for row in 0..<rows {
    let from = source + row &* rowSource
    let to = target + row &* rowTarget
    for column in 0..<columns {
      to.storeBytes(
        of: (from + column &* columnSource).loadUnaligned(as: Element.self), toByteOffset: column &* columnTarget,
        as: Element.self)
    }
  }
}

/// The same for a source that is contiguous along the rows: in square tiles, so that both sides stay in the cache.
@inline(__always)
private func copyTiles<Element: BitwiseCopyable>(
  _ type: Element.Type, _ source: UnsafeRawPointer, _ target: UnsafeMutableRawPointer, _ rows: Int, _ columns: Int,
  _ strides: PlaneCopy
) {
  let side = 16
  let (rowSource, rowTarget) = (strides.row.source, strides.row.target)
  let (columnSource, columnTarget) = (strides.column.source, strides.column.target)
  var top = 0
  while top < rows {
    let bottom = min(top &+ side, rows)
    var left = 0
    while left < columns {
      let right = min(left &+ side, columns)
      for row in top..<bottom {
        let from = source + row &* rowSource
        let to = target + row &* rowTarget
        for column in left..<right {
          to.storeBytes(
            of: (from + column &* columnSource).loadUnaligned(as: Element.self), toByteOffset: column &* columnTarget,
            as: Element.self)
        }
      }
      left = right
    }
    top = bottom
  }
}
