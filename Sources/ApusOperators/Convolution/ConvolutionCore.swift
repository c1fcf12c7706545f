// The float32 convolution of channels-last images on the kernels: one core for Conv and the engine's own channels-last
// Conv. Its oracle is DirectConvolution.

import ApusGraph
import ApusTensor
import CApusKernels

/// The addresses that a convolution works on. `x` is channels-last, or planar where `preparation` says so.
struct ConvolutionAddresses {
  let x: UnsafePointer<Float>
  let weights: UnsafePointer<Float>
  let bias: UnsafePointer<Float>?
  /// Added before the activation; the shape of y.
  let residual: UnsafePointer<Float>?
  let y: UnsafeMutablePointer<Float>
  let scratch: UnsafeMutableRawPointer
}

struct ConvolutionCore: Sendable {
  let convolution: Convolution
  let weights: ConvolutionWeights
  let epilogue: ConvolutionEpilogue
  /// The padded copies of the images, in the form of rows.
  let padded: PaddedImages?
  /// nil if rows of the matrix are pixels, one after the other.
  private let offsets: WindowOffsets?
  private let tiles: MatrixTiles
  private let rowTiles: Partition
  private let channelTiles: Partition
  /// As many zeros as a tap has elements.
  private let zeros: TensorStorage
  /// Images that are multiplied one at a time.
  private let images: Int
  /// Rows whose offsets are found at a time.
  private let chunk: Int

  /// nil if the kernels do not have the convolution: no elements, or offsets beyond 32 bits.
  init?(_ convolution: Convolution, _ weights: ConvolutionWeights, _ epilogue: ConvolutionEpilogue) {
    guard convolution.outputCount > 0, convolution.channels > 0, convolution.geometry.inputCount > 0 else { return nil }
    (self.convolution, self.weights, self.epilogue) = (convolution, weights, epilogue)
    let geometry = convolution.geometry
    let isDense = weights.form == .taps && geometry.isPointwise
    padded = weights.form == .rows ? PaddedImages(convolution) : nil
    images = isDense ? 1 : convolution.batch
    switch weights.form {
    case .depthwise: offsets = nil
    case .taps:
      offsets = isDense ? nil : WindowOffsets(geometry, pixelStride: convolution.channels)
      if !isDense && offsets == nil { return nil }
    case .rows:
      guard let padded, let table = WindowOffsets(padded.geometry, pixelStride: convolution.channels) else { return nil }
      offsets = table
    }
    let rows = geometry.outputCount &* (isDense ? convolution.batch : 1)
    tiles = MatrixTiles(
      rows: rows, depth: weights.taps &* weights.depth, columns: weights.outputsPerGroup, copies: images &* weights.groups)
    // Depthwise: rows of pixels first, then blocks of channels.
    let height = geometry.output[0]
    let rowCost = max(1, geometry.outputCount / max(height, 1) &* convolution.channels &* weights.taps)
    rowTiles = Partition(height, minimum: max(1, 131_072 / rowCost), maximumParts: max(1, 64 / max(convolution.batch, 1)))
    let channelCost = max(1, geometry.outputCount / rowTiles.parts &* weights.taps)
    channelTiles = Partition(
      (convolution.channels + 63) / 64, minimum: max(1, 131_072 / max(1, channelCost &* 64)),
      maximumParts: max(1, 16 / rowTiles.parts))
    let tileRows = apus_kernels().pointee.gemm_f32_mr
    chunk = tileRows &* max(1, 512 / tileRows)
    zeros = TensorStorage(byteCount: max(weights.depth, 1) * 4)
    zeros.base.initializeMemory(as: UInt8.self, repeating: 0, count: zeros.byteCount)
  }

  var parts: Int {
    weights.form == .depthwise
      ? convolution.batch &* rowTiles.parts &* channelTiles.parts : images &* weights.groups &* tiles.count
  }

  private var tableBytes: Int { offsets == nil ? 0 : aligned(chunk &* weights.taps &* 4) }
  private var paddedBytes: Int { padded?.byteCount ?? 0 }
  var scratchBytes: Int { paddedBytes &+ parts &* tableBytes }

