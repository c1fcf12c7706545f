// Windows and OS/2 bitmaps: 1 to 32 bits, palettes, bit fields, run lengths.
// https://learn.microsoft.com/en-us/windows/win32/gdi/bitmap-storage

enum BMPDecoder {
  private struct Header {
    var dataOffset = 0
    var width = 0
    var height = 0
    var isTopDown = false
    var bits = 0
    var compression = 0
    /// Red, green, blue, alpha; a mask of 0 has no bits.
    var masks = [0, 0, 0, 0]
    var palette: [(UInt8, UInt8, UInt8)] = []
  }

  static func decode(_ bytes: [UInt8], limits: ImageLimits) throws(ImageError) -> Image {
    var cursor = ByteCursor(bytes, at: 10, format: "BMP")
    let header = try header(&cursor, limits)
    cursor.position = header.dataOffset
    if header.bits <= 8 {
      let indices =
        header.compression == 1 || header.compression == 2
        ? try runs(cursor, header) : try packedIndices(cursor, header)
      return try looked(up: indices, header)
    }
    return try direct(cursor, header)
  }

  private static func header(_ cursor: inout ByteCursor, _ limits: ImageLimits) throws(ImageError) -> Header {
    var header = Header()
    header.dataOffset = try cursor.little(4)
    let start = cursor.position
    let size = try cursor.little(4)
    guard size == 12 || size >= 40, size <= 4096 else {
      throw ImageError("BMP: a header of \(size) bytes is not known")
    }
    var colours = 0
    if size == 12 {
      header.width = try cursor.little(2)
      header.height = try cursor.little(2)
      _ = try cursor.little(2)
      header.bits = try cursor.little(2)
    } else {
      header.width = try cursor.signedLittle()
      let height = try cursor.signedLittle()
      (header.height, header.isTopDown) = (abs(height), height < 0)
      _ = try cursor.little(2)
      header.bits = try cursor.little(2)
      header.compression = try cursor.little(4)
      cursor.position += 12
      colours = try cursor.little(4)
      cursor.position += 4
    }
    try limits.check(width: header.width, height: header.height)
    guard [1, 2, 4, 8, 16, 24, 32].contains(header.bits) else {
      throw ImageError("BMP: \(header.bits) bits a pixel are not known")
    }
    switch (header.compression, header.bits) {
    case (0, _), (1, 8), (2, 4), (3, 16), (3, 32), (6, 16), (6, 32): break
    default: throw ImageError("BMP: compression \(header.compression) of \(header.bits) bits is not known")
    }
    header.masks = header.bits == 16 ? [0x7C00, 0x3E0, 0x1F, 0] : [0xFF0000, 0xFF00, 0xFF, 0]
    if header.compression == 3 || header.compression == 6 {
      let count = size >= 56 || header.compression == 6 ? 4 : 3
      for index in 0..<count { header.masks[index] = try cursor.little(4) }
    }
    if header.bits <= 8 {
      cursor.position = start + size
      let entryBytes = size == 12 ? 3 : 4
      let room = max(0, header.dataOffset - cursor.position) / entryBytes
      let wanted = colours > 0 ? colours : 1 << header.bits
      for _ in 0..<min(wanted, 256, room) {
        let (blue, green, red) = (try cursor.byte(), try cursor.byte(), try cursor.byte())
        if entryBytes == 4 { _ = try cursor.byte() }
        header.palette.append((red, green, blue))
      }
    }
    return header
  }

  /// The row of the picture that the file's row `row` is.
  private static func target(_ row: Int, _ header: Header) -> Int {
    header.isTopDown ? row : header.height - 1 - row
  }

  /// The bytes of a row, which is filled up to a multiple of 4.
  private static func rowBytes(_ cursor: ByteCursor, _ header: Header) throws(ImageError) -> Int {
    let count = (header.width * header.bits + 31) / 32 * 4
    // The fill of the last row may be missing.
    let needed = count * (header.height - 1) + (header.width * header.bits + 7) / 8
    guard cursor.bytes.count - cursor.position >= needed else {
      throw ImageError("BMP: the file is too short for its size")
    }
    return count
  }

