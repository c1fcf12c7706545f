// The portable anymaps: PBM, PGM, PPM, plain (P1–P3) and raw (P4–P6), and PAM (P7). https://netpbm.sourceforge.net/doc/

enum PNMDecoder {
  static func decode(_ bytes: [UInt8], limits: ImageLimits) throws(ImageError) -> Image {
    var reader = Reader(cursor: ByteCursor(bytes, at: 2, format: "PNM"))
    let kind = bytes.count > 1 ? Int(bytes[1]) - 0x30 : 0
    if kind == 7 { return try arbitrary(&reader, limits) }
    let width = try reader.number()
    let height = try reader.number()
    try limits.check(width: width, height: height)
    let isBitmap = kind == 1 || kind == 4
    let largest = isBitmap ? 1 : try reader.number()
    let channels = kind == 3 || kind == 6 ? 3 : 1
    let count = width * height * channels
    let samples: [UInt8]
    if kind <= 3 {
      samples = try plain(&reader, count: count, largest: largest, isBitmap: isBitmap)
    } else {
      // One white space character stands before the samples.
      _ = try reader.cursor.byte()
      samples = try isBitmap ? bits(&reader, width, height) : raw(&reader, count: count, largest: largest)
    }
    return Image(height: height, width: width, channels: channels, pixels: samples)
  }

  /// Tokens of the header: decimal numbers and words between white space; `#` starts a comment.
  private struct Reader {
    var cursor: ByteCursor

    mutating func token() throws(ImageError) -> [UInt8] {
      var token: [UInt8] = []
      while true {
        let byte = try cursor.byte()
        if byte == 0x23 {
          while try cursor.byte() != 0x0A {}
          if !token.isEmpty { return token }
        } else if byte == 0x20 || (0x09...0x0D).contains(byte) {
          if token.isEmpty { continue }
          // Left for the caller: the white space that ends the token.
          cursor.position -= 1
          return token
        } else {
          guard token.count < 32 else { throw ImageError("PNM: a header word is too long") }
          token.append(byte)
          // The last number of a plain file may end the file.
          if cursor.position == cursor.bytes.count { return token }
        }
      }
    }

    mutating func number() throws(ImageError) -> Int {
      let token = try token()
      guard token.count <= 9, let value = Int(String(decoding: token, as: UTF8.self)), value >= 0 else {
        throw ImageError("PNM: '\(String(decoding: token, as: UTF8.self))' is no number")
      }
      return value
    }
  }

  private static func check(largest: Int) throws(ImageError) {
    guard (1...65535).contains(largest) else {
      throw ImageError("PNM: the largest sample is \(largest); expected 1 to 65535")
    }
  }

  /// A sample as 8 bits, rounded.
  private static func scaled(_ value: Int, largest: Int) throws(ImageError) -> UInt8 {
    guard value <= largest else { throw ImageError("PNM: the sample \(value) is larger than \(largest)") }
    return largest == 255 ? UInt8(value) : UInt8((value * 255 + largest / 2) / largest)
  }

  private static func plain(
    _ reader: inout Reader, count: Int, largest: Int, isBitmap: Bool
  ) throws(ImageError) -> [UInt8] {
    try check(largest: largest)
    // A sample takes at least a byte, so a wrong size cannot ask for memory that the file does not pay for.
    guard count <= reader.cursor.bytes.count else { throw ImageError("PNM: the file is too short for its size") }
    var samples: [UInt8] = []
    samples.reserveCapacity(count)
    while samples.count < count {
      if isBitmap {
        // Digits of a plain bitmap need no white space between them.
        let byte = try reader.cursor.byte()
        if byte == 0x30 || byte == 0x31 {
          samples.append(byte == 0x31 ? 0 : 255)
        } else if byte == 0x23 {
          while try reader.cursor.byte() != 0x0A {}
        } else if byte != 0x20, !(0x09...0x0D).contains(byte) {
          throw ImageError("PNM: a bitmap has a byte \(byte)")
        }
      } else {
        samples.append(try scaled(try reader.number(), largest: largest))
      }
    }
    return samples
  }

  private static func bits(_ reader: inout Reader, _ width: Int, _ height: Int) throws(ImageError) -> [UInt8] {
    let rowBytes = (width + 7) / 8
    let start = reader.cursor.position
    let bytes = reader.cursor.bytes
    guard bytes.count - start >= rowBytes * height else { throw ImageError("PNM: the file is too short for its size") }
    var samples = [UInt8](repeating: 255, count: width * height)
    for row in 0..<height {
      for column in 0..<width where bytes[start + row * rowBytes + column / 8] >> UInt8(7 - column % 8) & 1 == 1 {
        samples[row * width + column] = 0
      }
    }
    return samples
  }

  private static func raw(_ reader: inout Reader, count: Int, largest: Int) throws(ImageError) -> [UInt8] {
    try check(largest: largest)
    let start = reader.cursor.position
    let bytes = reader.cursor.bytes
    let width = largest > 255 ? 2 : 1
    guard bytes.count - start >= count * width else { throw ImageError("PNM: the file is too short for its size") }
    if largest == 255 { return Array(bytes[start..<start + count]) }
    var samples = [UInt8](repeating: 0, count: count)
    for index in 0..<count {
      let first = Int(bytes[start + index * width])
      let value = width == 1 ? first : first << 8 | Int(bytes[start + index * 2 + 1])
      samples[index] = try scaled(value, largest: largest)
    }
    return samples
  }

  /// PAM: a header of named lines; 1 to 4 samples a pixel.
  private static func arbitrary(_ reader: inout Reader, _ limits: ImageLimits) throws(ImageError) -> Image {
    var numbers: [String: Int] = [:]
    while true {
      let name = String(decoding: try reader.token(), as: UTF8.self)
      if name == "ENDHDR" { break }
      if name == "TUPLTYPE" {
        while try reader.cursor.byte() != 0x0A {}
      } else if ["WIDTH", "HEIGHT", "DEPTH", "MAXVAL"].contains(name) {
        numbers[name] = try reader.number()
      } else {
        throw ImageError("PNM: a header line begins with '\(name)'")
      }
    }
    while try reader.cursor.byte() != 0x0A {}
    let (width, height) = (numbers["WIDTH"] ?? 0, numbers["HEIGHT"] ?? 0)
    try limits.check(width: width, height: height)
    let depth = numbers["DEPTH"] ?? 0
    guard (1...4).contains(depth) else { throw ImageError("PNM: \(depth) samples a pixel; expected 1 to 4") }
    let samples = try raw(&reader, count: width * height * depth, largest: numbers["MAXVAL"] ?? 0)
    if depth != 2 { return Image(height: height, width: width, channels: depth, pixels: samples) }
    // Grey with alpha.
    var pixels = [UInt8](repeating: 0, count: width * height * 4)
    for index in pixels.indices { pixels[index] = samples[index / 4 * 2 + (index % 4 == 3 ? 1 : 0)] }
    return Image(height: height, width: width, channels: 4, pixels: pixels)
  }
}
