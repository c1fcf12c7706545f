// The directory of a zip archive and the headers of its entries, which must say the same.

/// Reads and checks what an archive says of its entries.
struct ZipDirectory {
  private let file: FileBytes
  private let rules: ZipRules
  private let limits: LoadLimits

  init(_ file: FileBytes, rules: ZipRules, limits: LoadLimits) {
    (self.file, self.rules, self.limits) = (file, rules, limits)
  }

  /// The bytes of the directory, and how many entries it lists.
  private struct Place {
    var range: Range<Int>
    var count: Int
  }

  func entries() throws(LoadError) -> [ZipArchive.Entry] {
    let place = try self.place()
    let directory = try ZipRecord(file, place.range.lowerBound, place.range.count, before: place.range.upperBound)
    var entries: [ZipArchive.Entry] = []
    var extents: [Range<Int>] = []
    var position = 0
    var decodedBytes = 0
    for _ in 0..<place.count {
      let listed = try listed(directory, &position, at: place.range.lowerBound)
      let (entry, extent) = try entry(listed, before: place.range.lowerBound)
      entries.append(entry)
      extents.append(extent)
      guard entry.isDeflated else { continue }
      decodedBytes += min(entry.byteCount, .max - decodedBytes)
      if decodedBytes > limits.maximumDecodedBytes {
        throw .limit(
          "maximumDecodedBytes", limits.maximumDecodedBytes, found: "the archive decompresses to \(decodedBytes) bytes")
      }
    }
    guard position == directory.count else {
      throw LoadError(
        .malformed, "the directory of the archive lists more than the \(place.count) entries that it announces",
        byteOffset: place.range.lowerBound + position)
    }
    // Entries that share bytes would make a small archive cost much time, and say two things of the same bytes.
    extents.sort { ($0.lowerBound, $0.upperBound) < ($1.lowerBound, $1.upperBound) }
    for (first, second) in zip(extents, extents.dropFirst()) where first.upperBound > second.lowerBound {
      throw LoadError(.malformed, "entries of the archive overlap", byteOffset: second.lowerBound)
    }
    return entries
  }

  // MARK: - The end of the archive

  private func place() throws(LoadError) -> Place {
    // The end record is followed by a comment of at most 65535 bytes, which ends with the file.
    let first = max(0, file.count - Zip.endBytes - 65535)
    let tail = try ZipRecord(file, first, file.count - first, before: file.count)
    var end = tail.count - Zip.endBytes
    var hasRecord = false
    while end >= 0 {
      if tail.bytes[end] == UInt8(ascii: "P"), tail.number(end, 4) == Zip.endSignature {
        hasRecord = true
        if end + Zip.endBytes + tail.number(end + 20, 2) == tail.count { break }
      }
      end -= 1
    }
    guard end >= 0 else {
      throw hasRecord
        ? LoadError(.malformed, "bytes follow the end of the archive, or are missing there", byteOffset: file.count)
        : LoadError(.wrongFormat, "a zip archive was expected; there is no zip directory")
    }
    let record = ZipRecord(Array(tail.bytes[end..<end + Zip.endBytes]))
    var numbers = [(4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4)].map { record.number($0.0, $0.1) }
    var stop = first + end
    if let (large, start) = try largeEnd(before: stop) {
      for (index, number) in large.enumerated() {
        guard numbers[index] == number || numbers[index] == (index < 4 ? Zip.saturated16 : Zip.saturated32) else {
          throw LoadError(.malformed, "the end of the archive has two opinions of its directory", byteOffset: stop)
        }
      }
      (numbers, stop) = (large, start)
    }
    return try place(numbers, before: stop)
  }

  /// The same numbers in the record for large archives, and where it begins; nil if there is none before `end`.
  private func largeEnd(before end: Int) throws(LoadError) -> (numbers: [Int], start: Int)? {
    guard end >= Zip.locatorBytes else { return nil }
    let locator = try ZipRecord(file, end - Zip.locatorBytes, Zip.locatorBytes, before: end)
    guard locator.number(0, 4) == Zip.locatorSignature else { return nil }
    let start = locator.number(8, 8)
    let record = try ZipRecord(file, start, Zip.largeEndBytes, before: end - Zip.locatorBytes)
    let (length, overflow) = start.addingReportingOverflow(record.number(4, 8))
    guard record.number(0, 4) == Zip.largeEndSignature, !overflow, length == end - Zip.locatorBytes - 12 else {
      throw LoadError(.malformed, "the end of the archive is damaged", byteOffset: end - Zip.locatorBytes)
    }
    return ([(16, 4), (20, 4), (24, 8), (32, 8), (40, 8), (48, 8)].map { record.number($0.0, $0.1) }, start)
  }

