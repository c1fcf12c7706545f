// PNG by libpng's simplified interface, which reports errors without long jumps. https://www.w3.org/TR/png-3/

#if PNG
  import CPNG

  enum PNGDecoder {
    static func decode(_ bytes: [UInt8], limits: ImageLimits) throws(ImageError) -> Image {
      let stream = essentialChunks(of: bytes)
      var image = png_image()
      image.version = png_uint_32(PNG_IMAGE_VERSION)
      // Frees what libpng holds, also after an error.
      defer { png_image_free(&image) }
      var result: Result<Image, ImageError> = .failure(ImageError("PNG: no data"))
      stream.withUnsafeBytes { source in
        guard png_image_begin_read_from_memory(&image, source.baseAddress, source.count) != 0 else {
          result = .failure(message(image))
          return
        }
        result = finish(&image, limits: limits)
      }
      return try result.get()
    }

    /// Reads the pixels after the header.
    private static func finish(_ image: inout png_image, limits: ImageLimits) -> Result<Image, ImageError> {
      do throws(ImageError) { try limits.check(width: Int(image.width), height: Int(image.height)) } catch {
        return .failure(error)
      }
      let hasAlpha = image.format & formatAlpha != 0
      let hasColour = image.format & formatColour != 0
      image.format = (hasColour || hasAlpha ? formatColour : 0) | (hasAlpha ? formatAlpha : 0)
      // 16-bit samples are encoded as 8-bit ones are, not linear.
      image.flags |= flag16BitIsEncoded
      let channels = hasAlpha ? 4 : hasColour ? 3 : 1
      let (width, height) = (Int(image.width), Int(image.height))
      var isDone = false
      let pixels = [UInt8](unsafeUninitializedCapacity: width * height * channels) { buffer, count in
        buffer.initialize(repeating: 0)
        count = width * height * channels
        isDone = png_image_finish_read(&image, nil, buffer.baseAddress, 0, nil) != 0
      }
      guard isDone else { return .failure(message(image)) }
      return .success(Image(height: height, width: width, channels: channels, pixels: pixels))
    }

    // PNG_FORMAT_FLAG_ALPHA, PNG_FORMAT_FLAG_COLOR, PNG_IMAGE_FLAG_16BIT_sRGB.
    private static let formatAlpha: UInt32 = 1
    private static let formatColour: UInt32 = 2
    private static let flag16BitIsEncoded: UInt32 = 4

    /// The stream with the chunks that hold the pixels only: text, profiles and gammas neither cost time nor change
    /// values.
    private static func essentialChunks(of bytes: [UInt8]) -> [UInt8] {
      var result = Array(bytes.prefix(8))
      result.reserveCapacity(bytes.count)
      var position = 8
      while position + 12 <= bytes.count {
        let length = (0..<4).reduce(0) { $0 << 8 | Int(bytes[position + $1]) }
        let end = min(position + 12 + length, bytes.count)
        // Bit 5 of the first letter: the chunk is ancillary. Of those only transparency counts.
        if bytes[position + 4] & 0x20 == 0 || bytes[position + 4..<position + 8].elementsEqual("tRNS".utf8) {
          result += bytes[position..<end]
        }
        position = end
      }
      return result
    }

    private static func message(_ image: png_image) -> ImageError {
      let text = withUnsafeBytes(of: image.message) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      return ImageError("PNG: \(text)")
    }
  }
#endif
