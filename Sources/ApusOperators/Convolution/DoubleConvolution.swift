// The convolution of planar float64 images: as products of the weights with windows, which are the columns of a matrix,
// some pixels at a time; or, for few outputs of a group, tap by tap over whole lines.

import ApusGraph
import ApusTensor
import CApusKernels

/// Sums have the order of the plain form: channels, then taps. Terms of the padding are zeros in the products.
struct DoubleConvolution: Sendable {
  private let convolution: Convolution
  /// Rows of the matrix of windows: channels and taps.
  private let depth: Int
  private let pixelsPerBlock: Int
  private let blocks: Int
  private let partition: Partition
  private let window: Window

  /// What windows are like, for three axes.
  private struct Window: Sendable {
    let extents, outputs, kernel, strides, dilations, pads: (Int, Int, Int)
  }

  /// Elements of the matrix that are made at once: they fit the second-level cache beside the weights.
  private static let blockElements = 32 << 10
  /// The fewest pixels of a block, and outputs of a group that pay for a matrix.
  private static let leastPixels = 64
  private static let leastOutputs = 4

  /// nil for convolutions without elements, or of more than three spatial axes.
  init?(_ convolution: Convolution) {
    let geometry = convolution.geometry
    depth = convolution.channelsPerGroup &* geometry.tapCount
    guard convolution.outputCount > 0, depth > 0, geometry.inputCount > 0, geometry.rank <= 3 else { return nil }
    self.convolution = convolution
    window = Window(
      extents: geometry.lastThree(geometry.input, 1), outputs: geometry.lastThree(geometry.output, 1),
      kernel: geometry.lastThree(geometry.kernel, 1), strides: geometry.lastThree(geometry.strides, 1),
      dilations: geometry.lastThree(geometry.dilations, 1), pads: geometry.lastThree(geometry.padBegin, 0))
    let (pixels, products) = (geometry.outputCount, convolution.batch * convolution.groups)
    let wanted = min(Cost(operations: convolution.operations).worthwhileParts, Partition.maximumParts)
    let fewest = max(1, min((wanted + products - 1) / products, pixels / DoubleConvolution.leastPixels))
    let most = max(DoubleConvolution.leastPixels, DoubleConvolution.blockElements / depth)
    pixelsPerBlock = max(1, min(most, (pixels + fewest - 1) / fewest))
    blocks = (pixels + pixelsPerBlock - 1) / pixelsPerBlock
    let units = products * blocks
    partition = Partition(units, of: Cost(operations: convolution.operations / units))
  }

  private var isByLines: Bool { convolution.outputChannelsPerGroup < DoubleConvolution.leastOutputs }
  private var hasMatrix: Bool { !isByLines && !convolution.geometry.isPointwise }

  /// Inputs X, W and, at the position `bias`, B.
  func step(bias: Int?) -> Step {
    let bytes = hasMatrix ? aligned(depth * pixelsPerBlock * 8) : 0
    return .parallel(parts: partition.parts, scratchBytes: partition.parts * bytes) { run, part in
      let columns = (run.scratch + part &* bytes).assumingMemoryBound(to: Double.self)
      for unit in partition.range(part) {
        self.run(
          unit, run.input(0), run.input(1), bias.map { run.input($0) }, run.output(0), columns)
      }
    }.named(isByLines ? "lines" : "gemm_f64", cost: Cost(operations: convolution.operations))
  }

  private func run(
    _ unit: Int, _ x: UnsafePointer<Double>, _ w: UnsafePointer<Double>, _ bias: UnsafePointer<Double>?,
    _ y: UnsafeMutablePointer<Double>, _ columns: UnsafeMutablePointer<Double>
  ) {
    // Groups of all images in turn.
    let (group, block) = unit.quotientAndRemainder(dividingBy: blocks)
    let geometry = convolution.geometry
    let (area, pixels) = (geometry.inputCount, geometry.outputCount)
    let pixelRange = block &* pixelsPerBlock..<min(pixels, (block &+ 1) &* pixelsPerBlock)
    let outputs = convolution.outputChannelsPerGroup
    let firstOutput = group % convolution.groups &* outputs
    let source = x + group &* convolution.channelsPerGroup &* area
    let weights = w + firstOutput &* depth
    let target = y + (group &* outputs &* pixels &+ pixelRange.lowerBound)
    if isByLines {
      for output in 0..<outputs { sum(source, weights + output &* depth, pixelRange, target + output &* pixels) }
    } else {
      if hasMatrix { fill(columns, source, pixelRange) }
      var arguments = apus_gemm_f64_args(
        a: weights, a_row: depth, a_depth: 1, b: hasMatrix ? UnsafePointer(columns) : source + pixelRange.lowerBound,
        b_depth: hasMatrix ? pixelRange.count : area, b_column: 1, c: target, ldc: pixels, k: depth)
      apus_kernels().pointee.gemm_f64(&arguments, 0, outputs, 0, pixelRange.count)
    }
    guard let bias else { return }
    for output in 0..<outputs {
      let (line, addend) = (target + output &* pixels, bias[firstOutput &+ output])
      for index in 0..<pixelRange.count { line[index] += addend }
    }
  }

