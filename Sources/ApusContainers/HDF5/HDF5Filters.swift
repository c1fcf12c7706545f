// The filters of chunks: what was done when the chunk was written, undone from the last to the first.

/// The filters of a dataset, in the order of writing.
struct HDF5Filters: Sendable {
  enum Filter: UInt16 {
    case deflate = 1
    case shuffle, fletcher32
  }
  private(set) var filters: [Filter] = []

  init(_ message: ByteView?) throws(LoadError) {
    guard let message else { return }
    var reader = ByteReader(message)
    let version = try reader.u8("the filters of a dataset")
    let count = Int(try reader.u8("the filters of a dataset"))
    guard version == 1 || version == 2, count <= 32 else {
      throw .unsupported(
        "filters of version 1 or 2, at most 32 of them, were expected; found version \(version) with \(count)",
        at: message.fileOffset)
    }
    if version == 1 { try reader.skip(6) }
    for _ in 0..<count {
      let number = try reader.u16("a filter")
      let nameLength = version == 1 || number >= 256 ? Int(try reader.u16("the name of a filter")) : 0
      try reader.skip(2)
      let values = Int(try reader.u16("the values of a filter"))
      let name = String(
        decoding: try reader.bytes(nameLength, "the name of a filter").array.prefix { $0 != 0 }, as: UTF8.self)
      try reader.skip(4 * values, "the values of a filter")
      if version == 1, values % 2 == 1 { try reader.skip(4, "padding") }
      guard let filter = Filter(rawValue: number) else {
        let known = [4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf"][number] ?? (name.isEmpty ? "?" : name)
        throw .unsupported(
          "the filters deflate (gzip), shuffle and Fletcher32 are read; the dataset uses \(number) (\(known))",
          remedy: "Write the dataset with gzip or without compression", at: message.fileOffset)
      }
      filters.append(filter)
    }
  }

  /// The `byteCount` bytes of a chunk of elements of `width` bytes. Filters with a bit in `mask` were left out.
  func undo(
    _ chunk: ByteView, mask: UInt32, byteCount: Int, width: Int
  ) throws(LoadError) -> ByteView {
    var current = chunk
    for (index, filter) in filters.enumerated().reversed() where mask & (1 << UInt32(index)) == 0 {
      switch filter {
      case .deflate:
        // A checksum that was taken before compression lies behind the elements.
        let room = byteCount + 4 * filters.count
        current = ByteView(try Self.inflate(current, room, at: chunk.fileOffset))
      case .shuffle: current = ByteView(Self.unshuffle(current.array, width))
      case .fletcher32:
        guard current.count >= 4 else {
          throw .malformed("a chunk with a checksum should have at least 4 bytes", at: chunk.fileOffset)
        }
        let bytes = current.array
        let stored = try current.u32(current.count - 4)
        guard Fletcher32.matches(bytes[..<(bytes.count - 4)], stored) else {
          throw .malformed("the Fletcher32 checksum of a chunk does not match its bytes", at: chunk.fileOffset)
        }
        current = try current.slice(0, current.count - 4, "a chunk")
      }
    }
    guard current.count == byteCount else {
      throw .malformed("a chunk should have \(byteCount) bytes; it has \(current.count)", at: chunk.fileOffset)
    }
    return current
  }

  private static func inflate(_ view: ByteView, _ room: Int, at offset: Int) throws(LoadError) -> [UInt8] {
    do throws(LoadError) {
      return try view.withBytes { (bytes) throws(LoadError) in
        try Inflater.decompress(bytes, .zlib, maximumBytes: room)
      }
    } catch {
      var error = error
      error.message = "a chunk: " + error.message
      error.byteOffset = error.byteOffset.map { offset + $0 }
      throw error
    }
  }

  /// First came all first bytes of the elements, then all second ones, …; what is left over stays at the end.
  static func unshuffle(_ bytes: [UInt8], _ width: Int) -> [UInt8] {
    let count = bytes.count / width
    guard width > 1, count > 1 else { return bytes }
    return [UInt8](unsafeUninitializedCapacity: bytes.count) { buffer, initialized in
      // Every byte is written once: `count` of each of `width`, and the rest.
      for byte in 0..<width {
        let start = byte * count
        for index in 0..<count { buffer.initializeElement(at: index * width + byte, to: bytes[start + index]) }
      }
      for index in (count * width)..<bytes.count { buffer.initializeElement(at: index, to: bytes[index]) }
      initialized = bytes.count
    }
  }
}