  var name: String {
    let level = String(cString: apus_kernels().pointee.name)
    return switch weights.form {
    case .depthwise: "depthwise \(level)"
    case .rows: "rows \(level)"
    case .taps: offsets == nil ? "gemm \(level)" : "indirect \(level)"
    }
  }

  /// Computes one part. The padded copies must be complete.
  func run(_ part: Int, _ addresses: ConvolutionAddresses) {
    if weights.form == .depthwise { return runDepthwise(part, addresses) }
    let (unit, tile) = part.quotientAndRemainder(dividingBy: tiles.count)
    let (image, group) = unit.quotientAndRemainder(dividingBy: weights.groups)
    let (rows, panels) = tiles.tile(tile)
    let outputs = convolution.outputChannels
    let firstOutput = group &* weights.outputsPerGroup
    let firstRow = image &* convolution.geometry.outputCount
    let imageElements = convolution.geometry.inputCount &* convolution.channels
    let source =
      padded.map { UnsafePointer(addresses.scratch.assumingMemoryBound(to: Float.self)) + image &* $0.imageElements }
      ?? addresses.x + (image &* imageElements &+ group &* weights.channelsPerGroup)
    let taps = weights.taps
    func multiply(_ rows: Range<Int>, _ table: UnsafePointer<Int32>?) {
      let target = (firstRow &+ rows.lowerBound) &* outputs &+ firstOutput
      var arguments = apus_gemm_f32_args(
        a: table == nil ? source + rows.lowerBound &* convolution.channels : source, lda: convolution.channels, offsets: table,
        zeros: UnsafePointer(zeros.base.assumingMemoryBound(to: Float.self)), taps: taps, kc: weights.depth,
        n: weights.outputsPerGroup, b: addresses.weights + group &* weights.groupCount, c: addresses.y + target, ldc: outputs,
        epilogue: epilogue.arguments(
          bias: addresses.bias.map { $0 + firstOutput }, add: addresses.residual.map { $0 + target }, rowLength: outputs))
      apus_kernels().pointee.gemm_f32(&arguments, 0, rows.count, panels.lowerBound, panels.upperBound)
    }
    guard let offsets else { return multiply(rows, nil) }
    let table = (addresses.scratch + paddedBytes + part &* tableBytes).assumingMemoryBound(to: Int32.self)
    var start = rows.lowerBound
    while start < rows.upperBound {
      let range = start..<min(rows.upperBound, start &+ chunk)
      offsets.fill(range, table)
      multiply(range, table)
      start = range.upperBound
    }
  }

  private func runDepthwise(_ part: Int, _ addresses: ConvolutionAddresses) {
    let (unit, channelTile) = part.quotientAndRemainder(dividingBy: channelTiles.parts)
    let (image, rowTile) = unit.quotientAndRemainder(dividingBy: rowTiles.parts)
    let (rows, blocks) = (rowTiles.range(rowTile), channelTiles.range(channelTile))
    let channels = convolution.channels
    let geometry = convolution.geometry
    let target = image &* geometry.outputCount &* channels
    var arguments = apus_depthwise_f32_args(
      window: geometry.kernelWindow(
        addresses.x + image &* geometry.inputCount &* channels, addresses.y + target, channels: channels),
      weights: addresses.weights, weights_ld: channels,
      epilogue: epilogue.arguments(
        bias: addresses.bias, add: addresses.residual.map { $0 + target }, rowLength: channels))
    apus_kernels().pointee.depthwise_f32(
      &arguments, rows.lowerBound, rows.upperBound, blocks.lowerBound &* 64, min(channels, blocks.upperBound &* 64))
  }
}

