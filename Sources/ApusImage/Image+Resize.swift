// Resizing by a triangle filter that widens when the picture shrinks: bilinear with antialiasing.

extension Image {
  /// The picture in another size. Sample centres lie at half pixels; weights at the border are those of the pixels that
  /// exist, normalised. Rounded to the nearest, once for each direction.
  package func resized(height newHeight: Int, width newWidth: Int) -> Image {
    precondition(newHeight > 0 && newWidth > 0 && height > 0 && width > 0, "a picture needs a size")
    if newHeight == height, newWidth == width { return self }
    var result = self
    if newWidth != width {
      result = result.resampled(rows: height, from: width, to: newWidth, elementStride: channels, isHorizontal: true)
    }
    if newHeight != height {
      result = result.resampled(
        rows: 1, from: height, to: newHeight, elementStride: result.width * channels, isHorizontal: false)
    }
    return result
  }

  /// One direction: `rows` times, lines of `from` elements of `elementStride` samples become lines of `to` elements.
  private func resampled(rows: Int, from: Int, to: Int, elementStride: Int, isHorizontal: Bool) -> Image {
    let scale = Double(from) / Double(to)
    let radius = max(scale, 1)
    var result = [UInt8](repeating: 0, count: rows * to * elementStride)
    var sums = [Float](repeating: 0, count: elementStride)
    for target in 0..<to {
      let centre = (Double(target) + 0.5) * scale
      let first = max(0, Int((centre - radius + 0.5).rounded(.down)))
      let last = min(from, Int((centre + radius + 0.5).rounded(.down)))
      var weights = (first..<last).map { max(0, 1 - abs((Double($0) + 0.5 - centre) / radius)) }
      let total = weights.reduce(0, +)
      for index in weights.indices { weights[index] /= total }
      for row in 0..<rows {
        for sample in 0..<elementStride { sums[sample] = 0 }
        for (index, weight) in weights.enumerated() {
          let source = (row * from + first + index) * elementStride
          let factor = Float(weight)
          for sample in 0..<elementStride { sums[sample] += factor * Float(pixels[source + sample]) }
        }
        let start = (row * to + target) * elementStride
        for sample in 0..<elementStride { result[start + sample] = UInt8(max(0, min(255, sums[sample].rounded()))) }
      }
    }
    return isHorizontal
      ? Image(height: height, width: to, channels: channels, pixels: result)
      : Image(height: to, width: width, channels: channels, pixels: result)
  }
}
