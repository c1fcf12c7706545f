// Maximum and average pools of planes by whole rows. Where rows are joined, the rows of a window become one
// first, element by element, and then the columns of that row: a window costs the sum of its extents, not their
// product.

import ApusGraph
import ApusTensor
import CApusKernels

/// What pools by rows work on.
protocol RowPoolElement: Numeric, Comparable, BitwiseCopyable, Sendable, SendableMetatype {
  init(_ value: Int)
  static func /= (left: inout Self, right: Self)
}

extension Float: RowPoolElement {}
extension Double: RowPoolElement {}
extension UInt8: RowPoolElement {}
extension Int8: RowPoolElement {}

enum RowPoolFunction: Sendable {
  /// The first NaN is larger than all; a window without elements is the least number.
  case maximum
  /// `countsPads`: elements of pads are zeros that count. For floats only.
  case average(countsPads: Bool)
}

/// The plan of a pool without indices, in the layout [batch, channels, spatial axes].
struct RowPool<Element: RowPoolElement>: Sendable {

  private let windows: PlaneWindows
  private let geometry: WindowGeometry
  private let function: RowPoolFunction
  /// For averages: the elements of each window along the last axis.
  private let counts: [Element]
  private let combine: BinaryKernel
  private let start: Element
  /// False: the elements of a window are added one after the other, as the plain form does. Averages of a few quantized
  /// numbers lie in the middle of two others now and then, and every other order would round some to the other one.
  private let joinsRows: Bool

  /// Elements of a row of outputs whose windows are counted beforehand: the counts are a table of the plan.
  static var longestCounted: Int { 1 << 22 }

  /// The largest windows whose elements are added in their order.
  private static var smallWindow: Int { 64 }

  /// `combine` is the kernel for two rows, `start` what windows without elements are.
  init(_ pool: PoolFacts, _ function: RowPoolFunction, combine: BinaryKernel, start: Element) {
    (geometry, self.function, self.combine, self.start) = (pool.geometry, function, combine, start)
    windows = PlaneWindows(geometry, planes: pool.planes)
    let lastAxis = geometry.rank - 1
    switch function {
    case .maximum: (counts, joinsRows) = ([], true)
    case .average(let countsPads):
      joinsRows = geometry.kernel.reduce(1, &*) > RowPool.smallWindow
      counts = (0..<geometry.output[lastAxis]).map { [geometry] in
        Element(countsPads ? geometry.countInPads(lastAxis, window: $0) : geometry.clip(lastAxis, window: $0).count)
      }
    }
  }

  /// The width of a row of the input, and of one of the output.
  private var widths: (input: Int, output: Int) {
    (geometry.input[geometry.rank - 1], geometry.output[geometry.rank - 1])
  }

  /// Input 0 to output 0.
  var step: Step {
    let lines = aligned(windows.scratchBytes)
    let lineBytes = geometry.input.contains(0) ? 0 : aligned(widths.input * MemoryLayout<Element>.size)
    let parts = windows.partition.parts
    return .parallel(parts: parts, scratchBytes: lines + parts * lineBytes) { run, part in
      let line = (run.scratch + lines + part &* lineBytes).assumingMemoryBound(to: Element.self)
      self.run(part, run.input(0), run.output(0), line, run.scratch)
    }.named("rows")
  }

  private func run(
    _ part: Int, _ x: UnsafePointer<Element>, _ y: UnsafeMutablePointer<Element>,
    _ line: UnsafeMutablePointer<Element>, _ scratch: UnsafeMutableRawPointer
  ) {
    let (area, outputArea) = (geometry.inputCount, geometry.outputCount)
    let (width, outputWidth) = widths
    windows.forEachRow(part: part, scratch: scratch) { plane, row, rows, _, rowCount in
      let target = y + (plane &* outputArea &+ row &* outputWidth)
      target.update(repeating: start, count: outputWidth)
      let source = x + plane &* area
      if !joinsRows {
        for index in 0..<rowCount { combineColumns(of: source + rows[index], target) }
      } else if rowCount > 0 {
        var joined = source + rows[0]
        for index in 1..<max(rowCount, 1) {
          combine(width, joined, source + rows[index], line)
          joined = UnsafePointer(line)
        }
        combineColumns(of: joined, target)
      }
      if case .average(let countsPads) = function {
        let outer = Element(countsPads ? countInPads(row: row) : rowCount)
        counts.withUnsafeBufferPointer { counts in
          for window in 0..<outputWidth { target[window] /= outer * counts[window] }
        }
      }
    }
  }

  /// Combines the taps along the last axis with the output row.
  private func combineColumns(of line: UnsafePointer<Element>, _ target: UnsafeMutablePointer<Element>) {
    let axis = geometry.rank - 1
    let (stride, dilation, pad) = (geometry.strides[axis], geometry.dilations[axis], geometry.padBegin[axis])
    let (width, outputWidth) = widths
    if stride == 1 {
      // Taps further on lie behind the row for every window.
      for tap in 0..<max(0, min(geometry.kernel[axis], (width &+ pad) / dilation &+ 1)) {
        // The window at `first` has this tap at the first element of the row, or behind it.
        let shift = tap &* dilation &- pad
        let first = max(0, -shift)
        let count = min(outputWidth, width &- shift) &- first
        if count > 0 { combine(count, target + first, line + (first &+ shift), target + first) }
      }
      return
    }
    for window in 0..<outputWidth {
      let (first, _, count) = geometry.clip(axis, window: window)
      var value = target[window]
      switch function {
      case .maximum:
        for tap in 0..<count {
          let candidate = line[first &+ tap &* dilation]
          if !(candidate <= value) && value == value { value = candidate }
        }
      case .average: for tap in 0..<count { value += line[first &+ tap &* dilation] }
      }
      target[window] = value
    }
  }

  /// The elements of the windows of a row that lie in the input or its pads, along all axes but the last.
  private func countInPads(row: Int) -> Int {
    var rest = row
    var count = 1
    for axis in stride(from: geometry.rank - 2, through: 0, by: -1) {
      count &*= geometry.countInPads(axis, window: rest % geometry.output[axis])
      rest /= geometry.output[axis]
    }
    return count
  }
}
