// WebP, lossy and lossless, still pictures, by libwebp. https://developers.google.com/speed/webp/docs/riff_container

#if WebP
  import CWebP

  enum WebPDecoder {
    static func decode(_ bytes: [UInt8], limits: ImageLimits) throws(ImageError) -> Image {
      var features = WebPBitstreamFeatures()
      guard WebPGetFeaturesInternal(bytes, bytes.count, &features, WEBP_DECODER_ABI_VERSION) == VP8_STATUS_OK else {
        throw ImageError("WebP: the header is broken")
      }
      guard features.has_animation == 0 else { throw ImageError("WebP: moving pictures are not read") }
      try limits.check(width: Int(features.width), height: Int(features.height))
      let channels = features.has_alpha != 0 ? 4 : 3
      let (width, height) = (Int(features.width), Int(features.height))
      let stride = CInt(clamping: width * channels)
      var isDone = false
      let pixels = [UInt8](unsafeUninitializedCapacity: width * height * channels) { buffer, count in
        buffer.initialize(repeating: 0)
        count = buffer.count
        let decode = channels == 4 ? WebPDecodeRGBAInto : WebPDecodeRGBInto
        isDone = decode(bytes, bytes.count, buffer.baseAddress, buffer.count, stride) != nil
      }
      guard isDone else { throw ImageError("WebP: the data is broken or cut off") }
      return Image(height: height, width: width, channels: channels, pixels: pixels)
    }
  }
#endif
