// Operands of a broadcast laid out as its result, block by block: so one loop over moving operands serves every pattern
// of repetition, however short its rows are.

import ApusTensor
import CApusKernels

/// Up to three operands that broadcast to one output, for loops in which all of them move.
struct BroadcastBlocks: Sendable {
  private enum Layout: Sendable {
    /// Element for element as the output.
    case moving
    /// All its elements in order, over and over: so many.
    case repeating(Int)
    /// Any other way.
    case rows
  }

  private struct Operand: Sendable {
    let layout: Layout
    let width: Int
    let expand: ExpandKernel
  }

  private typealias ExpandKernel =
    @convention(c) (Int, Int, UnsafeRawPointer, Int, Int32, UnsafeMutableRawPointer) -> Void

  /// Bytes of an operand that lie on the stack at a time, and those that a kernel may write behind them.
  private static let blockBytes = 4096
  private static let slack = 64
  /// What the runtime surely takes from the stack.
  private static let smallBytes = 1024

  private let broadcast: Broadcast
  private let operands: [Operand]
  /// Elements of a block, and those of an output that has no more than fit into small blocks.
  private let capacity: Int
  private let isSmall: Bool
  /// The most elements that are worked on at a time. Less than a block by the part of a period in which one may begin.
  private let longest: Int

  /// nil for elements of 16 bytes. `widths` are those of the inputs' elements.
  init?(_ broadcast: Broadcast, output: Shape, inputs: [Shape], widths: [Int]) {
    let kernels = apus_kernels().pointee
    self.broadcast = broadcast
    let widest = widths.max() ?? 1
    let perSmall = (BroadcastBlocks.smallDistance(inputs.count) - BroadcastBlocks.slack) / widest
    isSmall = broadcast.count <= perSmall
    let capacity = isSmall ? perSmall : BroadcastBlocks.blockBytes / widest
    var (operands, longest, usesBlocks): ([Operand], Int, Bool) = ([], capacity, false)
    for (shape, width) in zip(inputs, widths) {
      let layout = BroadcastBlocks.layout(of: shape, in: output)
      let expand: ExpandKernel
      switch width {
      case 1: expand = kernels.expand_1
      case 2: expand = kernels.expand_2
      case 4: expand = kernels.expand_4
      case 8: expand = kernels.expand_8
      default: return nil
      }
      switch layout {
      case .moving: break
      case .repeating(let period) where period > capacity / 2: break
      case .repeating(let period): (longest, usesBlocks) = (min(longest, capacity - (period - 1)), true)
      case .rows: usesBlocks = true
      }
      operands.append(Operand(layout: layout, width: width, expand: expand))
    }
    (self.operands, self.capacity) = (operands, capacity)
    self.longest = usesBlocks ? longest : Int.max
  }

  /// How far small blocks lie apart.
  private static func smallDistance(_ operands: Int) -> Int { smallBytes / max(operands, 1) & ~(slack - 1) }

  private static func layout(of shape: Shape, in output: Shape) -> Layout {
    let count = shape.elementCount
    if count == output.elementCount { return .moving }
    let own = Array(shape.drop { $0 == 1 })
    return own == Array(output.suffix(own.count)) ? .repeating(count) : .rows
  }

  /// Calls `body` for runs of the output elements `range`, in order, with the elements of the operands for that run,
  /// the first output element and the number of elements. `bases` are the operands; those that there are not do not
  /// matter.
  @inline(__always)
  func forEach(
    in range: Range<Int>, _ bases: (UnsafeRawPointer, UnsafeRawPointer, UnsafeRawPointer),
    _ body: (
      _ operands: (UnsafeRawPointer, UnsafeRawPointer, UnsafeRawPointer), _ start: Int, _ count: Int
    ) -> Void
  ) {
    if range.isEmpty { return }
    if isSmall {
      withUnsafeTemporaryAllocation(byteCount: BroadcastBlocks.smallBytes, alignment: 64) { memory in
        guard let memory = memory.baseAddress else { return }
        walk(range, bases, memory, BroadcastBlocks.smallDistance(operands.count), body)
      }
    } else {
      // Three blocks of 4096 bytes and what lies behind each.
      var memory = InlineArray<1560, UInt64>(repeating: 0)
      withUnsafeMutableBytes(of: &memory) { bytes in
        guard let memory = bytes.baseAddress else { return }
        walk(range, bases, memory, BroadcastBlocks.blockBytes + BroadcastBlocks.slack, body)
      }
    }
  }

