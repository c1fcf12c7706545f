// Convolutions of planar images as products of the weights with windows: the windows are the columns of a matrix, which
// is packed some panels at a time, and the rows of the product are planes of the output.

import ApusGraph
import ApusTensor
import CApusKernels

/// X and Y are planar, and W has the form `columns`: a row of taps and channels for every output, `rowStride` apart.
/// Sums have the order of the form `taps`, and its bits.
struct ColumnConvolution: Sendable {
  private let convolution: Convolution
  private let kernels = GemmKernels.current
  private let rowStride: Int
  /// Rows of a panel: taps and channels.
  private let depth: Int
  /// Panels that are packed together, and outputs of a group that multiply them.
  private let panelsPerBlock: Int
  private let rowsPerBlock: Int
  /// Blocks beside and below each other in the product of a group.
  private let columnBlocks: Int
  private let rowBlocks: Int
  private let partition: Partition

  /// Elements that are packed at once: they fit the second-level cache beside the weights.
  private static let pieceFloats = 64 << 10
  /// The largest windows, in elements of all channels.
  static let largestWindow = 1 << 16

  /// nil where the kernels do not have it.
  init?(_ convolution: Convolution, _ weights: ConvolutionWeights) {
    let geometry = convolution.geometry
    guard convolution.outputCount > 0, convolution.channels > 0, geometry.inputCount > 0, geometry.rank <= 3 else {
      return nil
    }
    self.convolution = convolution
    rowStride = weights.rowStride
    depth = weights.taps &* convolution.channelsPerGroup
    let panels = kernels.panelCount(geometry.outputCount)
    let products = convolution.batch * convolution.groups
    let wanted = min(max(Cost(operations: convolution.operations).worthwhileParts, 1), Partition.maximumParts)
    let blocks = (wanted + products - 1) / products
    panelsPerBlock = max(
      1, min(ColumnConvolution.pieceFloats / (depth * kernels.panelColumns), (panels + blocks - 1) / blocks))
    columnBlocks = (panels + panelsPerBlock - 1) / panelsPerBlock
    let outputs = convolution.outputChannelsPerGroup
    // Each block of rows packs its panels anew.
    let below = min((blocks + columnBlocks - 1) / columnBlocks, max(1, outputs / (4 * kernels.tileRows)))
    rowsPerBlock = (outputs + below - 1) / below
    rowBlocks = (outputs + rowsPerBlock - 1) / rowsPerBlock
    let units = products * columnBlocks * rowBlocks
    partition = PhasePlanes.partition(
      units, of: Cost(operations: convolution.operations / units),
      floats: panelsPerBlock * depth * kernels.panelColumns)
  }

  private var partFloats: Int { panelsPerBlock &* depth &* kernels.panelColumns &+ Int(APUS_PLANE_SLACK) }

  /// Inputs X, packed weights and, at the position `bias`, B.
  func step(bias: Int?) -> Step {
    let partBytes = aligned(partFloats &* 4)
    return .parallel(parts: partition.parts, scratchBytes: partition.parts &* partBytes) { run, part in
      let packed = (run.scratch + part &* partBytes).assumingMemoryBound(to: Float.self)
      for unit in partition.range(part) {
        self.run(unit, run.input(0), run.input(1), bias.map { run.input($0) }, run.output(0), packed)
      }
    }.named("columns \(String(cString: apus_kernels().pointee.name))", cost: Cost(operations: convolution.operations))
  }

  private func run(
    _ unit: Int, _ x: UnsafePointer<Float>, _ weights: UnsafePointer<Float>, _ bias: UnsafePointer<Float>?,
    _ y: UnsafeMutablePointer<Float>, _ packed: UnsafeMutablePointer<Float>
  ) {
    let (block, rowBlock) = unit.quotientAndRemainder(dividingBy: rowBlocks)
    // Groups of all images in turn.
    let (group, columnBlock) = block.quotientAndRemainder(dividingBy: columnBlocks)
    let pixels = convolution.geometry.outputCount
    let first = columnBlock &* panelsPerBlock &* kernels.panelColumns
    let count = min(pixels &- first, panelsPerBlock &* kernels.panelColumns)
    var columns = convolution.geometry.columns(
      x + group &* convolution.channelsPerGroup &* convolution.geometry.inputCount,
      channels: convolution.channelsPerGroup)
    apus_kernels().pointee.plane_columns_f32(&columns, first, count, kernels.panelColumns, packed)
    let outputs = convolution.outputChannelsPerGroup
    let output = group % convolution.groups &* outputs
    var arguments = apus_gemm_f32_args(
      a: weights + output &* rowStride, lda: rowStride, offsets: nil, zeros: nil, taps: 1, kc: depth, n: count,
      b: UnsafePointer(packed), c: y + (group &* outputs &* pixels &+ first), ldc: pixels,
      epilogue: apus_epilogue_f32(), row_bias: bias.map { $0 + output })
    let rows = rowBlock &* rowsPerBlock
    kernels.multiply(
      &arguments, rows, min(rows &+ rowsPerBlock, outputs), 0, kernels.panelCount(count))
  }
}

extension WindowGeometry {
  /// The windows over planes as columns, for the kernels; the geometry has three axes at the most. `x` is the first of
  /// `channels` planes.
  func columns(_ x: UnsafePointer<Float>, channels: Int) -> apus_plane_columns_args {
    var arguments = apus_plane_columns_args(
      x: x, x_plane: inputCount, channels: channels, extents: (1, 1, inputCount), outputs: (1, 1, outputCount),
      kernel: (1, 1, 1), strides: (1, 1, 1), dilations: (1, 1, 1), pads: (0, 0, 0))
    // Pixels are one run then.
    if isPointwise { return arguments }
    arguments.extents = lastThree(input, 1)
    arguments.outputs = lastThree(output, 1)
    arguments.kernel = lastThree(kernel, 1)
    arguments.strides = lastThree(strides, 1)
    arguments.dilations = lastThree(dilations, 1)
    arguments.pads = lastThree(padBegin, 0)
    return arguments
  }

  /// One number for each of three axes, of which the first ones are `missing` where there are fewer.
  func lastThree(_ numbers: some RandomAccessCollection<Int>, _ missing: Int) -> (Int, Int, Int) {
    func at(_ distance: Int) -> Int {
      numbers.count < distance ? missing : numbers[numbers.index(numbers.endIndex, offsetBy: -distance)]
    }
    return (at(3), at(2), at(1))
  }
}
