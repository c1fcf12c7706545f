// Where the taps of windows lie in a channels-last image, as the table of offsets that the matrix multiply reads.

import CApusKernels

/// Fills tables of offsets. Pixels are `pixelStride` elements apart, and the image has less than 2^31 elements.
struct WindowOffsets: Sendable {
  let geometry: WindowGeometry
  let pixelStride: Int

  /// nil if offsets into the image do not fit into 32 bits.
  init?(_ geometry: WindowGeometry, pixelStride: Int) {
    self.geometry = geometry
    self.pixelStride = pixelStride
    var count = pixelStride
    for extent in geometry.input {
      let product = count.multipliedReportingOverflow(by: extent)
      guard !product.overflow, product.partialValue < Int(Int32.max) else { return nil }
      count = product.partialValue
    }
  }

  /// Writes, for each output position in `range` (row-major), the offsets of all taps, or the mark of the zero row.
  func fill(_ range: Range<Int>, _ table: UnsafeMutablePointer<Int32>) {
    let lastAxis = geometry.rank - 1
    let width = geometry.output[lastAxis]
    let taps = geometry.tapCount
    var position = range.lowerBound
    while position < range.upperBound {
      let (line, first) = position.quotientAndRemainder(dividingBy: width)
      let count = min(width &- first, range.upperBound &- position)
      fillLine(line, first, count, table + (position &- range.lowerBound) &* taps, taps)
      position &+= count
    }
  }

  /// `count` positions of one line along the last axis, from `first` on.
  private func fillLine(_ line: Int, _ first: Int, _ count: Int, _ table: UnsafeMutablePointer<Int32>, _ taps: Int) {
    let lastAxis = geometry.rank - 1
    let (kernel, extent) = (geometry.kernel[lastAxis], geometry.input[lastAxis])
    let (stride, dilation) = (geometry.strides[lastAxis], geometry.dilations[lastAxis])
    let start = first &* stride &- geometry.padBegin[lastAxis]
    for outer in 0..<taps / kernel {
      let row = inputRow(line: line, tap: outer)
      for tap in 0..<kernel {
        let entries = table + (outer &* kernel &+ tap)
        // Positions whose tap lies in the image are one range.
        let begin = start &+ tap &* dilation
        var low = begin >= 0 ? 0 : (stride &- 1 &- begin) / stride
        var high = begin >= extent ? 0 : (extent &- 1 &- begin) / stride &+ 1
        if row < 0 { (low, high) = (count, count) }
        low = min(low, count)
        high = min(max(high, low), count)
        for index in 0..<low { entries[index &* taps] = Int32.min }
        for index in low..<high {
          entries[index &* taps] = Int32(truncatingIfNeeded: (row &* extent &+ begin &+ index &* stride) &* pixelStride)
        }
        for index in high..<count { entries[index &* taps] = Int32.min }
      }
    }
  }

  /// The line of the input that a tap of the outer axes falls on; -1 outside.
  private func inputRow(line: Int, tap: Int) -> Int {
    var (line, tap) = (line, tap)
    var row = 0
    var scale = 1
    for axis in Swift.stride(from: geometry.rank - 2, through: 0, by: -1) {
      let (extent, kernel, output) = (geometry.input[axis], geometry.kernel[axis], geometry.output[axis])
      let coordinate =
        line % output &* geometry.strides[axis] &- geometry.padBegin[axis] &+ tap % kernel &* geometry.dilations[axis]
      if coordinate < 0 || coordinate >= extent { return -1 }
      row &+= coordinate &* scale
      scale &*= extent
      line /= output
      tap /= kernel
    }
    return row
  }
}

/// How the rows and panels of a matrix multiply divide into parts, by shapes alone.
struct MatrixTiles: Sendable {
  let rows: Int
  let panels: Int
  let rowsPerTile: Int
  let panelsPerTile: Int
  let rowTiles: Int
  let panelTiles: Int

  var count: Int { rowTiles &* panelTiles }

  /// One of `copies` equal multiplies of `rows` by `depth` by `columns`. Tiles have about the same number of rows as
  /// columns, since each reads its rows of one matrix and its columns of the other.
  init(rows: Int, depth: Int, columns: Int, copies: Int) {
    self.rows = rows
    let kernels = apus_kernels().pointee
    panels = apus_gemm_panels(columns, kernels.gemm_f32_nr)
    let work = Double(rows) * Double(depth) * Double(columns) * Double(copies)
    let wanted = max(1, min(64, work / 524_288)) / Double(max(copies, 1))
    let blocks = (rows + kernels.gemm_f32_mr - 1) / kernels.gemm_f32_mr
    let byRows = max(1, min(Double(blocks), (wanted * Double(rows) / Double(max(columns, 1))).squareRoot().rounded(.up)))
    let byPanels = max(1, min(Double(panels), (wanted / byRows).rounded(.up)))
    rowsPerTile = max(1, (blocks + Int(byRows) - 1) / Int(byRows)) * kernels.gemm_f32_mr
    panelsPerTile = max(1, (panels + Int(byPanels) - 1) / Int(byPanels))
    rowTiles = max(1, (rows + rowsPerTile - 1) / rowsPerTile)
    panelTiles = max(1, (panels + panelsPerTile - 1) / panelsPerTile)
  }

  func tile(_ index: Int) -> (rows: Range<Int>, panels: Range<Int>) {
    let (rowTile, panelTile) = index.quotientAndRemainder(dividingBy: panelTiles)
    return (
      rowTile &* rowsPerTile..<min(rows, (rowTile &+ 1) &* rowsPerTile),
      panelTile &* panelsPerTile..<min(panels, (panelTile &+ 1) &* panelsPerTile)
    )
  }
}
