// Zip archives, written from the first byte to the last: also to pipes, and beyond 4 GB.

/// Writes an archive. The same contents give the same bytes: there are no times in it.
package struct ZipWriter: ~Copyable {
  /// Hands over the bytes of an entry, a part at a time.
  package typealias Content = (_ sink: (borrowing Span<UInt8>) throws(LoadError) -> Void) throws(LoadError) -> Void

  private var output: OutputFile
  private var headers: [ZipHeader] = []
  private var names: Set<String> = []
  private let path: String
  private let alignment: Int

  /// `alignment`: the bytes of stored entries begin at multiples of this power of two, at most 32768.
  package init(path: String, alignment: Int = 64) throws(LoadError) {
    precondition(alignment > 0 && alignment <= 1 << 15 && alignment & (alignment - 1) == 0)
    output = try OutputFile(path: path)
    (self.path, self.alignment) = (path, alignment)
  }

  /// Adds an entry as it is. `content` is asked twice, for the checksum and for the bytes, and gives `byteCount` bytes
  /// both times.
  package mutating func addStored(_ name: String, byteCount: Int, _ content: Content) throws(LoadError) {
    var header = try header(name)
    var checksum = CRC32()
    try content { (part: borrowing Span<UInt8>) throws(LoadError) in checksum.update(part) }
    (header.checksum, header.size, header.compressedSize, header.alignment) =
      (checksum.value, byteCount, byteCount, alignment)
    try output.write(header.local)
    let start = output.count
    try content { (part: borrowing Span<UInt8>) throws(LoadError) in try output.write(part) }
    try check(name, byteCount, output.count - start)
    headers.append(header)
  }

  /// Adds an entry compressed by deflate. `byteCount`: how many bytes `content` gives.
  package mutating func addDeflated(_ name: String, byteCount: Int, _ content: Content) throws(LoadError) {
    var header = try header(name)
    // What cannot be compressed grows by less than one part in a thousand.
    (header.method, header.hasDescriptor, header.size) = (Zip.deflateMethod, true, byteCount)
    header.compressedSize = byteCount + byteCount / 1000 + 64
    let isLarge = header.compressedSize >= Zip.saturated32
    try output.write(header.local)
    let start = output.count
    var deflater = try Deflater()
    var checksum = CRC32()
    var count = 0
    try content { (part: borrowing Span<UInt8>) throws(LoadError) in
      checksum.update(part)
      count += part.count
      try deflater.compress(part, isLast: false) { (bytes) throws(LoadError) in try output.write(bytes) }
    }
    try deflater.compress(Span(), isLast: true) { (bytes) throws(LoadError) in try output.write(bytes) }
    try check(name, byteCount, count)
    (header.checksum, header.compressedSize) = (checksum.value, output.count - start)
    try output.write(header.descriptor(isLarge: isLarge))
    headers.append(header)
  }

  /// Adds bytes that are there.
  package mutating func add(_ name: String, _ bytes: [UInt8], isDeflated: Bool = false) throws(LoadError) {
    let content: Content = { (sink) throws(LoadError) in try sink(bytes.span) }
    if isDeflated {
      try addDeflated(name, byteCount: bytes.count, content)
    } else {
      try addStored(name, byteCount: bytes.count, content)
    }
  }

  /// Ends the archive and gives it its name.
  package mutating func commit() throws(LoadError) {
    let start = output.count
    var directory: [UInt8] = []
    for header in headers { directory += header.entry }
    try output.write(directory)
    try output.write(ZipHeader.end(count: headers.count, start: start, size: directory.count))
    try output.commit()
  }

  private mutating func header(_ name: String) throws(LoadError) -> ZipHeader {
    let bytes = Array(name.utf8)
    guard bytes.count <= Zip.maximumNameBytes else {
      throw LoadError(
        .cannotWrite, "the name of an entry has \(bytes.count) bytes; zip holds \(Zip.maximumNameBytes)"
      ).inFile(path)
    }
    guard names.insert(name).inserted else {
      throw LoadError(.cannotWrite, "there are two entries of the name '\(name)'").inFile(path)
    }
    return ZipHeader(name: bytes, compressedSize: 0, size: 0, offset: output.count)
  }

  private func check(_ name: String, _ expected: Int, _ found: Int) throws(LoadError) {
    guard expected == found else {
      throw LoadError(
        .cannotWrite, "\(expected) bytes of the entry '\(name)' were announced; \(found) came"
      ).inFile(path)
    }
  }
}