extension WindowGeometry {
  /// The window for the kernels of channels-last images, for one or two spatial axes. One axis runs downwards.
  func kernelWindow(
    _ input: UnsafePointer<Float>, _ output: UnsafeMutablePointer<Float>, channels: Int
  ) -> apus_window_f32 {
    let isFlat = rank == 1
    let (inWidth, outWidth) = isFlat ? (1, 1) : (self.input[1], self.output[1])
    return apus_window_f32(
      input: input, output: output, in_row: inWidth &* channels, in_pixel: channels, out_row: outWidth &* channels,
      out_pixel: channels, in_h: self.input[0], in_w: inWidth, out_w: outWidth, kernel_h: kernel[0],
      kernel_w: isFlat ? 1 : kernel[1], stride_h: strides[0], stride_w: isFlat ? 1 : strides[1], dilation_h: dilations[0],
      dilation_w: isFlat ? 1 : dilations[1], pad_top: padBegin[0], pad_left: isFlat ? 0 : padBegin[1],
      pad_bottom: padEnd[0], pad_right: isFlat ? 0 : padEnd[1])
  }
}

/// Copies of images of few channels with their padding, so that each row of a window is one run of elements.
struct PaddedImages: Sendable {
  /// Windows over the copy, one tap for each row of a window.
  let geometry: WindowGeometry
  let partition: Partition
  private let source: WindowGeometry
  private let channels: Int
  private let lines: Int

  init(_ convolution: Convolution) {
    source = convolution.geometry
    channels = convolution.channels
    var padded = source
    padded.padBegin = source.padBegin.map { _ in 0 }
    padded.padEnd = padded.padBegin
    for axis in 0..<source.rank {
      padded.input[axis] =
        (source.output[axis] &- 1) &* source.strides[axis] &+ (source.kernel[axis] &- 1) &* source.dilations[axis] &+ 1
    }
    padded.kernel[source.rank - 1] = 1
    geometry = padded
    lines = padded.input.dropLast().reduce(1, &*)
    partition = Partition(
      convolution.batch &* lines, minimum: max(1, 32_768 / max(1, (padded.input.last ?? 1) &* convolution.channels)))
    batch = convolution.batch
  }

  private let batch: Int
  var imageElements: Int { geometry.inputCount &* channels }
  var byteCount: Int { aligned(batch &* imageElements &* 4) }

  /// Copies one part of the images. `isPlanar`: from batch, channels, spatial axes.
  func copy(_ part: Int, _ x: UnsafePointer<Float>, isPlanar: Bool, scratch: UnsafeMutableRawPointer) {
    let lastAxis = source.rank - 1
    let (width, extent) = (geometry.input[lastAxis], source.input[lastAxis])
    let area = source.inputCount
    // Columns of the copy that hold elements of the image.
    let first = min(max(source.padBegin[lastAxis], 0), width)
    let skipped = first &- source.padBegin[lastAxis]
    let count = max(0, min(width &- first, extent &- skipped))
    for unit in partition.range(part) {
      let (image, line) = unit.quotientAndRemainder(dividingBy: lines)
      let target = scratch.assumingMemoryBound(to: Float.self) + unit &* width &* channels
      guard let row = sourceLine(line), count > 0 else {
        target.update(repeating: 0, count: width &* channels)
        continue
      }
      target.update(repeating: 0, count: first &* channels)
      let end = first &+ count
      (target + end &* channels).update(repeating: 0, count: (width &- end) &* channels)
      let inside = target + first &* channels
      if isPlanar {
        for channel in 0..<channels {
          let values = x + ((image &* channels &+ channel) &* area &+ row &* extent &+ skipped)
          for index in 0..<count { inside[index &* channels &+ channel] = values[index] }
        }
      } else {
        inside.update(from: x + (image &* area &+ row &* extent &+ skipped) &* channels, count: count &* channels)
      }
    }
  }

  /// The line of the image that a line of the copy holds; nil in the padding.
  private func sourceLine(_ line: Int) -> Int? {
    var rest = line
    var row = 0
    var scale = 1
    for axis in Swift.stride(from: source.rank - 2, through: 0, by: -1) {
      let coordinate = rest % geometry.input[axis] &- source.padBegin[axis]
      if coordinate < 0 || coordinate >= source.input[axis] { return nil }
      row &+= coordinate &* scale
      scale &*= source.input[axis]
      rest /= geometry.input[axis]
    }
    return row
  }
}
