// Bringing a picture to a shape without changing its proportions.

extension Image {
  /// The picture scaled until it covers the size, and its middle: what stands out at two sides is cut off. The size
  /// must have passed `ImageLimits.check`.
  package func covering(height newHeight: Int, width newWidth: Int) -> Image {
    // The part of the source that has the wanted proportions, so that nothing is resized in vain.
    let isTooWide = width * newHeight > newWidth * height
    let partWidth = isTooWide ? max(1, Image.rounded(newWidth * height, dividedBy: newHeight)) : width
    let partHeight = isTooWide ? height : max(1, Image.rounded(newHeight * width, dividedBy: newWidth))
    let part = cut(top: (height - partHeight) / 2, left: (width - partWidth) / 2, height: partHeight, width: partWidth)
    return part.resized(height: newHeight, width: newWidth)
  }

  /// The picture scaled until it fits into the size, in the middle of samples of value `padding`. The size must have
  /// passed `ImageLimits.check`.
  package func padded(height newHeight: Int, width newWidth: Int, with padding: UInt8) -> Image {
    let isTooWide = width * newHeight > newWidth * height
    let innerWidth = isTooWide ? newWidth : min(newWidth, max(1, Image.rounded(newHeight * width, dividedBy: height)))
    let innerHeight = isTooWide ? min(newHeight, max(1, Image.rounded(newWidth * height, dividedBy: width))) : newHeight
    let inner = resized(height: innerHeight, width: innerWidth)
    var result = [UInt8](repeating: padding, count: newHeight * newWidth * channels)
    let (top, left) = ((newHeight - innerHeight) / 2, (newWidth - innerWidth) / 2)
    for row in 0..<innerHeight {
      let target = ((top + row) * newWidth + left) * channels
      let source = row * innerWidth * channels
      result.replaceSubrange(
        target..<target + innerWidth * channels, with: inner.pixels[source..<source + innerWidth * channels])
    }
    return Image(height: newHeight, width: newWidth, channels: channels, pixels: result)
  }

  private func cut(top: Int, left: Int, height newHeight: Int, width newWidth: Int) -> Image {
    if newHeight == height, newWidth == width { return self }
    var result: [UInt8] = []
    result.reserveCapacity(newHeight * newWidth * channels)
    for row in top..<top + newHeight {
      let start = (row * width + left) * channels
      result += pixels[start..<start + newWidth * channels]
    }
    return Image(height: newHeight, width: newWidth, channels: channels, pixels: result)
  }

  private static func rounded(_ value: Int, dividedBy divisor: Int) -> Int { (value + divisor / 2) / divisor }
}