  /// `numbers`: this disk, that of the directory, entries on this disk, entries, size and start of the directory.
  private func place(_ numbers: [Int], before end: Int) throws(LoadError) -> Place {
    guard numbers[0] == 0, numbers[1] == 0, numbers[2] == numbers[3] else {
      throw LoadError(.unsupported, "the archive is one part of several", remedy: "Join the parts first")
    }
    let (count, size, start) = (numbers[3], numbers[4], numbers[5])
    guard size <= end, start == end - size, count <= size / Zip.directoryBytes else {
      throw LoadError(
        .malformed,
        "the directory of the archive, \(count) entries in \(size) bytes at \(start), does not end where it should, at "
          + "byte \(end)", byteOffset: end)
    }
    if count > rules.maximumEntries {
      throw LoadError(.limitExceeded, "the archive has \(count) entries; at most \(rules.maximumEntries) are read")
    }
    return Place(range: start..<end, count: count)
  }

  // MARK: - Entries

  /// What a header says.
  private struct Header {
    var flags: Int
    var method: Int
    var checksum: UInt32
    var compressedSize: Int
    var size: Int
    var offset = 0
    var disk = 0
    var name: [UInt8] = []
    var text = ""

    var hasDescriptor: Bool { flags & Zip.Flag.descriptor != 0 }

    /// Flags, method, checksum and sizes lie in both kinds of header in the same order.
    init(_ record: ZipRecord, at start: Int) {
      (flags, method) = (record.number(start, 2), record.number(start + 2, 2))
      checksum = UInt32(truncatingIfNeeded: record.number(start + 8, 4))
      (compressedSize, size) = (record.number(start + 12, 4), record.number(start + 16, 4))
    }

    /// Puts numbers of eight bytes in the place of those that did not fit; throws if one is missing.
    mutating func readLargeNumbers(_ extra: ArraySlice<UInt8>, at offset: Int) throws(LoadError) {
      let record = ZipRecord(Array(extra))
      var large: Range<Int>?
      var position = 0
      while position + 4 <= record.count {
        let end = position + 4 + record.number(position + 2, 2)
        guard end <= record.count else {
          throw LoadError(.malformed, "an extra field of the entry '\(text)' is cut off", byteOffset: offset)
        }
        if record.number(position, 2) == Zip.largeExtra, large == nil { large = position + 4..<end }
        position = end
      }
      var next = large?.lowerBound ?? 0
      let end = large?.upperBound ?? 0
      var isMissing = false
      func number(_ current: Int, _ width: Int = 8) -> Int {
        guard current == (width == 8 ? Zip.saturated32 : Zip.saturated16) else { return current }
        guard next + width <= end else {
          isMissing = true
          return current
        }
        next += width
        return record.number(next - width, width)
      }
      size = number(size)
      compressedSize = number(compressedSize)
      self.offset = number(self.offset)
      disk = number(disk, 4)
      if isMissing { throw LoadError(.malformed, "a size of the entry '\(text)' is missing", byteOffset: offset) }
    }
  }

  /// The entry at `position` of the directory, which moves on.
  private func listed(
    _ directory: ZipRecord, _ position: inout Int, at base: Int
  ) throws(LoadError) -> Header {
    let start = position
    guard start + Zip.directoryBytes <= directory.count, directory.number(start, 4) == Zip.directorySignature else {
      throw LoadError(.malformed, "the directory of the archive is damaged", byteOffset: base + start)
    }
    let nameEnd = start + Zip.directoryBytes + directory.number(start + 28, 2)
    let extraEnd = nameEnd + directory.number(start + 30, 2)
    position = extraEnd + directory.number(start + 32, 2)
    guard position <= directory.count else {
      throw LoadError(.malformed, "the directory of the archive is cut off", byteOffset: base + start)
    }
    var header = Header(directory, at: start + 8)
    (header.disk, header.offset) = (directory.number(start + 34, 2), directory.number(start + 42, 4))
    header.name = Array(directory.bytes[start + Zip.directoryBytes..<nameEnd])
    guard let text = String(validating: header.name, as: UTF8.self) else {
      throw LoadError(.malformed, "the name of an entry is no valid UTF-8", byteOffset: base + start)
    }
    header.text = text
    try header.readLargeNumbers(directory.bytes[nameEnd..<extraEnd], at: base + start)
    try check(header, mode: directory.number(start + 38, 4) >> 16)
    return header
  }

