// Zip archives, read: stored and deflated entries, zip64, data descriptors, comments. Nothing is unpacked to a disk.
// https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT

/// What an archive may be. Whatever the rules say, its directory and the headers of its entries must agree, entries may
/// neither overlap nor be encrypted nor have the same name, and they may decompress to no more than
/// `LoadLimits.maximumDecodedBytes` in all.
package struct ZipRules: Sendable {
  package var maximumEntries = 65_536
  /// An entry of more than `alwaysAllowed` bytes may be so many times as large as its compressed bytes.
  package var maximumRatio = 200
  /// True if names are paths below the archive: not absolute, no `..`, no links.
  package var namesArePaths = true

  package static let alwaysAllowed = 1 << 20

  package init() {}

  /// Archives of a model's files.
  package static let files = ZipRules()
  /// Archives of arrays: names are those of values, and zeros compress well (by deflate at most 1032 times).
  package static let arrays = {
    var rules = ZipRules()
    (rules.maximumRatio, rules.namesArePaths) = (1040, false)
    return rules
  }()
}

/// An archive whose directory was read and checked.
package struct ZipArchive: Sendable {
  /// One file in the archive.
  package struct Entry: Sendable {
    package let name: String
    /// The bytes as they lie in the archive.
    package let range: Range<Int>
    /// Bytes after decompression.
    package let byteCount: Int
    package let isDeflated: Bool
    /// CRC-32 of the bytes after decompression.
    package let checksum: UInt32

    /// True for entries that stand for a folder and have no bytes.
    package var isFolder: Bool { name.utf8.last == UInt8(ascii: "/") }

    /// The largest power of two that the place of the bytes is a multiple of.
    package var alignment: Int { range.lowerBound == 0 ? 1 << 62 : 1 << range.lowerBound.trailingZeroBitCount }
  }

  package let file: FileBytes
  /// In the order of the directory.
  package let entries: [Entry]
  private let indexes: [String: Int]

  /// Reads the directory of `file`, and the headers of all entries.
  ///
  /// Throws `wrongFormat` for what is no zip archive, `malformed` for one that contradicts itself, `unsupported` for
  /// one that breaks a rule or needs more than deflate, `limitExceeded`.
  package init(
    _ file: FileBytes, rules: ZipRules = .files, limits: LoadLimits = LoadLimits()
  ) throws(LoadError) {
    do throws(LoadError) {
      let entries = try ZipDirectory(file, rules: rules, limits: limits).entries()
      var indexes: [String: Int] = [:]
      for (index, entry) in entries.enumerated() {
        guard indexes.updateValue(index, forKey: entry.name) == nil else {
          throw LoadError(.malformed, "the archive has two entries of the name '\(entry.name)'")
        }
      }
      (self.file, self.entries, self.indexes) = (file, entries, indexes)
    } catch {
      throw error.inFile(file.name)
    }
  }

  /// True if `bytes` begin as archives do that hold something, or nothing.
  package static func isZip(_ bytes: Span<UInt8>) -> Bool {
    bytes.count >= 4 && (bytes[0], bytes[1]) == (UInt8(ascii: "P"), UInt8(ascii: "K"))
      && ((bytes[2], bytes[3]) == (3, 4) || (bytes[2], bytes[3]) == (5, 6))
  }

  /// The entry of that name.
  package subscript(name: String) -> Entry? { indexes[name].map { entries[$0] } }

  /// The entry of that name; an error that lists some of the others if there is none.
  package func entry(_ name: String) throws(LoadError) -> Entry {
    if let entry = self[name] { return entry }
    let some = entries.prefix(8).map { "'\($0.name)'" }.joined(separator: ", ")
    throw LoadError(
      .malformed, "the archive has no entry '\(name)'; it has \(some)\(entries.count > 8 ? ", …" : "")"
    ).inFile(file.name)
  }

  // MARK: - Bytes

  /// Bytes of the archive that are read at a time.
  private static let pieceBytes = 1 << 18

  /// Where the bytes of an entry lie: for a stored one in the file itself, for a deflated one in memory of their own.
  /// `checks`: whether the checksum of a stored one is compared, which reads it all.
  package func contents(
    of entry: Entry, checks: Bool = true
  ) throws(LoadError) -> (bytes: FileBytes, range: Range<Int>) {
    if !entry.isDeflated {
      if checks { try check(entry) }
      return (file, entry.range)
    }
    do throws(LoadError) {
      let bytes = try file.derived(byteCount: entry.byteCount) { (output) throws(LoadError) in
        try inflate(entry, to: &output)
      }
      var checksum = CRC32()
      bytes.withBytes { checksum.update($0) }
      try compare(checksum, entry)
      return (bytes, 0..<entry.byteCount)
    } catch {
      throw error.under("entry '\(entry.name)'").inFile(file.name)
    }
  }

  /// Compares the checksum of an entry. What is still in the file is read piece by piece.
  package func check(_ entry: Entry) throws(LoadError) { try forEachPart(of: entry) { _ in } }

  /// Calls `body` with the bytes of an entry, a part at a time, and compares the checksum at the end.
  package func forEachPart(
    of entry: Entry, _ body: (Span<UInt8>) throws(LoadError) -> Void
  ) throws(LoadError) {
    do throws(LoadError) {
      var checksum = CRC32()
      if entry.isDeflated {
        try inflateParts(entry) { (part) throws(LoadError) in
          checksum.update(part)
          try body(part)
        }
      } else {
        for piece in pieces(of: entry) {
          try file.withBytes(in: piece) { (part) throws(LoadError) in
            checksum.update(part)
            try body(part)
          }
        }
      }
      try compare(checksum, entry)
    } catch {
      throw error.under("entry '\(entry.name)'").inFile(file.name)
    }
  }

  /// The first bytes of an entry, at most `count`. Nothing says that they are those that were packed.
  package func head(of entry: Entry, count: Int) throws(LoadError) -> [UInt8] {
    let expected = min(count, entry.byteCount)
    do throws(LoadError) {
      return try [UInt8](capacity: expected) { (output: inout OutputSpan<UInt8>) throws(LoadError) in
        var inflater = try Inflater()
        for piece in pieces(of: entry) where !output.isFull {
          try file.withBytes(in: piece) { (bytes) throws(LoadError) in
            if entry.isDeflated {
              var position = 0
              _ = try inflater.decompress(bytes, from: &position, to: &output)
            } else {
              for index in 0..<min(bytes.count, output.freeCapacity) { output.append(bytes[index]) }
            }
          }
        }
      }
    } catch {
      throw error.under("entry '\(entry.name)'").inFile(file.name)
    }
  }

  private func pieces(of entry: Entry) -> [Range<Int>] {
    stride(from: entry.range.lowerBound, to: entry.range.upperBound, by: Self.pieceBytes).map {
      $0..<min($0 + Self.pieceBytes, entry.range.upperBound)
    }
  }

  private func compare(_ checksum: CRC32, _ entry: Entry) throws(LoadError) {
    if checksum.value != entry.checksum {
      throw LoadError(
        .malformed, "the checksum is wrong", remedy: "The file is damaged", byteOffset: entry.range.lowerBound)
    }
  }

  // MARK: - Decompression

  /// Fills `output`, which has room for exactly the bytes of the entry.
  private func inflate(_ entry: Entry, to output: inout OutputSpan<UInt8>) throws(LoadError) {
    var inflater = try Inflater()
    var hasEnded = false
    for piece in pieces(of: entry) {
      try file.withBytes(in: piece) { (bytes) throws(LoadError) in
        var position = 0
        if hasEnded { throw entry.leftOver(at: piece.lowerBound) }
        var progress = try inflater.decompress(bytes, from: &position, to: &output)
        if progress == .needsRoom { progress = try Self.end(&inflater, bytes, &position, entry) }
        hasEnded = progress == .ended
        if hasEnded, position < bytes.count { throw entry.leftOver(at: piece.lowerBound + position) }
      }
    }
    guard hasEnded, output.isFull else { throw entry.wrongSize(found: output.count) }
  }

  /// Goes on where all bytes are there: to the end of the stream, but to no more bytes.
  private static func end(
    _ inflater: inout Inflater, _ bytes: Span<UInt8>, _ position: inout Int, _ entry: Entry
  ) throws(LoadError) -> Inflater.Progress {
    var progress = Inflater.Progress.needsInput
    let surplus = try [UInt8](capacity: 1) { (room: inout OutputSpan<UInt8>) throws(LoadError) in
      progress = try inflater.decompress(bytes, from: &position, to: &room)
    }
    if !surplus.isEmpty { throw entry.wrongSize(found: entry.byteCount + 1) }
    return progress
  }

  /// Calls `body` with the decompressed bytes, a part at a time.
  private func inflateParts(
    _ entry: Entry, _ body: (Span<UInt8>) throws(LoadError) -> Void
  ) throws(LoadError) {
    var inflater = try Inflater()
    var hasEnded = false
    var count = 0
    for piece in pieces(of: entry) {
      try file.withBytes(in: piece) { (bytes) throws(LoadError) in
        var position = 0
        if hasEnded { throw entry.leftOver(at: piece.lowerBound) }
        var progress = Inflater.Progress.needsRoom
        while progress == .needsRoom {
          let part = try [UInt8](capacity: Self.pieceBytes) { (room: inout OutputSpan<UInt8>) throws(LoadError) in
            progress = try inflater.decompress(bytes, from: &position, to: &room)
          }
          count += part.count
          if count > entry.byteCount { throw entry.wrongSize(found: count) }
          try body(part.span)
        }
        hasEnded = progress == .ended
        if hasEnded, position < bytes.count { throw entry.leftOver(at: piece.lowerBound + position) }
      }
    }
    guard hasEnded, count == entry.byteCount else { throw entry.wrongSize(found: count) }
  }
}

extension ZipArchive.Entry {
  fileprivate func wrongSize(found: Int) -> LoadError {
    LoadError(
      .malformed,
      found > byteCount
        ? "\(byteCount) bytes were expected; more come out" : "\(byteCount) bytes were expected; \(found) come out",
      byteOffset: range.lowerBound)
  }

  fileprivate func leftOver(at offset: Int) -> LoadError {
    LoadError(.malformed, "bytes follow the end of the compressed data", byteOffset: offset)
  }
}