  // MARK: - Windows

  /// One row of the matrix: an element of a window, by its place in the plane from which the window starts.
  private struct Tap {
    let plane: Int
    let z: Int
    let y: Int
    let x: Int
  }

  @inline(__always)
  private func forEachTap(_ body: (_ row: Int, _ tap: Tap) -> Void) {
    let (kernel, dilations, pads) = (window.kernel, window.dilations, window.pads)
    var row = 0
    for channel in 0..<convolution.channelsPerGroup {
      for z in 0..<kernel.0 {
        for y in 0..<kernel.1 {
          for x in 0..<kernel.2 {
            body(
              row,
              Tap(
                plane: channel &* convolution.geometry.inputCount, z: z &* dilations.0 &- pads.0,
                y: y &* dilations.1 &- pads.1, x: x &* dilations.2 &- pads.2))
            row &+= 1
          }
        }
      }
    }
  }

  /// Calls `body` for the pieces of lines that the pixels `range` are: the place of the first, how many there are, and
  /// of these the ones whose element lies in the image, the first of which is at `source`, others `window.strides.2`
  /// apart.
  @inline(__always)
  private func forEachPiece(
    of range: Range<Int>, _ tap: Tap, _ body: (_ place: Int, _ count: Int, _ inside: Range<Int>, _ source: Int) -> Void
  ) {
    let (extents, outputs, strides) = (window.extents, window.outputs, window.strides)
    var pixel = range.lowerBound
    while pixel < range.upperBound {
      let (line, column) = pixel.quotientAndRemainder(dividingBy: outputs.2)
      let count = min(outputs.2 &- column, range.upperBound &- pixel)
      let (plane, row) = line.quotientAndRemainder(dividingBy: outputs.1)
      let (z, y) = (plane &* strides.0 &+ tap.z, row &* strides.1 &+ tap.y)
      let x = column &* strides.2 &+ tap.x
      let place = pixel &- range.lowerBound
      pixel &+= count
      guard z >= 0, z < extents.0, y >= 0, y < extents.1, x < extents.2 else {
        body(place, count, 0..<0, 0)
        continue
      }
      let first = x >= 0 ? 0 : min(count, (strides.2 &- 1 &- x) / strides.2)
      let end = min(count, (extents.2 &- x &+ strides.2 &- 1) / strides.2)
      let inside = first..<max(first, end)
      let source = tap.plane &+ (z &* extents.1 &+ y) &* extents.2 &+ x &+ first &* strides.2
      body(place, count, inside, source)
    }
  }

  /// Writes the windows of some pixels: a row for each channel and tap, zeros for the padding.
  private func fill(_ columns: UnsafeMutablePointer<Double>, _ x: UnsafePointer<Double>, _ pixels: Range<Int>) {
    let stride = window.strides.2
    forEachTap { row, tap in
      let line = columns + row &* pixels.count
      forEachPiece(of: pixels, tap) { place, count, inside, source in
        let target = line + place
        target.update(repeating: 0, count: inside.lowerBound)
        (target + inside.upperBound).update(repeating: 0, count: count &- inside.upperBound)
        if stride == 1 {
          (target + inside.lowerBound).update(from: x + source, count: inside.count)
        } else {
          for index in 0..<inside.count { target[inside.lowerBound &+ index] = x[source &+ index &* stride] }
        }
      }
    }
  }

  /// Writes the sums of some pixels of one output.
  private func sum(
    _ x: UnsafePointer<Double>, _ weights: UnsafePointer<Double>, _ pixels: Range<Int>,
    _ y: UnsafeMutablePointer<Double>
  ) {
    let stride = window.strides.2
    y.update(repeating: 0, count: pixels.count)
    forEachTap { row, tap in
      let weight = weights[row]
      forEachPiece(of: pixels, tap) { place, _, inside, source in
        let target = y + (place &+ inside.lowerBound)
        if stride == 1 {
          let elements = x + source
          for index in 0..<inside.count { target[index] += elements[index] * weight }
        } else {
          for index in 0..<inside.count { target[index] += x[source &+ index &* stride] * weight }
        }
      }
    }
  }
}
