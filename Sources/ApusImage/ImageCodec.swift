// Finds the format of a picture by its first bytes and decodes it.

/// The formats that can be read, those of libraries if their package traits are enabled.
package enum ImageFormat: String, Sendable, CaseIterable {
  case png, jpeg, bmp, pnm, tiff, webp, jpeg2000

  /// The formats that this build can decode.
  package static var available: [ImageFormat] { allCases.filter { !missing.contains($0) } }

  /// The name that people use.
  package var title: String {
    switch self {
    case .png, .jpeg, .bmp, .pnm, .tiff: rawValue.uppercased()
    case .webp: "WebP"
    case .jpeg2000: "JPEG 2000"
    }
  }

  /// The names of the available ones in one line.
  package static var list: String { available.map(\.title).joined(separator: ", ") }

  /// The format whose signature the bytes begin with; nil if they have none of the signatures.
  package init?(signatureOf bytes: [UInt8]) {
    func starts(_ signature: [UInt8], at offset: Int = 0) -> Bool { bytes.dropFirst(offset).starts(with: signature) }
    if starts([0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]) {
      self = .png
    } else if starts([0xFF, 0xD8, 0xFF]) {
      self = .jpeg
    } else if starts(Array("BM".utf8)) {
      self = .bmp
    } else if starts(Array("RIFF".utf8)), starts(Array("WEBP".utf8), at: 8) {
      self = .webp
    } else if starts([0x49, 0x49, 42, 0]) || starts([0x4D, 0x4D, 0, 42]) || starts([0x49, 0x49, 43, 0])
      || starts([0x4D, 0x4D, 0, 43])
    {
      self = .tiff
    } else if starts([0, 0, 0, 12, 0x6A, 0x50, 0x20, 0x20]) || starts([0xFF, 0x4F, 0xFF, 0x51]) {
      self = .jpeg2000
    } else if bytes.count > 2, bytes[0] == 0x50, (0x31...0x37).contains(bytes[1]) {
      self = .pnm
    } else {
      return nil
    }
  }
}

/// The decoders.
package enum ImageCodec {
  /// The picture in `bytes`, whatever its format. Grey stays grey; alpha stays, with the colours not multiplied by it.
  /// Embedded colour profiles and gammas are not applied.
  package static func decode(_ bytes: [UInt8], limits: ImageLimits = ImageLimits()) throws(ImageError) -> Image {
    guard let format = ImageFormat(signatureOf: bytes) else {
      throw ImageError("no known picture format; expected one of \(ImageFormat.list)")
    }
    switch format {
    case .png: return try PNGDecoder.decode(bytes, limits: limits)
    case .jpeg: return try JPEGDecoder.decode(bytes, limits: limits)
    case .bmp: return try BMPDecoder.decode(bytes, limits: limits)
    case .pnm: return try PNMDecoder.decode(bytes, limits: limits)
    case .tiff: return try TIFFDecoder.decode(bytes, limits: limits)
    case .webp: return try WebPDecoder.decode(bytes, limits: limits)
    case .jpeg2000: return try JPEG2000Decoder.decode(bytes, limits: limits)
    }
  }
}
