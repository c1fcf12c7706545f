// Pictures: decoding, conversion, resizing, and bytes that are no picture.

import ApusImage
import Testing

@Suite struct ImageTests {
  /// A PNG of 2 × 2 pixels: red, green, blue, white.
  static let png: [UInt8] = [
  ]

  @Test func greyOfColour() {
    let image = Image(height: 1, width: 3, channels: 3, pixels: [255, 0, 0, 0, 255, 0, 0, 0, 255])
    #expect(image.converted(toChannels: 1).pixels == [76, 150, 29])
    #expect(image.swappingRedAndBlue().pixels == [0, 0, 255, 0, 255, 0, 255, 0, 0])
  }
}
