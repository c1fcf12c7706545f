// TIFF 6.0 and BigTIFF, the first picture of the file, by libtiff.
// https://www.loc.gov/preservation/digital/formats/fdd/fdd000022.shtml

#if TIFF
  import CTIFF

  enum TIFFDecoder {
    static func decode(_ bytes: [UInt8], limits: ImageLimits) throws(ImageError) -> Image {
      var result: Result<Image, ImageError> = .failure(ImageError("TIFF: no data"))
      bytes.withUnsafeBytes { source in
        var memory = Memory(bytes: source)
        withUnsafeMutablePointer(to: &memory) { pointer in
          do throws(ImageError) { result = .success(try open(pointer, limits)) } catch { result = .failure(error) }
        }
      }
      return try result.get()
    }

    /// The file, as libtiff's callbacks see it, and the first error of the library.
    private struct Memory {
      let bytes: UnsafeRawBufferPointer
      var position = 0
      var error: String?
    }

    private static func open(_ memory: UnsafeMutablePointer<Memory>, _ limits: ImageLimits) throws(ImageError) -> Image
    {
      guard let options = TIFFOpenOptionsAlloc() else { throw ImageError("TIFF: the library has no memory") }
      defer { TIFFOpenOptionsFree(options) }
      TIFFOpenOptionsSetMaxSingleMemAlloc(options, Int64(limits.pixels) * 8 + 1 << 20)
      TIFFOpenOptionsSetErrorHandlerExtR(
        options,
        { _, data, _, format, arguments in
          guard let memory = data?.assumingMemoryBound(to: Memory.self), let format, let arguments else { return 1 }
          if memory.pointee.error == nil {
            var text = [CChar](repeating: 0, count: 256)
            vsnprintf(&text, text.count, format, arguments)
            memory.pointee.error = String(
              decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
          }
          return 1
        }, memory)
      TIFFOpenOptionsSetWarningHandlerExtR(options, { _, _, _, _, _ in 1 }, nil)
      let file = TIFFClientOpenExt(
        "", "rm", memory,
        { data, buffer, size in Int64(TIFFDecoder.read(data, buffer, Int(size))) },
        { _, _, _ in 0 },
        { data, offset, origin in TIFFDecoder.seek(data, offset, origin) },
        { _ in 0 },
        { data in data.map { UInt64($0.assumingMemoryBound(to: Memory.self).pointee.bytes.count) } ?? 0 },
        nil, nil, options)
      guard let file else { throw message(memory) }
      defer { TIFFClose(file) }
      return try picture(file, memory, limits)
    }

    private static func read(_ data: UnsafeMutableRawPointer?, _ buffer: UnsafeMutableRawPointer?, _ size: Int) -> Int {
      guard let memory = data?.assumingMemoryBound(to: Memory.self), let buffer else { return 0 }
      let (bytes, position) = (memory.pointee.bytes, memory.pointee.position)
      let count = min(size, bytes.count - position)
      guard count > 0, let base = bytes.baseAddress else { return 0 }
      buffer.copyMemory(from: base + position, byteCount: count)
      memory.pointee.position = position + count
      return count
    }

    private static func seek(_ data: UnsafeMutableRawPointer?, _ offset: UInt64, _ origin: CInt) -> UInt64 {
      guard let memory = data?.assumingMemoryBound(to: Memory.self) else { return .max }
      let start = origin == SEEK_SET ? 0 : origin == SEEK_CUR ? memory.pointee.position : memory.pointee.bytes.count
      let (target, overflow) = start.addingReportingOverflow(Int(truncatingIfNeeded: offset))
      guard !overflow, target >= 0 else { return .max }
      memory.pointee.position = target
      return UInt64(target)
    }

    private static func picture(
      _ file: OpaquePointer, _ memory: UnsafeMutablePointer<Memory>, _ limits: ImageLimits
    ) throws(ImageError) -> Image {
      var image = TIFFRGBAImage()
      var text = [CChar](repeating: 0, count: 1024)
      guard TIFFRGBAImageBegin(&image, file, 1, &text) != 0 else {
        memory.pointee.error = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        throw message(memory)
      }
      defer { TIFFRGBAImageEnd(&image) }
      let (width, height) = (Int(image.width), Int(image.height))
      try limits.check(width: width, height: height)
      let hasAlpha = image.alpha != 0
      if hasAlpha, image.alpha == EXTRASAMPLE_UNASSALPHA, image.bitspersample == 8, image.samplesperpixel == 4,
        image.isContig != 0, TIFFIsTiled(file) == 0, image.orientation == ORIENTATION_TOPLEFT,
        TIFFScanlineSize(file) == width * 4
      {
        return try lines(file, memory, width: width, height: height)
      }
      image.req_orientation = UInt16(ORIENTATION_TOPLEFT)
      var raster = [UInt32](repeating: 0, count: width * height)
      guard TIFFRGBAImageGet(&image, &raster, image.width, image.height) != 0 else { throw message(memory) }
      let isGrey =
        !hasAlpha
        && (image.photometric == UInt16(PHOTOMETRIC_MINISBLACK) || image.photometric == UInt16(PHOTOMETRIC_MINISWHITE))
      let channels = isGrey ? 1 : hasAlpha ? 4 : 3
      var pixels = [UInt8](repeating: 0, count: width * height * channels)
      for (index, packed) in raster.enumerated() {
        let alpha = Int(packed >> 24)
        for channel in 0..<min(channels, 3) {
          let sample = Int(packed >> UInt32(8 * channel) & 255)
          // libtiff multiplies the colours by alpha.
          pixels[index * channels + channel] = UInt8(
            hasAlpha && alpha > 0 ? min(255, (sample * 255 + alpha / 2) / alpha) : sample)
        }
        if hasAlpha { pixels[index * 4 + 3] = UInt8(alpha) }
      }
      return Image(height: height, width: width, channels: channels, pixels: pixels)
    }

    /// Four samples of 8 bits a pixel, as they stand in the file.
    private static func lines(
      _ file: OpaquePointer, _ memory: UnsafeMutablePointer<Memory>, width: Int, height: Int
    ) throws(ImageError) -> Image {
      var isDone = true
      let pixels = [UInt8](unsafeUninitializedCapacity: width * height * 4) { buffer, count in
        buffer.initialize(repeating: 0)
        count = width * height * 4
        guard let base = buffer.baseAddress else { return }
        for row in 0..<height where isDone {
          isDone = TIFFReadScanline(file, base + row * width * 4, UInt32(row), 0) == 1
        }
      }
      guard isDone else { throw message(memory) }
      return Image(height: height, width: width, channels: 4, pixels: pixels)
    }

    private static func message(_ memory: UnsafeMutablePointer<Memory>) -> ImageError {
      ImageError("TIFF: \(memory.pointee.error ?? "the data is broken")")
    }
  }
#endif
