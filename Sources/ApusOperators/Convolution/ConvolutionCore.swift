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

/// The elements from one pixel of channels-last images to the next.
struct ConvolutionPixels: Sendable {
  let input: Int
  let residual: Int
  let output: Int

  init(dense convolution: Convolution) {
    input = convolution.channels
    (residual, output) = (convolution.outputChannels, convolution.outputChannels)
  }

  /// For operands of a node that lie as the context says; nil where they lie in other rows than pixels.
  init?(_ convolution: Convolution, residual: Int?, bias: Int?, weights: Int, _ context: PlanContext) {
    guard let input = context.distance(input: 0, rowsOf: convolution.channels),
      let output = context.distance(output: 0, rowsOf: convolution.outputChannels),
      let added = residual.map({ context.distance(input: $0, rowsOf: convolution.outputChannels) })
        ?? convolution.outputChannels,
      context.rows(input: weights) == nil, bias.map({ context.rows(input: $0) == nil }) ?? true
    else { return nil }
    (self.input, self.residual, self.output) = (input, added, output)
  }
}

final class ConvolutionCore: Sendable {
  /// How the work divides.
  private enum Tiling: Sendable {
    case products(ConvolutionTiles)
    /// Rows of pixels first, then blocks of 64 channels.
    case depthwise(rows: Partition, channels: Partition)
    case winograd(WinogradTiles)
  }

  let convolution: Convolution
  let weights: ConvolutionWeights
  let epilogue: GemmEpilogue
  /// The padded copies of the images, in the form of rows.
  let padded: PaddedImages?
  private let tiling: Tiling
  private let pixels: ConvolutionPixels

  /// nil if the kernels do not have the convolution: no elements, or offsets beyond 32 bits. `pixels` nil: images that
  /// lie dense.
  init?(
    _ convolution: Convolution, _ weights: ConvolutionWeights, _ epilogue: GemmEpilogue,
    _ pixels: ConvolutionPixels? = nil
  ) {
    self.pixels = pixels ?? ConvolutionPixels(dense: convolution)
    guard convolution.outputCount > 0, convolution.channels > 0, convolution.geometry.inputCount > 0 else { return nil }
    (self.convolution, self.weights, self.epilogue) = (convolution, weights, epilogue)
    let geometry = convolution.geometry
    padded = weights.form == .rows ? PaddedImages(convolution) : nil
    if weights.form == .depthwise {
      tiling = ConvolutionCore.depthwise(convolution, taps: weights.taps)
    } else if let kernels = WinogradKernels(weights.form) {
      tiling = .winograd(WinogradTiles(convolution, kernels))
    } else {
      let tile = GemmKernels.current.tile(of: weights.element)
      guard
        let tiles = ConvolutionTiles(
          padded?.geometry ?? geometry, images: convolution.batch, groups: weights.groups, depth: weights.depth,
          outputs: weights.outputsPerGroup,
          pixelStride: padded == nil ? self.pixels.input : convolution.channels, tileRows: tile.rows,
          panelColumns: GemmKernels.current.panelColumns, pace: tile.pace)
      else { return nil }
      tiling = .products(tiles)
    }
  }

  private static func depthwise(_ convolution: Convolution, taps: Int) -> Tiling {
    let geometry = convolution.geometry
    let height = geometry.output[0]
    // A multiply-add of a tap loads both factors.
    let pixel = Cost(operations: 4) * taps
    let rows = Partition(
      height, of: pixel * convolution.channels * (geometry.outputCount / max(height, 1)),
      maximumParts: max(1, Partition.maximumParts / max(convolution.batch, 1)))
    let channels = Partition(
      (convolution.channels + 63) / 64, of: pixel * 64 * (geometry.outputCount / rows.parts),
      maximumParts: max(1, 16 / rows.parts))
    return .depthwise(rows: rows, channels: channels)
  }

