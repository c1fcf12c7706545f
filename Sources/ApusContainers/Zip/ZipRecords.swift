// The records of zip archives as bytes: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, chapter 4.

/// What the records have in common.
enum Zip {
  static let localSignature = 0x0403_4B50
  static let descriptorSignature = 0x0807_4B50
  static let directorySignature = 0x0201_4B50
  static let endSignature = 0x0605_4B50
  static let largeEndSignature = 0x0606_4B50
  static let locatorSignature = 0x0706_4B50

  /// Bytes of the records without what varies.
  static let localBytes = 30
  static let directoryBytes = 46
  static let endBytes = 22
  static let largeEndBytes = 56
  static let locatorBytes = 20

  /// A number of two or four bytes of this value stands elsewhere, in eight bytes.
  static let saturated16 = 0xFFFF
  static let saturated32 = 0xFFFF_FFFF

  /// The extra field that holds numbers of eight bytes.
  static let largeExtra = 1
  /// The extra field that moves the bytes of an entry to a multiple of the number in it, as Android's zipalign writes.
  static let alignmentExtra = 0xD935

  /// Two bytes hold the length of a name.
  static let maximumNameBytes = 65535

  /// Bits of the flags.
  enum Flag {
    static let encrypted = 1
    static let descriptor = 1 << 3
    static let patch = 1 << 5
    static let strongEncryption = 1 << 6
    static let unicode = 1 << 11
    static let maskedHeaders = 1 << 13
  }

  static let storedMethod = 0
  static let deflateMethod = 8

  /// A number, lowest byte first.
  static func little(_ value: Int, _ width: Int) -> [UInt8] {
    (0..<width).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
  }
}

/// Some bytes of an archive, as numbers, lowest byte first.
struct ZipRecord {
  let bytes: [UInt8]

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  /// `count` bytes at `start`, which must lie before `end`.
  init(_ file: FileBytes, _ start: Int, _ count: Int, before end: Int) throws(LoadError) {
    guard start >= 0, count >= 0, start <= end, count <= end - start else {
      throw LoadError(.malformed, "the archive is cut off", byteOffset: max(0, start))
    }
    bytes = try file.withBytes(in: start..<(start + count)) { span in span.indices.map { span[$0] } }
  }

  var count: Int { bytes.count }

  /// `width` bytes, which must be there; numbers beyond `Int` are its greatest.
  func number(_ offset: Int, _ width: Int) -> Int {
    var value: UInt64 = 0
    for index in (0..<width).reversed() { value = value << 8 | UInt64(bytes[offset + index]) }
    return Int(clamping: value)
  }
}

/// What the headers of an entry say of it.
struct ZipHeader: Sendable {
  var name: [UInt8]
  var method = Zip.storedMethod
  var checksum: UInt32 = 0
  var compressedSize: Int
  var size: Int
  /// Where the local header begins.
  var offset: Int
  /// True if checksum and sizes stand behind the bytes.
  var hasDescriptor = false
  /// The bytes begin at a multiple of this.
  var alignment = 1

  private var isLarge: Bool { max(size, compressedSize) >= Zip.saturated32 }

  /// Version, flags (names are UTF-8), method, time and date (1980-01-01) as they stand in both headers.
  private func common(_ checksum: UInt32, _ compressedSize: Int, _ size: Int) -> [UInt8] {
    let flags = Zip.Flag.unicode | (hasDescriptor ? Zip.Flag.descriptor : 0)
    return Zip.little(45, 2) + Zip.little(flags, 2) + Zip.little(method, 2) + Zip.little(0, 2) + Zip.little(0x21, 2)
      + Zip.little(Int(checksum), 4) + Zip.little(min(compressedSize, Zip.saturated32), 4)
      + Zip.little(min(size, Zip.saturated32), 4)
  }

  /// The header before the bytes.
  var local: [UInt8] {
    var extra: [UInt8] = []
    let (shownCompressed, shown) = hasDescriptor ? (0, 0) : (compressedSize, size)
    if isLarge {
      extra += Zip.little(Zip.largeExtra, 2) + Zip.little(16, 2) + Zip.little(shown, 8)
      extra += Zip.little(shownCompressed, 8)
    }
    let end = offset + Zip.localBytes + name.count + extra.count
    if alignment > 1, end % alignment != 0 {
      // Identifier, length and alignment take six bytes.
      let padding = (alignment - (end + 6) % alignment) % alignment
      extra += Zip.little(Zip.alignmentExtra, 2) + Zip.little(2 + padding, 2) + Zip.little(alignment, 2)
      extra += [UInt8](repeating: 0, count: padding)
    }
    let (first, second) = isLarge ? (Zip.saturated32, Zip.saturated32) : (shownCompressed, shown)
    return Zip.little(Zip.localSignature, 4) + common(hasDescriptor ? 0 : checksum, first, second)
      + Zip.little(name.count, 2) + Zip.little(extra.count, 2) + name + extra
  }

  /// What stands behind the bytes. `isLarge`: whether the local header said that sizes take eight bytes.
  func descriptor(isLarge: Bool) -> [UInt8] {
    let width = isLarge ? 8 : 4
    return Zip.little(Zip.descriptorSignature, 4) + Zip.little(Int(checksum), 4) + Zip.little(compressedSize, width)
      + Zip.little(size, width)
  }

  /// The entry in the directory.
  var entry: [UInt8] {
    var large: [UInt8] = []
    if isLarge { large += Zip.little(size, 8) + Zip.little(compressedSize, 8) }
    if offset >= Zip.saturated32 { large += Zip.little(offset, 8) }
    let extra = large.isEmpty ? [] : Zip.little(Zip.largeExtra, 2) + Zip.little(large.count, 2) + large
    let (first, second) = isLarge ? (Zip.saturated32, Zip.saturated32) : (compressedSize, size)
    return Zip.little(Zip.directorySignature, 4) + Zip.little(45, 2) + common(checksum, first, second)
      + Zip.little(name.count, 2) + Zip.little(extra.count, 2) + Zip.little(0, 2) + Zip.little(0, 2) + Zip.little(0, 2)
      + Zip.little(0, 4) + Zip.little(min(offset, Zip.saturated32), 4) + name + extra
  }

  /// What stands behind a directory of `count` entries that takes `size` bytes from `start` on.
  static func end(count: Int, start: Int, size: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    if start >= Zip.saturated32 || size >= Zip.saturated32 || count >= Zip.saturated16 {
      bytes += Zip.little(Zip.largeEndSignature, 4) + Zip.little(44, 8) + Zip.little(45, 2) + Zip.little(45, 2)
      bytes += Zip.little(0, 4) + Zip.little(0, 4)
      bytes += Zip.little(count, 8) + Zip.little(count, 8) + Zip.little(size, 8) + Zip.little(start, 8)
      bytes += Zip.little(Zip.locatorSignature, 4) + Zip.little(0, 4) + Zip.little(start + size, 8) + Zip.little(1, 4)
    }
    let shown = min(count, Zip.saturated16)
    return bytes + Zip.little(Zip.endSignature, 4) + Zip.little(0, 2) + Zip.little(0, 2) + Zip.little(shown, 2)
      + Zip.little(shown, 2) + Zip.little(min(size, Zip.saturated32), 4) + Zip.little(min(start, Zip.saturated32), 4)
      + Zip.little(0, 2)
  }
}
