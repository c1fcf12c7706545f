// The order of the elements of images: planar (channels first) or channels last.

import ApusGraph
import CApusKernels

/// Changes images of elements of 1 or 4 bytes between planar and channels-last order.
struct LayoutChange: Sendable {
  let images: Int
  let channels: Int
  let pixels: Int
  private let width: Int
  private let blocks: Partition

  /// Pixels of a part, which share the lines of a cache in planar order.
  private static let pixelTile = 16

  init(images: Int, channels: Int, pixels: Int, width: Int = 4) {
    (self.images, self.channels, self.pixels, self.width) = (images, channels, pixels, width)
    blocks = Partition(
      pixels, of: .light * 2 * channels, tile: LayoutChange.pixelTile,
      maximumParts: max(1, Partition.maximumParts / max(1, images)))
  }

  var parts: Int { images &* blocks.parts }
  /// Both orders are the same.
  var isNothing: Bool { channels == 1 || pixels == 1 }
  var byteCount: Int { images &* channels &* pixels &* width }

  /// From [channels][pixels] to [pixels][channels].
  func toChannelsLast(_ part: Int, _ x: UnsafeRawPointer, _ y: UnsafeMutableRawPointer) {
    let (first, count, base) = block(part)
    transpose(
      channels, count, x + (base &+ first) &* width, pixels, y + (base &+ first &* channels) &* width, channels)
  }

  /// From [pixels][channels] to [channels][pixels].
  func toPlanar(_ part: Int, _ x: UnsafeRawPointer, _ y: UnsafeMutableRawPointer) {
    let (first, count, base) = block(part)
    transpose(
      count, channels, x + (base &+ first &* channels) &* width, channels, y + (base &+ first) &* width, pixels)
  }

  private func block(_ part: Int) -> (first: Int, count: Int, base: Int) {
    let (image, block) = part.quotientAndRemainder(dividingBy: blocks.parts)
    let range = blocks.range(block)
    return (range.lowerBound, range.count, image &* channels &* pixels)
  }

  private func transpose(
    _ rows: Int, _ columns: Int, _ x: UnsafeRawPointer, _ xStride: Int, _ y: UnsafeMutableRawPointer, _ yStride: Int
  ) {
    if width == 1 {
      apus_kernels().pointee.transpose_1(rows, columns, x, xStride, y, yStride)
    } else {
      apus_kernels().pointee.transpose_4(rows, columns, x, xStride, y, yStride)
    }
  }
}
