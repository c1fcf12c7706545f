// How a convolution by Winograd's minimal filtering divides into parts, and its calls of the kernels.

import ApusGraph
import ApusTensor
import CApusKernels

/// The kernels for tiles of m × m outputs.
///
/// `@unchecked Sendable`: function pointers to C code without state.
struct WinogradKernels: @unchecked Sendable {
  let m: Int
  let convolve:
    @convention(c) (UnsafePointer<apus_winograd_f32_args>, Int, Int, Int, Int, UnsafeMutablePointer<Float>) -> Void
  let pack: @convention(c) (UnsafeRawPointer, Int, Int, UnsafeMutablePointer<Float>, Int) -> Void

  /// nil: the form is another one.
  init?(_ form: ConvolutionForm) {
    switch form {
    case .winograd2:
      (m, convolve, pack) = (2, apus_kernels().pointee.winograd2_f32, apus_kernels().pointee.winograd2_pack_f32)
    case .winograd4:
      (m, convolve, pack) = (4, apus_kernels().pointee.winograd4_f32, apus_kernels().pointee.winograd4_pack_f32)
    case .taps, .rows, .depthwise, .planes, .columns: return nil
    }
  }
}

/// Blocks of tiles that stay in the second-level cache, times groups of panels where there are few tiles.
struct WinogradTiles: Sendable {
  private let kernels: WinogradKernels
  private let tiles: Int
  private let tilesPerBlock: Int
  private let blocks: Partition
  private let panelsPerGroup: Int
  private let panelGroups: Int
  /// Floats of one part.
  private let scratchFloats: Int

  /// The tiles of a block, rounded to whole register tiles: transformed weights that no cache holds are read once for
  /// each block.
  private static let usualTiles = 28
  /// The fewest columns for which inputs are worth transforming once more.
  private static let groupColumns = 128
  /// What all parts together may take where that leaves some parts for threads.
  private static let scratchBytes = 8 << 20
  private static let fewestParts = 4

  init(_ convolution: Convolution, _ kernels: WinogradKernels) {
    self.kernels = kernels
    let (channels, outputs) = (convolution.channels, convolution.outputChannels)
    let (tileRows, panelColumns) = (GemmKernels.current.tileRows, GemmKernels.current.panelColumns)
    let output = convolution.geometry.output
    tiles = apus_winograd_tiles(kernels.m, convolution.batch, output[0], output[1])
    let panels = GemmKernels.current.panelCount(outputs)
    let block = max(1, WinogradTiles.usualTiles / tileRows) &* tileRows
    let count = (tiles + block - 1) / block
    tilesPerBlock = (tiles + count - 1) / count
    let cost = WinogradTiles.operations(m: kernels.m, tiles: tilesPerBlock, channels: channels, outputs: outputs)
    let wanted = min(max((Cost.vectors(operations: cost) * count).worthwhileParts, 1), Partition.maximumParts)
    let widest = max(1, panels &* panelColumns / WinogradTiles.groupColumns)
    let groups = min(widest, (wanted + count - 1) / count)
    panelsPerGroup = (panels + groups - 1) / groups
    panelGroups = (panels + panelsPerGroup - 1) / panelsPerGroup
    scratchFloats =
      (apus_winograd_scratch(kernels.m, tilesPerBlock, channels, panelsPerGroup, panelColumns) + 15) & ~15
    let room = max(WinogradTiles.fewestParts, WinogradTiles.scratchBytes / (scratchFloats &* 4))
    blocks = Partition(
      count, of: .vectors(operations: cost / Double(panelGroups)), maximumParts: max(1, room / panelGroups))
  }

  /// What a number of tiles takes, without the weights: products, of which short ones wait for their sums, and the
  /// transforms of inputs and outputs.
  static func operations(m: Int, tiles: Int, channels: Int, outputs: Int) -> Double {
    let points = Double((m + 2) * (m + 2) * tiles)
    let products = 2 * Double(channels + sumLatency) * Double(outputs) * panelWaste(outputs)
    return points * (products + transform * Double(channels + outputs))
  }

  /// Multiply-adds that a sum takes to begin and end.
  private static let sumLatency = 16
  /// Operations for an element of a transformed tile.
  private static let transform = 12.0

  var parts: Int { blocks.parts &* panelGroups }
  var scratchBytes: Int { parts &* scratchFloats &* 4 }

  /// Computes one part. `scratch` is that of all parts.
  func run(_ part: Int, _ arguments: inout apus_winograd_f32_args, scratch: UnsafeMutableRawPointer) {
    let (block, group) = part.quotientAndRemainder(dividingBy: panelGroups)
    let memory = scratch.assumingMemoryBound(to: Float.self) + part &* scratchFloats
    for index in blocks.range(block) {
      let first = index &* tilesPerBlock
      kernels.convolve(
        &arguments, first, min(first &+ tilesPerBlock, tiles), group &* panelsPerGroup,
        (group &+ 1) &* panelsPerGroup, memory)
    }
  }
}
