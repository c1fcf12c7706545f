// How the matrix multiplies of a convolution divide into parts, and where each finds its rows.

import ApusGraph
import ApusTensor

/// One multiply for each image and group, or for each group where all pixels of all images are rows one after the
/// other.
struct ConvolutionTiles: Sendable {
  /// The rows of one call of a matrix kernel.
  struct Call {
    let image: Int
    let group: Int
    /// Rows of the image's output.
    let rows: Range<Int>
    let panels: Range<Int>
    /// Offsets of the taps from the start of the image; nil if row i is pixel i.
    let table: UnsafePointer<Int32>?
  }

  private let offsets: WindowOffsets?
  private let tiling: GemmTiling
  private let groups: Int
  private let taps: Int
  /// Rows whose offsets are found at a time.
  private let chunk: Int

  /// `geometry` is that of the images as the kernel sees them, with `taps` taps of `depth` elements; pixels are
  /// `pixelStride` elements apart. nil if offsets do not fit into 32 bits.
  init?(
    _ geometry: WindowGeometry, images: Int, groups: Int, depth: Int, outputs: Int, pixelStride: Int, tileRows: Int,
    panelColumns: Int, pace: GemmTiling.Pace = .float32
  ) {
    isDense = geometry.isPointwise
    taps = geometry.tapCount
    self.groups = groups
    if isDense {
      offsets = nil
    } else {
      guard let table = WindowOffsets(geometry, pixelStride: pixelStride) else { return nil }
      offsets = table
    }
    tiling = GemmTiling(
      batch: isDense ? groups : images &* groups, m: geometry.outputCount &* (isDense ? images : 1), n: outputs,
      k: taps &* depth, tileRows: tileRows, panelColumns: panelColumns, pace: pace)
    chunk = tileRows &* max(1, 512 / tileRows)
  }

  /// True if rows are pixels.
  let isDense: Bool

  var parts: Int { tiling.parts }
  private var tableBytes: Int { offsets == nil ? 0 : aligned(chunk &* taps &* 4) }
  var scratchBytes: Int { parts &* tableBytes }

  @inline(__always)
  func forEach(_ part: Int, scratch: UnsafeMutableRawPointer, _ body: (Call) -> Void) {
    let tile = tiling.tile(part)
    let table = (scratch + part &* tableBytes).assumingMemoryBound(to: Int32.self)
    for unit in tile.batches {
      let (image, group) = unit.quotientAndRemainder(dividingBy: groups)
      guard let offsets else {
        body(Call(image: image, group: group, rows: tile.rows, panels: tile.panels, table: nil))
        continue
      }
      var start = tile.rows.lowerBound
      while start < tile.rows.upperBound {
        let rows = start..<min(tile.rows.upperBound, start &+ chunk)
        offsets.fill(rows, table)
        body(Call(image: image, group: group, rows: rows, panels: tile.panels, table: UnsafePointer(table)))
        start = rows.upperBound
      }
    }
  }
}
