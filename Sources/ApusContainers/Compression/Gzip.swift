// Files compressed by gzip: RFC 1952. Read only.

/// Reads gzip files.
package enum Gzip {
  /// True if `bytes` begin as gzip files do.
  package static func isGzip(_ bytes: Span<UInt8>) -> Bool {
    bytes.count >= 3 && (bytes[0], bytes[1], bytes[2]) == (0x1F, 0x8B, 8)
  }

  /// Bytes that are read at a time.
  private static let pieceBytes = 1 << 18

  /// What `file` decompresses to: one member after the other, their checksums compared. Zeros behind the last member,
  /// as tapes leave them, are passed over.
  ///
  /// Throws `limitExceeded` for more than `LoadLimits.maximumDecodedBytes`, and for more than the file's account has.
  package static func decode(_ file: FileBytes, limits: LoadLimits = LoadLimits()) throws(LoadError) -> FileBytes {
    do throws(LoadError) {
      var inflater = try Inflater(.gzip)
      var output = ByteBlock(account: file.account)
      var state = State()
      var start = 0
      while start < file.count {
        let end = min(start + pieceBytes, file.count)
        try file.withBytes(in: start..<end) { (bytes) throws(LoadError) in
          try decode(bytes, at: start, &inflater, &state, to: &output, limits)
        }
        start = end
      }
      guard !state.isInside, state.members > 0 else {
        throw LoadError(
          .malformed, "the compressed data are cut off", remedy: "Fetch the file again", byteOffset: file.count)
      }
      return FileBytes(output.finish(), name: file.name)
    } catch {
      throw error.inFile(file.name)
    }
  }

  private struct State {
    /// Streams that have begun.
    var members = 0
    var isInside = false
    /// True once zeros follow the last member.
    var isPadding = false
  }

  private static func decode(
    _ bytes: Span<UInt8>, at offset: Int, _ inflater: inout Inflater, _ state: inout State,
    to output: inout ByteBlock, _ limits: LoadLimits
  ) throws(LoadError) {
    var position = 0
    while position < bytes.count {
      if !state.isInside {
        state.isPadding = state.isPadding || state.members > 0 && bytes[position] == 0
        if state.isPadding {
          guard bytes[position] == 0 else {
            throw LoadError(.malformed, "bytes follow the compressed data", byteOffset: offset + position)
          }
          position += 1
          continue
        }
        if state.members == 0, !isGzip(bytes) { throw LoadError(.wrongFormat, "a gzip file was expected") }
        if state.members > 0 { inflater.reset() }
        state.members += 1
        state.isInside = true
      }
      var at = position
      let progress = try output.append { (room) throws(LoadError) in
        try decompress(bytes, from: &at, &inflater, to: &room, at: offset)
      }
      position = at
      if output.count > limits.maximumDecodedBytes {
        throw .limit("maximumDecodedBytes", limits.maximumDecodedBytes, found: "the file decompresses to more bytes")
      }
      switch progress {
      case .ended: state.isInside = false
      case .needsRoom: continue
      case .needsInput: return
      }
    }
  }

  private static func decompress(
    _ bytes: Span<UInt8>, from position: inout Int, _ inflater: inout Inflater, to room: inout OutputSpan<UInt8>,
    at offset: Int
  ) throws(LoadError) -> Inflater.Progress {
    do throws(LoadError) {
      return try inflater.decompress(bytes, from: &position, to: &room)
    } catch {
      var error = error
      error.byteOffset = error.byteOffset.map { $0 + offset }
      throw error
    }
  }
}
