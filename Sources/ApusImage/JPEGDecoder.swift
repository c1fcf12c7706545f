// JPEG by libjpeg-turbo's TurboJPEG interface, which reports errors without long jumps. ITU-T T.81.

#if JPEG
import CTurboJPEG

enum JPEGDecoder {
  static func decode(_ bytes: [UInt8], limits: ImageLimits) throws(ImageError) -> Image {
    guard let handle = tjInitDecompress() else { throw ImageError("JPEG: the library has no memory") }
    defer { tjDestroy(handle) }
    var (width, height, subsampling, colours) = (CInt(0), CInt(0), CInt(0), CInt(0))
    let size = UInt(bytes.count)
    guard tjDecompressHeader3(handle, bytes, size, &width, &height, &subsampling, &colours) == 0 else {
      throw message(handle)
    }
    try limits.check(width: Int(width), height: Int(height))
    let isGrey = colours == CInt(TJCS_GRAY.rawValue)
    let isInk = colours == CInt(TJCS_CMYK.rawValue) || colours == CInt(TJCS_YCCK.rawValue)
    let format = isGrey ? TJPF_GRAY : isInk ? TJPF_CMYK : TJPF_RGB
    let channels = isGrey ? 1 : isInk ? 4 : 3
    let count = Int(width) * Int(height) * channels
    var status: CInt = -1
    let pixels = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
      buffer.initialize(repeating: 0)
      initialized = count
      status = tjDecompress2(
        handle, bytes, size, buffer.baseAddress, width, 0, height, CInt(format.rawValue),
        CInt(TJFLAG_ACCURATEDCT | TJFLAG_LIMITSCANS))
    }
    if status != 0 {
      // A warning leaves a whole picture, unless the file is cut off.
      let error = message(handle)
      let isWarning = tjGetErrorCode(handle) == CInt(TJERR_WARNING.rawValue)
      guard isWarning, !error.description.contains("Premature end of JPEG file") else { throw error }
    }
    let image = Image(height: Int(height), width: Int(width), channels: channels, pixels: pixels)
    return isInk ? colour(ofInk: image) : image
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

  private static func message(_ handle: tjhandle) -> ImageError {
    ImageError("JPEG: \(tjGetErrorStr2(handle).map { String(cString: $0) } ?? "unknown error")")
  }
}
#endif
