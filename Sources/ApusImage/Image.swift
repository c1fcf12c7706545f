// A decoded picture: 8-bit samples, channels interleaved, rows from the top.

/// A picture of 1 (grey), 3 (red, green, blue) or 4 (red, green, blue, alpha) channels.
package struct Image: Sendable, Equatable {
  package let height: Int
  package let width: Int
  package let channels: Int
  /// `height · width · channels` samples, row by row, the channels of a pixel side by side.
  package private(set) var pixels: [UInt8]

  /// `pixels` must hold `height · width · channels` samples.
  package init(height: Int, width: Int, channels: Int, pixels: [UInt8]) {
    precondition(
      height >= 0 && width >= 0 && pixels.count == height * width * channels, "samples do not fill the picture")
    (self.height, self.width, self.channels, self.pixels) = (height, width, channels, pixels)
  }

  /// The same picture with 1, 3 or 4 channels. Colour becomes grey by the weights of ITU-R BT.601 (0.299, 0.587,
  /// 0.114); alpha is dropped, or made opaque.
  package func converted(toChannels wanted: Int) -> Image {
    precondition(wanted == 1 || wanted == 3 || wanted == 4, "no picture has \(wanted) channels")
    if wanted == channels { return self }
    var result = [UInt8](repeating: 255, count: height * width * wanted)
    for pixel in 0..<height * width {
      let (source, target) = (pixel * channels, pixel * wanted)
      if wanted == 1 {
        result[target] = Image.grey(pixels[source], pixels[source + 1], pixels[source + 2])
      } else {
        for channel in 0..<3 { result[target + channel] = pixels[channels == 1 ? source : source + channel] }
      }
    }
    return Image(height: height, width: width, channels: wanted, pixels: result)
  }

  /// The picture with red and blue exchanged.
  package func swappingRedAndBlue() -> Image {
    guard channels >= 3 else { return self }
    var result = self
    for pixel in 0..<height * width { result.pixels.swapAt(pixel * channels, pixel * channels + 2) }
    return result
  }

  /// Rounded luma of ITU-R BT.601 in 16-bit fixed point.
  static func grey(_ red: UInt8, _ green: UInt8, _ blue: UInt8) -> UInt8 {
    let sum: Int = 19595 * Int(red) + 38470 * Int(green) + 7471 * Int(blue)
    return UInt8((sum + 0x8000) >> 16)
  }
}

/// Why bytes gave no picture.
package struct ImageError: Error, Sendable, CustomStringConvertible {
  package enum Kind: Sendable {
    /// The bytes are no picture, or one beyond the limits.
    case broken
    /// The format is known, and this build has no decoder for it.
    case unavailable
  }

  package let description: String
  package let kind: Kind

  package init(_ description: String, _ kind: Kind = .broken) { (self.description, self.kind) = (description, kind) }
}

/// What a decoder may use.
package struct ImageLimits: Sendable {
  /// The most pixels that a picture may have.
  package var pixels: Int
  package init(pixels: Int = 1 << 27) { self.pixels = pixels }

  /// Throws if a picture of that size is empty or too large. After it, `height · width · 4` cannot overflow.
  package func check(width: Int, height: Int) throws(ImageError) {
    guard width > 0, height > 0 else { throw ImageError("the picture has a size of \(width) × \(height)") }
    let (count, overflow) = width.multipliedReportingOverflow(by: height)
    guard !overflow, count <= pixels else {
      throw ImageError("the picture of \(width) × \(height) pixels is larger than the limit of \(pixels)")
    }
  }
}
