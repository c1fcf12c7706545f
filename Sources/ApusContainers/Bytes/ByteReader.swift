// A place in bytes that moves on with every number that is read there.

/// Reads one thing after the other, lowest byte first. Every error names what was expected and where.
package struct ByteReader: Sendable {
  package let view: ByteView
  package private(set) var position: Int

  package init(_ view: ByteView, at position: Int = 0) { (self.view, self.position) = (view, position) }

  package var remaining: Int { view.count - position }
  package var isAtEnd: Bool { position >= view.count }
  /// The place in the file, for messages.
  package var fileOffset: Int { view.offset(position) }

  package mutating func u8(_ what: String = "a byte") throws(LoadError) -> UInt8 {
    let value = try view.u8(position, what)
    position += 1
    return value
  }
  package mutating func u16(_ what: String = "a number") throws(LoadError) -> UInt16 {
    let value = try view.u16(position, what)
    position += 2
    return value
  }
  package mutating func u32(_ what: String = "a number") throws(LoadError) -> UInt32 {
    let value = try view.u32(position, what)
    position += 4
    return value
  }
  package mutating func u64(_ what: String = "a number") throws(LoadError) -> UInt64 {
    let value = try view.u64(position, what)
    position += 8
    return value
  }
  /// A length of `width` bytes, at most Int.max.
  package mutating func length(bytes width: Int, _ what: String) throws(LoadError) -> Int {
    let value = try view.length(position, bytes: width, what)
    position += width
    return value
  }
  package mutating func unsigned(bytes width: Int, _ what: String) throws(LoadError) -> UInt64 {
    let value = try view.unsigned(position, bytes: width, what)
    position += width
    return value
  }
  package mutating func bytes(_ count: Int, _ what: String) throws(LoadError) -> ByteView {
    let part = try view.slice(position, count, what)
    position += count
    return part
  }
  package mutating func skip(_ count: Int, _ what: String = "reserved bytes") throws(LoadError) {
    _ = try bytes(count, what)
  }
  /// Moves to the next multiple of `alignment`, counted from the start of the view; past the end is an error later.
  package mutating func align(_ alignment: Int) throws(LoadError) {
    let rest = position % alignment
    if rest > 0 { try skip(alignment - rest, "padding") }
  }
  /// The bytes up to the next `terminator`, which is read too.
  package mutating func bytes(upTo terminator: UInt8, _ what: String) throws(LoadError) -> ByteView {
    let start = position
    let end = view.withBytes { bytes in
      var index = start
      while index < bytes.count, bytes[index] != terminator { index += 1 }
      return index
    }
    guard end < view.count else {
      throw .malformed("\(what) should end with a byte of \(terminator); the bytes end before", at: view.offset(start))
    }
    position = end + 1
    return try view.slice(start, end - start, what)
  }
}
