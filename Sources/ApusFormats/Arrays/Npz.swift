// NumPy's .npz files: zip archives of .npy files. https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
// Reads stored and deflated members, also of archives beyond 4 GB; writes stored ones.

import ApusTensor

/// Reads and writes .npz files.
package enum Npz {
  /// One member of an archive.
  struct Member: Sendable {
    var name: String
    var method: Int
    var checksum: UInt32
    var compressedSize: Int
    var size: Int
    var headerOffset: Int
  }

  /// The names of the arrays in `file`, without `.npy`.
  package static func names(_ file: FileBytes) throws(LoadError) -> [String] {
    do throws(LoadError) {
      return try members(file).map { arrayName($0.name) }
    } catch {
      throw error.inFile(file.name)
    }
  }

  /// The arrays in `file` by name, in the order of the archive. `declared` gives types for what NumPy stores as bytes.
  package static func decode(
    _ file: FileBytes, as declared: [String: DataType] = [:], limits: LoadLimits = LoadLimits()
  ) throws(LoadError) -> [(name: String, tensor: Tensor)] {
    do throws(LoadError) {
      var arrays: [(name: String, tensor: Tensor)] = []
      var decodedBytes = 0
      for member in try members(file) {
        let name = arrayName(member.name)
        do throws(LoadError) {
          arrays.append((name, try decode(member, file, as: declared[name], &decodedBytes, limits)))
        } catch {
          throw error.under("array '\(name)'")
        }
      }
      return arrays
    } catch {
      throw error.inFile(file.name)
    }
  }

  static func arrayName(_ member: String) -> String {
    member.hasSuffix(".npy") ? String(member.dropLast(4)) : member
  }

  private static func decode(
    _ member: Member, _ file: FileBytes, as declared: DataType?, _ decodedBytes: inout Int, _ limits: LoadLimits
  ) throws(LoadError) -> Tensor {
    if try isStored(member) {
      try checkStored(member, file)
      return try Npy.decode(file, in: contents(member, file), as: declared, limits: limits)
    }
    let content = try inflated(member, file, &decodedBytes, limits)
    return try Npy.decode(content, in: 0..<content.count, as: declared, limits: limits)
  }

  /// Whether a member lies in the archive as it is; throws for methods other than deflate.
  static func isStored(_ member: Member) throws(LoadError) -> Bool {
    switch member.method {
    case 0:
      guard member.size == member.compressedSize else {
        throw LoadError(.malformed, "a stored member with two sizes", byteOffset: member.headerOffset)
      }
      return true
    case 8: return false
    default:
      throw LoadError(.unsupported, "compression method \(member.method) of zip is not supported; deflate and none are")
    }
  }

  /// Throws if the checksum of a stored member is wrong. What is still in the file is read piece by piece.
  static func checkStored(_ member: Member, _ file: FileBytes) throws(LoadError) {
    let range = try contents(member, file)
    let piece = 1 << 20
    var checksum = CRC32()
    for start in stride(from: range.lowerBound, to: range.upperBound, by: piece) {
      let part = try file.part(start..<min(start + piece, range.upperBound))
      part.withBytes { bytes in checksum.update(bytes, 0..<bytes.count) }
    }
    try check(checksum.value, member)
  }

  /// What a deflated member decompresses to. `decodedBytes` counts what all members have come to.
  static func inflated(
    _ member: Member, _ file: FileBytes, _ decodedBytes: inout Int, _ limits: LoadLimits
  ) throws(LoadError) -> FileBytes {
    let (total, overflow) = decodedBytes.addingReportingOverflow(member.size)
    if overflow || total > limits.maximumDecodedBytes / 2 {
      throw .limit(
        "maximumDecodedBytes", limits.maximumDecodedBytes,
        found: "the archive holds more than half as many bytes when decompressed")
    }
    decodedBytes = total
    let content = try file.part(contents(member, file)).withBytes { (bytes: Span<UInt8>) throws(LoadError) in
      try Inflate.decompress(bytes, 0..<bytes.count, size: member.size)
    }
    var checksum = CRC32()
    checksum.update(content.span, 0..<content.count)
    try check(checksum.value, member)
    return try FileBytes(copying: content, name: file.name)
  }

  private static func check(_ checksum: UInt32, _ member: Member) throws(LoadError) {
    if checksum != member.checksum {
      throw LoadError(
        .malformed, "the checksum is wrong", remedy: "The file is damaged", byteOffset: member.headerOffset)
    }
  }

  // MARK: The archive

  /// Some bytes of an archive, as numbers, lowest byte first.
  private struct Record {
    let bytes: [UInt8]

    /// `count` bytes at `start`.
    init(_ file: FileBytes, _ start: Int, _ count: Int) throws(LoadError) {
      guard start >= 0, count >= 0, start <= file.count, count <= file.count - start else {
        throw LoadError(.malformed, "the archive is cut off", byteOffset: max(0, start))
      }
      bytes = try file.part(start..<(start + count)).withBytes { span in span.indices.map { span[$0] } }
    }

    func number(_ offset: Int, _ width: Int) -> Int {
      var value: UInt64 = 0
      for index in (0..<width).reversed() { value = value << 8 | UInt64(bytes[offset + index]) }
      return Int(clamping: value)
    }
  }

  static func members(_ file: FileBytes) throws(LoadError) -> [Member] {
    let (start, count) = try directory(file)
    var members: [Member] = []
    var position = start
    var storedBytes = 0
    for _ in 0..<count {
      let (member, next) = try self.member(file, position)
      members.append(member)
      position = next
      // Members that share bytes would make a small archive cost much time.
      let (total, overflow) = storedBytes.addingReportingOverflow(member.compressedSize)
      if overflow || total > file.count { throw LoadError(.malformed, "the members of the archive overlap") }
      storedBytes = total
    }
    return members
  }

  /// Where the central directory begins and how many members it lists.
  private static func directory(_ file: FileBytes) throws(LoadError) -> (start: Int, count: Int) {
    // The end record has 22 bytes and a comment of at most 65535.
    let first = max(0, file.count - 22 - 65535)
    let tail = try Record(file, first, file.count - first)
    var end = tail.bytes.count - 22
    while end >= 0 {
      if tail.number(end, 4) == 0x0605_4B50 {
        let (count, start) = (tail.number(end + 10, 2), tail.number(end + 16, 4))
        guard count == 0xFFFF || start == 0xFFFF_FFFF else { return (start, count) }
        let locator = try Record(file, first + end - 20, 20)
        guard locator.number(0, 4) == 0x0706_4B50 else { return (start, count) }
        let large = try Record(file, locator.number(8, 8), 56)
        guard large.number(0, 4) == 0x0606_4B50 else { break }
        return (large.number(48, 8), large.number(32, 8))
      }
      end -= 1
    }
    throw LoadError(.wrongFormat, "a .npz archive was expected; there is no zip directory")
  }

  /// The member at `position` of the directory, and where the next one begins.
  private static func member(_ file: FileBytes, _ position: Int) throws(LoadError) -> (Member, next: Int) {
    let fixed = try Record(file, position, 46)
    guard fixed.number(0, 4) == 0x0201_4B50 else {
      throw LoadError(.malformed, "the directory of the archive is damaged", byteOffset: position)
    }
    if fixed.number(8, 2) & 1 == 1 { throw LoadError(.unsupported, "encrypted archives are not read") }
    let (nameLength, extraLength, commentLength) = (fixed.number(28, 2), fixed.number(30, 2), fixed.number(32, 2))
    guard let text = String(validating: try Record(file, position + 46, nameLength).bytes, as: UTF8.self) else {
      throw LoadError(.malformed, "the name of a member is no valid UTF-8", byteOffset: position)
    }
    var member = Member(
      name: text, method: fixed.number(10, 2), checksum: UInt32(fixed.number(16, 4)),
      compressedSize: fixed.number(20, 4), size: fixed.number(24, 4), headerOffset: fixed.number(42, 4))
    readLargeSizes(try Record(file, position + 46 + nameLength, extraLength), &member)
    return (member, position + 46 + nameLength + extraLength + commentLength)
  }

  /// Sizes of 4 GB and more stand in an extra field, in this order, as far as they did not fit.
  private static func readLargeSizes(_ extra: Record, _ member: inout Member) {
    var position = 0
    let end = extra.bytes.count
    while position + 4 <= end {
      let size = extra.number(position + 2, 2)
      if extra.number(position, 2) == 1 {
        let body = position + 4
        let available = min(size, end - body)
        var offset = 0
        func next(_ current: Int) -> Int {
          guard current == 0xFFFF_FFFF, offset + 8 <= available else { return current }
          offset += 8
          return extra.number(body + offset - 8, 8)
        }
        member.size = next(member.size)
        member.compressedSize = next(member.compressedSize)
        member.headerOffset = next(member.headerOffset)
      }
      position += 4 + size
    }
  }

  /// The bytes of a member, as they lie in the archive.
  static func contents(_ member: Member, _ file: FileBytes) throws(LoadError) -> Range<Int> {
    let header = try Record(file, member.headerOffset, 30)
    guard header.number(0, 4) == 0x0403_4B50 else {
      throw LoadError(
        .malformed, "a member of the archive is not where the directory says", byteOffset: member.headerOffset)
    }
    let start = member.headerOffset + 30 + header.number(26, 2) + header.number(28, 2)
    guard start <= file.count, member.compressedSize <= file.count - start else {
      throw LoadError(.malformed, "the archive is cut off", byteOffset: start)
    }
    return start..<(start + member.compressedSize)
  }

  // MARK: Writing

  /// Writes an archive of stored members to the file at `path`.
  package static func write(
    _ arrays: [(name: String, tensor: Tensor)], to path: String, limits: LoadLimits = LoadLimits()
  ) throws(LoadError) {
    var output = try OutputFile(path: path)
    var directory: [UInt8] = []
    for (name, tensor) in arrays {
      let content: Npy.Content
      do throws(LoadError) { content = try Npy.Content(tensor, limits: limits) } catch {
        throw error.under("array '\(name)'").inFile(path)
      }
      var checksum = CRC32()
      content.forEachPart { part in checksum.update(part, part.indices) }
      let offset = output.count
      let nameBytes = Array((name + ".npy").utf8)
      guard nameBytes.count <= maximumNameBytes else {
        throw LoadError(
          .cannotWrite, "the name of an array has \(nameBytes.count) bytes; zip holds \(maximumNameBytes)"
        ).inFile(path)
      }
      try output.write(localHeader(nameBytes, checksum.value, size: content.byteCount))
      try content.forEachPart { (part: borrowing Span<UInt8>) throws(LoadError) in try output.write(part) }
      directory += directoryEntry(nameBytes, checksum.value, size: content.byteCount, offset: offset)
    }
    let start = output.count
    try output.write(directory)
    try output.write(endRecords(count: arrays.count, start: start, size: directory.count))
    try output.commit()
  }

  /// Two bytes hold the length of a name.
  static let maximumNameBytes = 65535

  private static func little(_ value: Int, _ width: Int) -> [UInt8] {
    (0..<width).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
  }

  /// Version, flags (names are UTF-8), method, time and date (1980-01-01) as they stand in both headers.
  private static func common(_ checksum: UInt32, size: Int) -> [UInt8] {
    let shown = min(size, 0xFFFF_FFFF)
    return little(45, 2) + little(0x0800, 2) + little(0, 2) + little(0, 2) + little(0x21, 2) + little(Int(checksum), 4)
      + little(shown, 4) + little(shown, 4)
  }

  static func localHeader(_ name: [UInt8], _ checksum: UInt32, size: Int) -> [UInt8] {
    let extra = size >= 0xFFFF_FFFF ? little(1, 2) + little(16, 2) + little(size, 8) + little(size, 8) : []
    return little(0x0403_4B50, 4) + common(checksum, size: size) + little(name.count, 2) + little(extra.count, 2)
      + name + extra
  }

  static func directoryEntry(_ name: [UInt8], _ checksum: UInt32, size: Int, offset: Int) -> [UInt8] {
    var large: [UInt8] = []
    if size >= 0xFFFF_FFFF { large += little(size, 8) + little(size, 8) }
    if offset >= 0xFFFF_FFFF { large += little(offset, 8) }
    let extra = large.isEmpty ? [] : little(1, 2) + little(large.count, 2) + large
    return little(0x0201_4B50, 4) + little(45, 2) + common(checksum, size: size) + little(name.count, 2)
      + little(extra.count, 2) + little(0, 2) + little(0, 2) + little(0, 2) + little(0, 4)
      + little(min(offset, 0xFFFF_FFFF), 4) + name + extra
  }

  static func endRecords(count: Int, start: Int, size: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    if start >= 0xFFFF_FFFF || size >= 0xFFFF_FFFF || count >= 0xFFFF {
      bytes += little(0x0606_4B50, 4) + little(44, 8) + little(45, 2) + little(45, 2) + little(0, 4) + little(0, 4)
      bytes += little(count, 8) + little(count, 8) + little(size, 8) + little(start, 8)
      bytes += little(0x0706_4B50, 4) + little(0, 4) + little(start + size, 8) + little(1, 4)
    }
    let shown = min(count, 0xFFFF)
    return bytes + little(0x0605_4B50, 4) + little(0, 2) + little(0, 2) + little(shown, 2) + little(shown, 2)
      + little(min(size, 0xFFFF_FFFF), 4) + little(min(start, 0xFFFF_FFFF), 4) + little(0, 2)
  }
}
