// Compression to deflate streams (RFC 1951) by zlib.

import CZlib

/// Compresses bytes piece by piece to a bare deflate stream.
struct Deflater: ~Copyable {
  /// zlib keeps the address of the state, so it has a place of its own, which this value owns.
  private let state: UnsafeMutablePointer<z_stream>

  /// `level` goes from 1, fast, to 9, small.
  init(level: Int = 6) throws(LoadError) {
    let state = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
    state.initialize(to: z_stream())
    let code = deflateInit2_(
      state, Int32(level), Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION,
      Int32(MemoryLayout<z_stream>.size))
    guard code == Z_OK else {
      state.deallocate()
      throw LoadError(.limitExceeded, "the system has no memory to compress")
    }
    self.state = state
  }

  deinit {
    deflateEnd(state)
    state.deallocate()
  }

  private static let partBytes = 1 << 16
  /// zlib counts in 32 bits.
  private static let largestPiece = 1 << 30

  /// Compresses `input` and hands what comes of it to `sink`, a part at a time; all of it if `isLast`.
  mutating func compress(
    _ input: borrowing Span<UInt8>, isLast: Bool, to sink: (borrowing Span<UInt8>) throws(LoadError) -> Void
  ) throws(LoadError) {
    var position = 0
    repeat {
      let available = min(input.count - position, Self.largestPiece)
      let ends = isLast && position + available == input.count
      let (start, flush) = (position, ends ? Z_FINISH : Z_NO_FLUSH)
      var used = 0
      var isFull = true
      while isFull {
        let part = [UInt8](unsafeUninitializedCapacity: Self.partBytes) { buffer, count in
          input.extracting(start + used..<start + available).withUnsafeBufferPointer { source in
            // zlib only reads the input. Both pointers are used in this call alone, each for as many bytes as are
            // there. An error is not possible: the state is sound, and there is always room.
            state.pointee.next_in = UnsafeMutablePointer(mutating: source.baseAddress)
            state.pointee.avail_in = UInt32(source.count)
            state.pointee.next_out = buffer.baseAddress
            state.pointee.avail_out = UInt32(Self.partBytes)
            _ = deflate(state, flush)
          }
          count = Self.partBytes - Int(state.pointee.avail_out)
        }
        used = available - Int(state.pointee.avail_in)
        isFull = part.count == Self.partBytes
        try sink(part.span)
      }
      position += available
    } while position < input.count
  }
}