  /// Refuses what nobody should read. `mode`: kind and permissions of the file, as Unix has them; 0 if not known.
  private func check(_ header: Header, mode: Int) throws(LoadError) {
    let name = header.text
    if header.flags & (Zip.Flag.encrypted | Zip.Flag.strongEncryption | Zip.Flag.maskedHeaders) != 0 {
      throw LoadError(.unsupported, "the entry '\(name)' is encrypted", remedy: "Unpack the archive with its password")
    }
    guard header.method == Zip.storedMethod || header.method == Zip.deflateMethod,
      header.flags & Zip.Flag.patch == 0
    else {
      throw LoadError(
        .unsupported,
        "the entry '\(name)' is compressed by method \(header.method) of zip; deflate (8) and none (0) are read",
        remedy: "Pack the archive anew")
    }
    if header.disk != 0 { throw LoadError(.unsupported, "the archive is one part of several") }
    if header.method == Zip.storedMethod, header.size != header.compressedSize {
      throw LoadError(.malformed, "the stored entry '\(name)' has two sizes", byteOffset: header.offset)
    }
    // Kinds of files: 0 not known, 4 folder, 8 regular file, 10 symbolic link.
    guard [0, 4, 8].contains(mode >> 12) else {
      let kind = mode >> 12 == 10 ? "a symbolic link" : "no regular file"
      throw LoadError(.unsupported, "the entry '\(name)' is \(kind)", remedy: "Pack the file that it stands for")
    }
    if header.method == Zip.deflateMethod, header.size > ZipRules.alwaysAllowed,
      header.size / rules.maximumRatio > header.compressedSize
    {
      throw LoadError(
        .limitExceeded,
        "the entry '\(name)' becomes \(header.size) bytes from \(header.compressedSize); at most "
          + "\(rules.maximumRatio) times as many are read")
    }
    if rules.namesArePaths { try checkPath(header) }
  }

  private func checkPath(_ header: Header) throws(LoadError) {
    let name = header.text
    let parts = name.split(omittingEmptySubsequences: false) { $0 == "/" || $0 == "\\" }
    let folders = parts.last == "" ? parts.dropLast() : parts[...]
    let isDrive = name.utf8.count >= 2 && name.utf8.dropFirst().first == UInt8(ascii: ":")
    guard !folders.isEmpty, !isDrive, !folders.contains(where: { ["", ".", ".."].contains($0) }),
      !name.utf8.contains(0)
    else {
      throw LoadError(.unsupported, "the entry '\(name)' has a name that is no path below the archive")
    }
    if parts.last == "", header.size != 0 {
      throw LoadError(.malformed, "the entry '\(name)' is a folder and has \(header.size) bytes")
    }
  }

  /// An entry whose own header says what the directory says, and all the bytes that belong to it.
  private func entry(
    _ listed: Header, before end: Int
  ) throws(LoadError) -> (ZipArchive.Entry, extent: Range<Int>) {
    let name = listed.text
    let start = listed.offset
    let record = try ZipRecord(file, start, Zip.localBytes, before: end)
    guard record.number(0, 4) == Zip.localSignature else {
      throw LoadError(
        .malformed, "the entry '\(name)' of the archive is not where the directory says", byteOffset: start)
    }
    var header = Header(record, at: 6)
    let nameCount = record.number(26, 2)
    let rest = try ZipRecord(file, start + Zip.localBytes, nameCount + record.number(28, 2), before: end)
    header.text = name
    try header.readLargeNumbers(rest.bytes[nameCount...], at: start)
    let isSame =
      (header.checksum, header.compressedSize, header.size) == (listed.checksum, listed.compressedSize, listed.size)
    let isLeftOut = header.hasDescriptor && header.checksum == 0 && header.compressedSize == 0 && header.size == 0
    guard rest.bytes[..<nameCount].elementsEqual(listed.name), header.method == listed.method,
      header.flags & ~Zip.Flag.unicode == listed.flags & ~Zip.Flag.unicode, isSame || isLeftOut
    else {
      throw LoadError(
        .malformed, "the directory and the header of the entry '\(name)' differ", byteOffset: start)
    }
    let data = start + Zip.localBytes + rest.count
    guard listed.compressedSize <= end - data else {
      throw LoadError(.malformed, "the bytes of the entry '\(name)' are cut off", byteOffset: data)
    }
    let range = data..<data + listed.compressedSize
    let extent = start..<range.upperBound + (header.hasDescriptor ? try descriptorBytes(listed, range, end) : 0)
    let entry = ZipArchive.Entry(
      name: name, range: range, byteCount: listed.size, isDeflated: listed.method == Zip.deflateMethod,
      checksum: listed.checksum)
    return (entry, extent)
  }

  /// How many bytes the descriptor behind an entry takes: checksum and sizes, of four or eight bytes, with or without a
  /// signature.
  private func descriptorBytes(_ listed: Header, _ range: Range<Int>, _ end: Int) throws(LoadError) -> Int {
    let record = try ZipRecord(file, range.upperBound, min(24, end - range.upperBound), before: end)
    for signature in [4, 0] {
      for width in [4, 8] where signature + 4 + 2 * width <= record.count {
        if signature > 0, record.number(0, 4) != Zip.descriptorSignature { continue }
        if record.number(signature, 4) == Int(listed.checksum),
          record.number(signature + 4, width) == listed.compressedSize,
          record.number(signature + 4 + width, width) == listed.size
        {
          return signature + 4 + 2 * width
        }
      }
    }
    throw LoadError(
      .malformed, "the directory and what stands behind the entry '\(listed.text)' differ",
      byteOffset: range.upperBound)
  }
}
