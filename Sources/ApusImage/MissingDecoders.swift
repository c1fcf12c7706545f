// What stands for the decoders of libraries whose package traits are not enabled: refusals that say what to enable.

/// A format that comes with a trait of the package.
protocol MissingDecoder {
  static var format: ImageFormat { get }
  /// The trait or traits, and the Debian package of the library behind it.
  static var trait: String { get }
  static var package: String { get }
}

extension MissingDecoder {
  static func decode(_ bytes: [UInt8], limits: ImageLimits) throws(ImageError) -> Image {
    throw ImageError(
      "this build of Apus cannot decode \(format.title); build it with the package trait \(trait), which needs "
        + package,
      .unavailable)
  }
}

#if !JPEG
  enum JPEGDecoder: MissingDecoder {
    static let (format, trait, package) = (ImageFormat.jpeg, "Images or CommonImages", "libjpeg-dev")
  }
#endif

#if !JPEG2000
  enum JPEG2000Decoder: MissingDecoder {
    static let (format, trait, package) = (ImageFormat.jpeg2000, "Images", "libopenjp2-7-dev")
  }
#endif

#if !PNG
  enum PNGDecoder: MissingDecoder {
    static let (format, trait, package) = (ImageFormat.png, "Images or CommonImages", "libpng-dev")
  }
#endif

#if !TIFF
  enum TIFFDecoder: MissingDecoder {
    static let (format, trait, package) = (ImageFormat.tiff, "Images", "libtiff-dev")
  }
#endif

#if !WebP
  enum WebPDecoder: MissingDecoder {
    static let (format, trait, package) = (ImageFormat.webp, "Images or CommonImages", "libwebp-dev")
  }
#endif

extension ImageFormat {
  /// The formats that this build cannot decode.
  static let missing: Set<ImageFormat> = {
    var formats: Set<ImageFormat> = []
    #if !JPEG
      formats.insert(.jpeg)
    #endif
    #if !JPEG2000
      formats.insert(.jpeg2000)
    #endif
    #if !PNG
      formats.insert(.png)
    #endif
    #if !TIFF
      formats.insert(.tiff)
    #endif
    #if !WebP
      formats.insert(.webp)
    #endif
    return formats
  }()
}
