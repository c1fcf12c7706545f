// JPEG by libjpeg, through functions in C that its long jumps do not leave. ITU-T T.81.

#if JPEG
  import CApusJPEG

  enum JPEGDecoder {
    static func decode(_ bytes: [UInt8], limits: ImageLimits) throws(ImageError) -> Image {
      var header = apus_jpeg_header()
      var text = [CChar](repeating: 0, count: APUS_JPEG_MESSAGE_BYTES)
      guard apus_jpeg_read_header(bytes, bytes.count, &header, &text) else { throw message(text) }
      let (width, height, channels) = (Int(header.width), Int(header.height), Int(header.channels))
      try limits.check(width: width, height: height)
      var isWhole = false
      let pixels = [UInt8](unsafeUninitializedCapacity: width * height * channels) { buffer, initialized in
        buffer.initialize(repeating: 0)
        initialized = buffer.count
        guard let base = buffer.baseAddress else { return }
        isWhole = apus_jpeg_decode(bytes, bytes.count, base, &text)
      }
      guard isWhole else { throw message(text) }
      let image = Image(height: height, width: width, channels: channels, pixels: pixels)
      return channels == 4 ? colour(ofInk: image) : image
    }

    /// Red, green and blue of inverted cyan, magenta, yellow and black, as Adobe's programs write them.
    private static func colour(ofInk image: Image) -> Image {
      var pixels = [UInt8](repeating: 0, count: image.height * image.width * 3)
      for pixel in 0..<image.height * image.width {
        let black = Int(image.pixels[4 * pixel + 3])
        for channel in 0..<3 {
          pixels[3 * pixel + channel] = UInt8((Int(image.pixels[4 * pixel + channel]) * black + 127) / 255)
        }
      }
      return Image(height: image.height, width: image.width, channels: 3, pixels: pixels)
    }

    private static func message(_ text: [CChar]) -> ImageError {
      ImageError("JPEG: \(String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))")
    }
  }
#endif
