// JPEG 2000, as JP2 file or bare codestream, by OpenJPEG. ITU-T T.800.

#if JPEG2000
  import COpenJPEG

  enum JPEG2000Decoder {
    static func decode(_ bytes: [UInt8], limits: ImageLimits) throws(ImageError) -> Image {
      var result: Result<Image, ImageError> = .failure(ImageError("JPEG 2000: no data"))
      bytes.withUnsafeBytes { source in
        var memory = Memory(bytes: source)
        withUnsafeMutablePointer(to: &memory) { pointer in
          do throws(ImageError) { result = .success(try decode(pointer, limits)) } catch { result = .failure(error) }
        }
      }
      return try result.get()
    }

    /// The file, as OpenJPEG's callbacks see it.
    private struct Memory {
      let bytes: UnsafeRawBufferPointer
      var position = 0
    }

    private static func decode(_ memory: UnsafeMutablePointer<Memory>, _ limits: ImageLimits) throws(ImageError)
      -> Image
    {
      let broken = ImageError("JPEG 2000: the data is broken or cut off")
      guard let stream = opj_stream_create(1 << 16, 1) else { throw ImageError("JPEG 2000: the library has no memory") }
      defer { opj_stream_destroy(stream) }
      attach(memory, to: stream)
      let isCodestream = memory.pointee.bytes.first == 0xFF
      guard let codec = opj_create_decompress(isCodestream ? OPJ_CODEC_J2K : OPJ_CODEC_JP2) else {
        throw ImageError("JPEG 2000: the library has no memory")
      }
      defer { opj_destroy_codec(codec) }
      var parameters = opj_dparameters_t()
      opj_set_default_decoder_parameters(&parameters)
      var image: UnsafeMutablePointer<opj_image_t>?
      defer { opj_image_destroy(image) }
      guard opj_setup_decoder(codec, &parameters) != 0, opj_read_header(stream, codec, &image) != 0, let header = image
      else {
        throw broken
      }
      let (width, height) = (
        Int(header.pointee.x1) - Int(header.pointee.x0), Int(header.pointee.y1) - Int(header.pointee.y0)
      )
      try limits.check(width: width, height: height)
      // The library holds every component as 32-bit samples.
      let count = Int(header.pointee.numcomps)
      guard (1...8).contains(count) else { throw ImageError("JPEG 2000: \(count) components; expected 1 to 4") }
      guard opj_decode(codec, stream, header) != 0, opj_end_decompress(codec, stream) != 0 else { throw broken }
      return try picture(header.pointee, width: width, height: height)
    }

    private static func attach(_ memory: UnsafeMutablePointer<Memory>, to stream: UnsafeMutablePointer<opj_stream_t?>) {
      opj_stream_set_read_function(stream) { buffer, size, data in
        guard let memory = data?.assumingMemoryBound(to: Memory.self), let buffer else { return -1 }
        let count = min(size, memory.pointee.bytes.count - memory.pointee.position)
        guard count > 0, let base = memory.pointee.bytes.baseAddress else { return -1 }
        buffer.copyMemory(from: base + memory.pointee.position, byteCount: count)
        memory.pointee.position += count
        return count
      }
      opj_stream_set_skip_function(stream) { distance, data in
        guard let memory = data?.assumingMemoryBound(to: Memory.self), distance >= 0 else { return -1 }
        let count = min(Int(distance), memory.pointee.bytes.count - memory.pointee.position)
        memory.pointee.position += count
        return Int64(count)
      }
      opj_stream_set_seek_function(stream) { position, data in
        guard let memory = data?.assumingMemoryBound(to: Memory.self), position >= 0,
          position <= memory.pointee.bytes.count
        else { return 0 }
        memory.pointee.position = Int(position)
        return 1
      }
      opj_stream_set_user_data(stream, memory, nil)
      opj_stream_set_user_data_length(stream, UInt64(memory.pointee.bytes.count))
    }

    /// One component, with samples of 8 bits.
    private struct Plane {
      var width: Int
      var height: Int
      var samples: [UInt8]
    }

    private static func plane(_ component: opj_image_comp_t) throws(ImageError) -> Plane {
      let (width, height) = (Int(component.w), Int(component.h))
      let bits = Int(component.prec)
      guard width > 0, height > 0, let data = component.data, (1...31).contains(bits) else {
        throw ImageError("JPEG 2000: a component is empty")
      }
      let largest = 1 << bits - 1
      let offset = component.sgnd != 0 ? 1 << (bits - 1) : 0
      var samples = [UInt8](repeating: 0, count: width * height)
      for index in samples.indices {
        let value = max(0, min(largest, Int(data[index]) + offset))
        samples[index] = bits == 8 ? UInt8(value) : UInt8((value * 255 + largest / 2) / largest)
      }
      return Plane(width: width, height: height, samples: samples)
    }

    private static func picture(_ image: opj_image_t, width: Int, height: Int) throws(ImageError) -> Image {
      var planes: [Plane] = []
      for index in 0..<min(Int(image.numcomps), 4) { planes.append(try plane(image.comps[index])) }
      // Grey, grey with alpha, colour, colour with alpha. What has no known meaning is left out.
      if planes.count == 2 { planes = [planes[0], planes[0], planes[0], planes[1]] }
      let channels = planes.count
      var pixels = [UInt8](repeating: 0, count: width * height * channels)
      for (channel, plane) in planes.enumerated() {
        for row in 0..<height {
          // Subsampled components are repeated.
          let line = row * plane.height / height * plane.width
          for column in 0..<width {
            pixels[(row * width + column) * channels + channel] = plane.samples[line + column * plane.width / width]
          }
        }
      }
      let isLuma = image.color_space == OPJ_CLRSPC_SYCC || image.color_space == OPJ_CLRSPC_EYCC
      if channels >= 3, isLuma {
        for pixel in 0..<width * height { colour(ofLuma: &pixels, at: pixel * channels) }
      }
      return Image(height: height, width: width, channels: channels, pixels: pixels)
    }

    /// Luma and two colour differences (ITU-R BT.601, full range) become red, green and blue.
    private static func colour(ofLuma pixels: inout [UInt8], at start: Int) {
      let luma = Float(pixels[start])
      let (blueness, redness) = (Float(pixels[start + 1]) - 128, Float(pixels[start + 2]) - 128)
      let values = [luma + 1.402 * redness, luma - 0.344136 * blueness - 0.714136 * redness, luma + 1.772 * blueness]
      for channel in 0..<3 { pixels[start + channel] = UInt8(max(0, min(255, values[channel].rounded()))) }
    }
  }
#endif
