// Maximum pools that also tell where the largest elements lie, by whole rows of outputs: tap after tap of all windows
// of a row, each taken where it is larger than what was found before.

import ApusGraph
import ApusTensor

enum PositionPool {
  /// Input 0 to outputs 0 and 1, in the layout [batch, channels, spatial axes].
  static func step(_ pool: PoolFacts) -> Step {
    switch pool.elementType {
    case .float64: Rows<Double>(pool, -.infinity).step
    case .int8: Rows<Int8>(pool, .min).step
    case .uint8: Rows<UInt8>(pool, .min).step
    default: Rows<Float>(pool, -.infinity).step
    }
  }

  /// The plan for one element type.
  private struct Rows<Element: Comparable & BitwiseCopyable & Sendable & SendableMetatype>: Sendable {
    private let geometry: WindowGeometry
    private let windows: PlaneWindows
    private let isColumnMajor: Bool
    /// The maximum of a window without elements, whose position is -1.
    private let lowest: Element

    @inline(__always) init(_ pool: PoolFacts, _ lowest: Element) {
      (geometry, isColumnMajor, self.lowest) = (pool.geometry, pool.isColumnMajor, lowest)
      windows = PlaneWindows(geometry, planes: pool.planes)
    }

    @inline(__always) var step: Step {
      .parallel(parts: windows.partition.parts, scratchBytes: windows.scratchBytes) { run, part in
        let (area, outputArea) = (geometry.inputCount, geometry.outputCount)
        let width = geometry.output[geometry.rank &- 1]
        windows.forEachRow(part: part, scratch: run.scratch) { plane, row, rows, _, rowCount in
          let first = plane &* outputArea &+ row &* width
          let best = run.output(0, as: Element.self) + first
          let positions = run.output(1, as: Int.self) + first
          best.update(repeating: lowest, count: width)
          positions.update(repeating: -1, count: width)
          let source: UnsafePointer<Element> = run.input(0) + plane &* area
          for line in 0..<rowCount { take(source, line: rows[line], best, positions) }
          number(positions, count: width, from: plane &* area)
        }
      }.named("rows of positions")
    }

    /// Takes what is larger of a line of the plane, which begins at position `line`, for all windows of a row.
    @inline(__always)
    private func take(
      _ source: UnsafePointer<Element>, line: Int, _ best: UnsafeMutablePointer<Element>,
      _ positions: UnsafeMutablePointer<Int>
    ) {
      let last = geometry.rank &- 1
      let (stride, extent, width) = (geometry.strides[last], geometry.input[last], geometry.output[last])
      for tap in 0..<geometry.kernel[last] {
        let start = tap &* geometry.dilations[last] &- geometry.padBegin[last]
        // Windows whose tap lies in the line.
        let low = start >= 0 ? 0 : (stride &- 1 &- start) / stride
        let high = start >= extent ? 0 : min(width, (extent &- 1 &- start) / stride &+ 1)
        if low >= high { continue }
        for window in low..<high {
          let candidate = line &+ start &+ window &* stride
          let (value, largest) = (source[candidate], best[window])
          // The first of equals. Not (a <= b) is true of a NaN on either side; a largest that differs from itself is
          // one, and stays.
          let isTaken = positions[window] < 0 || (!(value <= largest) && largest == largest)
          best[window] = isTaken ? value : largest
          positions[window] = isTaken ? candidate : positions[window]
        }
      }
    }

    /// Makes positions in the plane those in all of the input, which has `base` elements before the plane.
    @inline(__always)
    private func number(_ positions: UnsafeMutablePointer<Int>, count: Int, from base: Int) {
      for index in 0..<count where positions[index] >= 0 {
        positions[index] = base &+ (isColumnMajor ? geometry.columnMajor(positions[index]) : positions[index])
      }
    }
  }
}
