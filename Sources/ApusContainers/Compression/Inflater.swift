// Decompression of deflate streams (RFC 1951) by zlib, bare or in the frames of gzip (RFC 1952) and zlib (RFC 1950).

import CZlib

/// What stands around deflated bytes.
enum DeflateFraming: Sendable {
  case none, gzip, zlib

  /// What zlib takes for the largest window in this frame.
  var windowBits: Int32 {
    switch self {
    case .none: -MAX_WBITS
    case .zlib: MAX_WBITS
    case .gzip: 16 + MAX_WBITS
    }
  }
}

/// Decompresses a stream piece by piece. Writes no more than the room that it is given, whatever the stream says.
struct Inflater: ~Copyable {
  /// zlib keeps the address of the state, so it has a place of its own, which this value owns.
  private let state: UnsafeMutablePointer<z_stream>

  init(_ framing: DeflateFraming = .none) throws(LoadError) {
    let state = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
    state.initialize(to: z_stream())
    guard inflateInit2_(state, framing.windowBits, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
      state.deallocate()
      throw LoadError(.limitExceeded, "the system has no memory to decompress")
    }
    self.state = state
  }

  deinit {
    inflateEnd(state)
    state.deallocate()
  }

  /// How far a call came.
  enum Progress {
    /// All input is used up; the stream goes on.
    case needsInput
    /// The room is full; there may be more.
    case needsRoom
    case ended
  }

  /// zlib counts in 32 bits.
  private static let largestPiece = 1 << 30

  /// Decompresses `input` from `position` on, which moves on, and appends to `output`.
  /// Throws `LoadError.malformed` with the offset in `input` where the stream is broken.
  mutating func decompress(
    _ input: Span<UInt8>, from position: inout Int, to output: inout OutputSpan<UInt8>
  ) throws(LoadError) -> Progress {
    while true {
      let available = min(input.count - position, Self.largestPiece)
      let room = min(output.freeCapacity, Self.largestPiece)
      let start = position
      let code = input.extracting(start..<start + available).withUnsafeBufferPointer { source in
        output.withUnsafeMutableBufferPointer { buffer, count in
          // zlib only reads the input. Both pointers are used in this call alone, each for as many bytes as are there.
          state.pointee.next_in = UnsafeMutablePointer(mutating: source.baseAddress)
          state.pointee.avail_in = UInt32(available)
          state.pointee.next_out = buffer.baseAddress.map { $0 + count }
          state.pointee.avail_out = UInt32(room)
          let code = inflate(state, Z_NO_FLUSH)
          count += room - Int(state.pointee.avail_out)
          return code
        }
      }
      position = start + available - Int(state.pointee.avail_in)
      switch code {
      case Z_STREAM_END: return .ended
      case Z_OK, Z_BUF_ERROR:
        if output.isFull { return .needsRoom }
        if position == input.count { return .needsInput }
        if code == Z_BUF_ERROR { throw LoadError(.malformed, "the compressed data are damaged", byteOffset: position) }
      case Z_MEM_ERROR: throw LoadError(.limitExceeded, "the system has no memory to decompress")
      default:
        let reason = state.pointee.msg.map { String(cString: $0) } ?? "they need a dictionary"
        throw LoadError(
          .malformed, "the compressed data are damaged: \(reason)", remedy: "Fetch the file again", byteOffset: position
        )
      }
    }
  }

  /// What the whole stream at the beginning of `input` decompresses to, which must be `maximumBytes` or fewer.
  static func decompress(
    _ input: Span<UInt8>, _ framing: DeflateFraming, maximumBytes: Int
  ) throws(LoadError) -> [UInt8] {
    var inflater = try Inflater(framing)
    var position = 0
    var progress = Progress.needsRoom
    let bytes = try [UInt8](capacity: maximumBytes) { (output: inout OutputSpan<UInt8>) throws(LoadError) in
      progress = try inflater.decompress(input, from: &position, to: &output)
    }
    if progress == .needsRoom {
      // The end of the stream may still be to come, but no byte.
      let surplus = try [UInt8](capacity: 1) { (output: inout OutputSpan<UInt8>) throws(LoadError) in
        progress = try inflater.decompress(input, from: &position, to: &output)
      }
      if !surplus.isEmpty {
        throw LoadError(.malformed, "\(maximumBytes) bytes or fewer were expected; more come out", byteOffset: position)
      }
    }
    guard progress == .ended else {
      throw LoadError(.malformed, "the compressed data are cut off", remedy: "Fetch the file again", byteOffset: position)
    }
    return bytes
  }

  /// Begins the next stream of the same kind.
  mutating func reset() { inflateReset(state) }
}
