// Where the taps of windows lie in a channels-last image, as the table of offsets that the matrix multiply reads.

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
  func inputRow(line: Int, tap: Int) -> Int {
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