  /// The same with blocks in `memory`, `distance` bytes apart.
  @inline(__always)
  private func walk(
    _ range: Range<Int>, _ bases: (UnsafeRawPointer, UnsafeRawPointer, UnsafeRawPointer),
    _ memory: UnsafeMutableRawPointer, _ distance: Int,
    _ body: (
      _ operands: (UnsafeRawPointer, UnsafeRawPointer, UnsafeRawPointer), _ start: Int, _ count: Int
    ) -> Void
  ) {
    let blocks = (memory, memory + distance, memory + 2 &* distance)
    let needed = min(range.count, longest)
    if operands.count > 0 { fillPeriod(0, bases.0, blocks.0, needed) }
    if operands.count > 1 { fillPeriod(1, bases.1, blocks.1, needed) }
    if operands.count > 2 { fillPeriod(2, bases.2, blocks.2, needed) }
    var start = range.lowerBound
    while start < range.upperBound {
      var count = min(longest, range.upperBound &- start)
      for operand in operands { bound(&count, by: operand, start) }
      let here = (
        operands.count > 0 ? elements(0, bases.0, blocks.0, start, count) : bases.0,
        operands.count > 1 ? elements(1, bases.1, blocks.1, start, count) : bases.1,
        operands.count > 2 ? elements(2, bases.2, blocks.2, start, count) : bases.2
      )
      body(here, start, count)
      start &+= count
    }
  }

  /// A long period is read where it lies, up to its end.
  @inline(__always)
  private func bound(_ count: inout Int, by operand: Operand, _ start: Int) {
    if case .repeating(let period) = operand.layout, period > capacity / 2 {
      count = min(count, period &- start % period)
    }
  }

  /// Fills the block of an operand with a short period: as much as runs of `needed` elements read.
  private func fillPeriod(
    _ index: Int, _ base: UnsafeRawPointer, _ block: UnsafeMutableRawPointer, _ needed: Int
  ) {
    let operand = operands[index]
    guard case .repeating(let period) = operand.layout, period <= capacity / 2 else { return }
    if period == 1 { return operand.expand(1, needed, base, 0, 0, block) }
    let rows = (needed &+ 2 &* (period &- 1)) / period
    operand.expand(min(rows, capacity / period), period, base, 0, 1, block)
    let left = min(capacity, needed &+ period &- 1) &- capacity / period &* period
    if left > 0 { operand.expand(1, left, base, 0, 1, block + capacity / period &* period &* operand.width) }
  }

  /// Where the elements of an operand for the output elements `start ..< start + count` lie; perhaps in `block` now.
  private func elements(
    _ index: Int, _ base: UnsafeRawPointer, _ block: UnsafeMutableRawPointer, _ start: Int, _ count: Int
  ) -> UnsafeRawPointer {
    let operand = operands[index]
    switch operand.layout {
    case .moving: return base + start &* operand.width
    case .repeating(1): return UnsafeRawPointer(block)
    case .repeating(let period):
      let source = period > capacity / 2 ? base : UnsafeRawPointer(block)
      return source + start % period &* operand.width
    case .rows:
      fill(index, base, block, start, count)
      return UnsafeRawPointer(block)
    }
  }

  /// Lays out the elements of an operand for the output elements `start ..< start + count`.
  private func fill(
    _ index: Int, _ base: UnsafeRawPointer, _ block: UnsafeMutableRawPointer, _ start: Int, _ count: Int
  ) {
    let (operand, inputs, length) = (operands[index], operands.count, broadcast.rowLength)
    let stride = broadcast.rowStrides[index]
    var (row, column) = start.quotientAndRemainder(dividingBy: length)
    var done = 0
    while done < count {
      var (rest, offset, alike) = (row, 0, 1)
      var axis = broadcast.dims.count &- 1
      // Rows up to the end of the innermost axis around them lie at equal distances.
      let distance = axis >= 0 ? broadcast.strides[axis &* inputs &+ index] : 0
      if axis >= 0 { alike = broadcast.dims[axis] &- row % broadcast.dims[axis] }
      while axis >= 0 {
        let (outer, coordinate) = rest.quotientAndRemainder(dividingBy: broadcast.dims[axis])
        offset &+= coordinate &* broadcast.strides[axis &* inputs &+ index]
        rest = outer
        axis &-= 1
      }
      let left = count &- done
      let source = base + (offset &+ column &* stride) &* operand.width
      let target = block + done &* operand.width
      if column == 0 && left >= length {
        let rows = min(alike, left / length)
        operand.expand(rows, length, source, distance, Int32(truncatingIfNeeded: stride), target)
        (row, done) = (row &+ rows, done &+ rows &* length)
      } else {
        let part = min(length &- column, left)
        operand.expand(1, part, source, 0, Int32(truncatingIfNeeded: stride), target)
        (row, column, done) = (row &+ 1, 0, done &+ part)
      }
    }
  }
}