  var parts: Int {
    switch tiling {
    case .products(let tiles): tiles.parts
    case .depthwise(let rows, let channels): convolution.batch &* rows.parts &* channels.parts
    case .winograd(let tiles): tiles.parts
    }
  }

  private var paddedBytes: Int { padded?.byteCount ?? 0 }
  var scratchBytes: Int {
    switch tiling {
    case .products(let tiles): paddedBytes &+ tiles.scratchBytes
    case .depthwise: 0
    case .winograd(let tiles): tiles.scratchBytes
    }
  }

  var name: String {
    switch tiling {
    case .depthwise: Names.depthwise
    case .winograd: Names.winograd
    case .products where weights.element == .bfloat16Pairs: Names.pairs
    case .products(let tiles):
      weights.form == .rows ? Names.rows : tiles.isDense ? Names.gemm : Names.indirect
    }
  }

  /// Of the kernels, with the level of instructions.
  private enum Names {
    static let depthwise = named("depthwise")
    static let rows = named("rows")
    static let gemm = named("gemm")
    static let indirect = named("indirect")
    static let winograd = named("winograd")
    static let pairs = named(PanelElement.bfloat16Pairs.kernelName)

    private static func named(_ form: String) -> String {
      "\(form) \(String(cString: apus_kernels().pointee.name))"
    }
  }

  /// Computes one part. The padded copies must be complete.
  func run(_ part: Int, _ addresses: ConvolutionAddresses) {
    switch tiling {
    case .products(let tiles): runProducts(part, tiles, addresses)
    case .depthwise(let rows, let channels): runDepthwise(part, rows, channels, addresses)
    case .winograd(let tiles): runWinograd(part, tiles, addresses)
    }
  }

  private func runProducts(_ part: Int, _ tiles: ConvolutionTiles, _ addresses: ConvolutionAddresses) {
    let pixel = padded == nil ? pixels.input : convolution.channels
    let imageElements = padded?.imageElements ?? convolution.geometry.inputCount &* pixel
    let x = padded == nil ? addresses.x : UnsafePointer(addresses.scratch.assumingMemoryBound(to: Float.self))
    let multiply = GemmKernels.current.multiply(by: weights.element)
    tiles.forEach(part, scratch: addresses.scratch + paddedBytes) { call in
      let source = x + (call.image &* imageElements &+ call.group &* weights.channelsPerGroup)
      let firstOutput = call.group &* weights.outputsPerGroup
      let row = call.image &* convolution.geometry.outputCount &+ call.rows.lowerBound
      var arguments = apus_gemm_f32_args(
        a: call.table == nil ? source + call.rows.lowerBound &* pixel : source, lda: pixel,
        offsets: call.table, zeros: weights.zeros, taps: weights.taps,
        kc: weights.depth, n: weights.outputsPerGroup, b: addresses.weights + call.group &* weights.groupCount,
        c: addresses.y + (row &* pixels.output &+ firstOutput), ldc: pixels.output,
        epilogue: epilogue.arguments(
          bias: addresses.bias.map { $0 + firstOutput },
          add: addresses.residual.map { $0 + (row &* pixels.residual &+ firstOutput) }, rowLength: pixels.residual))
      multiply(&arguments, 0, call.rows.count, call.panels.lowerBound, call.panels.upperBound)
    }
  }

  private func runWinograd(_ part: Int, _ tiles: WinogradTiles, _ addresses: ConvolutionAddresses) {
    let geometry = convolution.geometry
    var arguments = apus_winograd_f32_args(
      input: addresses.x, output: addresses.y, in_image: geometry.inputCount &* pixels.input,
      in_row: geometry.input[1] &* pixels.input, in_pixel: pixels.input,
      out_image: geometry.outputCount &* pixels.output, out_row: geometry.output[1] &* pixels.output,
      out_pixel: pixels.output, in_h: geometry.input[0], in_w: geometry.input[1], out_h: geometry.output[0],
      out_w: geometry.output[1], pad_top: geometry.padBegin[0], pad_left: geometry.padBegin[1],
      channels: convolution.channels, outputs: convolution.outputChannels, weights: addresses.weights,
      epilogue: epilogue.arguments(bias: addresses.bias, add: addresses.residual, rowLength: pixels.residual))
    tiles.run(part, &arguments, scratch: addresses.scratch)
  }