  private static func packedIndices(_ cursor: ByteCursor, _ header: Header) throws(ImageError) -> [UInt8] {
    let rowBytes = try rowBytes(cursor, header)
    let (bits, perByte) = (header.bits, 8 / header.bits)
    let mask = UInt8((1 << bits) - 1)
    var indices = [UInt8](repeating: 0, count: header.width * header.height)
    for row in 0..<header.height {
      let source = cursor.position + row * rowBytes
      let start = target(row, header) * header.width
      for column in 0..<header.width {
        let shift = UInt8((perByte - 1 - column % perByte) * bits)
        indices[start + column] = cursor.bytes[source + column / perByte] >> shift & mask
      }
    }
    return indices
  }

  /// BI_RLE8 and BI_RLE4: pairs of (count, value), and escapes. Pixels that no run names have the index 0.
  private static func runs(_ start: ByteCursor, _ header: Header) throws(ImageError) -> [UInt8] {
    var cursor = start
    var indices = [UInt8](repeating: 0, count: header.width * header.height)
    var (row, column) = (0, 0)
    func put(_ index: UInt8) {
      if row < header.height, column < header.width { indices[target(row, header) * header.width + column] = index }
      column += 1
    }
    let isNibbles = header.bits == 4
    while row < header.height {
      let count = Int(try cursor.byte())
      let value = try cursor.byte()
      if count > 0 {
        for step in 0..<count { put(isNibbles ? (step % 2 == 0 ? value >> 4 : value & 15) : value) }
      } else if value == 0 {
        (row, column) = (row + 1, 0)
      } else if value == 1 {
        break
      } else if value == 2 {
        column += Int(try cursor.byte())
        row += Int(try cursor.byte())
      } else {
        var byte: UInt8 = 0
        let first = cursor.position
        for step in 0..<Int(value) {
          if !isNibbles || step % 2 == 0 { byte = try cursor.byte() }
          put(isNibbles ? (step % 2 == 0 ? byte >> 4 : byte & 15) : byte)
        }
        if (cursor.position - first) % 2 == 1 { _ = try cursor.byte() }
      }
    }
    return indices
  }

  private static func looked(up indices: [UInt8], _ header: Header) throws(ImageError) -> Image {
    let isGrey = header.palette.allSatisfy { $0.0 == $0.1 && $0.1 == $0.2 }
    var pixels: [UInt8] = []
    pixels.reserveCapacity(indices.count * (isGrey ? 1 : 3))
    for index in indices {
      guard Int(index) < header.palette.count else {
        throw ImageError("BMP: a pixel has colour \(index) of \(header.palette.count)")
      }
      let (red, green, blue) = header.palette[Int(index)]
      pixels.append(red)
      if !isGrey {
        pixels.append(green)
        pixels.append(blue)
      }
    }
    return Image(height: header.height, width: header.width, channels: isGrey ? 1 : 3, pixels: pixels)
  }

  private static func direct(_ cursor: ByteCursor, _ header: Header) throws(ImageError) -> Image {
    let rowBytes = try rowBytes(cursor, header)
    let bytes = cursor.bytes
    let hasAlpha = header.masks[3] != 0
    let channels = hasAlpha ? 4 : 3
    let width = header.bits / 8
    // The lowest bit and the largest value of each mask.
    let fields = header.masks.prefix(channels).map { mask -> (mask: Int, shift: Int, largest: Int) in
      let shift = mask == 0 ? 0 : mask.trailingZeroBitCount
      return (mask, shift, mask >> shift)
    }
    var pixels = [UInt8](repeating: 0, count: header.width * header.height * channels)
    for row in 0..<header.height {
      let source = cursor.position + row * rowBytes
      let start = target(row, header) * header.width * channels
      for column in 0..<header.width {
        var value = 0
        for byte in 0..<width { value |= Int(bytes[source + column * width + byte]) << (8 * byte) }
        for channel in 0..<channels where fields[channel].largest > 0 {
          let field = fields[channel]
          let sample = (value & field.mask) >> field.shift
          pixels[start + column * channels + channel] =
            field.largest == 255 ? UInt8(sample) : UInt8((sample * 255 + field.largest / 2) / field.largest)
        }
      }
    }
    return Image(height: header.height, width: header.width, channels: channels, pixels: pixels)
  }
}