  private func runDepthwise(
    _ part: Int, _ rowTiles: Partition, _ channelTiles: Partition, _ addresses: ConvolutionAddresses
  ) {
    let (unit, channelTile) = part.quotientAndRemainder(dividingBy: channelTiles.parts)
    let (image, rowTile) = unit.quotientAndRemainder(dividingBy: rowTiles.parts)
    let (rows, blocks) = (rowTiles.range(rowTile), channelTiles.range(channelTile))
    let channels = convolution.channels
    let geometry = convolution.geometry
    let target = image &* geometry.outputCount
    var arguments = apus_depthwise_f32_args(
      window: geometry.kernelWindow(
        addresses.x + image &* geometry.inputCount &* pixels.input, addresses.y + target &* pixels.output,
        inputPixel: pixels.input, outputPixel: pixels.output),
      weights: addresses.weights, weights_ld: channels,
      epilogue: epilogue.arguments(
        bias: addresses.bias, add: addresses.residual.map { $0 + target &* pixels.residual },
        rowLength: pixels.residual))
    apus_kernels().pointee.depthwise_f32(
      &arguments, rows.lowerBound, rows.upperBound, blocks.lowerBound &* 64, min(channels, blocks.upperBound &* 64))
  }
}

extension GemmEpilogue {
  /// The same for the kernels. `add` points at the first element to add to; its rows are `rowLength` apart.
  func arguments(bias: UnsafePointer<Float>?, add: UnsafePointer<Float>?, rowLength: Int) -> apus_epilogue_f32 {
    apus_epilogue_f32(bias: bias, add: add, add_ld: rowLength, activation: activation, alpha: alpha, beta: beta)
  }
}

extension WindowGeometry {
  /// The window for the kernels of channels-last images, for one or two spatial axes. One axis runs downwards. Pixels
  /// are `inputPixel` and `outputPixel` elements apart.
  func kernelWindow(
    _ input: UnsafePointer<Float>, _ output: UnsafeMutablePointer<Float>, inputPixel: Int, outputPixel: Int
  ) -> apus_window_f32 {
    let isFlat = rank == 1
    let (inWidth, outWidth) = isFlat ? (1, 1) : (self.input[1], self.output[1])
    return apus_window_f32(
      input: input, output: output, in_row: inWidth &* inputPixel, in_pixel: inputPixel,
      out_row: outWidth &* outputPixel, out_pixel: outputPixel, in_h: self.input[0], in_w: inWidth, out_w: outWidth,
      kernel_h: kernel[0],
      kernel_w: isFlat ? 1 : kernel[1], stride_h: strides[0], stride_w: isFlat ? 1 : strides[1],
      dilation_h: dilations[0],
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
    var (extents, kernel) = (Array(source.input), source.kernel)
    for axis in 0..<source.rank {
      extents[axis] =
        (source.output[axis] &- 1) &* source.strides[axis] &+ (source.kernel[axis] &- 1) &* source.dilations[axis] &+ 1
    }
    kernel[source.rank - 1] = 1
    let unpadded = [Int](repeating: 0, count: source.rank)
    geometry = WindowGeometry(
      input: SpatialExtents(extents), output: source.output,
      WindowForm(
        kernel: kernel, strides: source.strides, dilations: source.dilations, padBegin: unpadded, padEnd: unpadded))
    lines = extents.dropLast().reduce(1, &*)
    partition = Partition(
      convolution.batch &* lines, of: .copying(bytes: 4) * (extents.last ?? 1) * convolution.channels)
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
