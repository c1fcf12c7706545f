// Bytes that are put together of parts of files and of own ones, and written without being in memory at a time.

import ApusTensor

/// Some bytes: parts of files, and own ones between them.
package struct ByteRope: Sendable {
  fileprivate enum Piece: Sendable {
    case own([UInt8])
    case part(FileBytes, Range<Int>)
  }

  private var pieces: [Piece] = []
  package private(set) var count = 0

  package init() {}

  /// The bytes of a file in `range`, which must lie in it.
  package init(_ file: FileBytes, _ range: Range<Int>) { append(file, range) }

  package mutating func append(_ bytes: [UInt8]) {
    guard !bytes.isEmpty else { return }
    count += bytes.count
    if case .own(let last)? = pieces.last {
      pieces[pieces.count - 1] = .own(last + bytes)
    } else {
      pieces.append(.own(bytes))
    }
  }

  package mutating func append(_ file: FileBytes, _ range: Range<Int>) {
    guard !range.isEmpty else { return }
    count += range.count
    pieces.append(.part(file, range))
  }

  package mutating func append(_ rope: ByteRope) {
    count += rope.count
    pieces += rope.pieces
  }

  /// Appends a field of protobuf's wire format that holds `rope`.
  package mutating func append(field number: UInt32, _ rope: ByteRope) {
    var head: [UInt8] = []
    head.appendTag(number, .bytes)
    head.appendVarint(UInt64(rope.count))
    append(head)
    append(rope)
  }

  /// Calls `body` with the bytes from the first to the last, in pieces of at most `FileBytes.pieceBytes` of each file.
  package func forEachPiece(_ body: (Span<UInt8>) throws(LoadError) -> Void) throws(LoadError) {
    for piece in pieces {
      switch piece {
      case .own(let bytes): try body(bytes.span)
      case .part(let file, let range): try file.forEachPiece(of: range, body)
      }
    }
  }

  /// Writes the bytes at the end of a file.
  package func write(to output: inout OutputFile) throws(LoadError) {
    try forEachPiece { (bytes: Span<UInt8>) throws(LoadError) in try output.write(bytes) }
  }

  /// Whether both are the same bytes.
  package func isEqual(to other: ByteRope) throws(LoadError) -> Bool {
    guard count == other.count else { return false }
    var (rest, others) = (pieces[...], other.pieces[...])
    var (start, otherStart) = (0, 0)
    while let a = rest.first, let b = others.first {
      let length = min(a.count - start, b.count - otherStart, FileBytes.pieceBytes)
      if try !Self.isEqual(a, start, b, otherStart, length) { return false }
      (start, otherStart) = (start + length, otherStart + length)
      if start == a.count { (rest, start) = (rest.dropFirst(), 0) }
      if otherStart == b.count { (others, otherStart) = (others.dropFirst(), 0) }
    }
    return true
  }

  private static func isEqual(
    _ a: Piece, _ start: Int, _ b: Piece, _ otherStart: Int, _ length: Int
  ) throws(LoadError) -> Bool {
    try a.withBytes(start..<(start + length)) { (left: Span<UInt8>) throws(LoadError) in
      try b.withBytes(otherStart..<(otherStart + length)) { (right: Span<UInt8>) throws(LoadError) in
        for index in 0..<length where left[index] != right[index] { return false }
        return true
      }
    }
  }
}

extension ByteRope.Piece {
  fileprivate var count: Int {
    switch self {
    case .own(let bytes): bytes.count
    case .part(_, let range): range.count
    }
  }

  /// Calls `body` with some of the bytes, counted from the first of the piece.
  fileprivate func withBytes<Result>(
    _ range: Range<Int>, _ body: (Span<UInt8>) throws(LoadError) -> Result
  ) throws(LoadError) -> Result {
    switch self {
    case .own(let bytes): return try body(bytes.span.extracting(range))
    case .part(let file, let whole):
      return try file.withBytes(in: (whole.lowerBound + range.lowerBound)..<(whole.lowerBound + range.upperBound), body)
    }
  }
}

extension FileBytes {
  /// Bytes that are read at a time where a file goes through piece by piece.
  package static let pieceBytes = 1 << 20

  /// Calls `body` with the bytes of `range` from the first to the last, at most `pieceBytes` at a time.
  package func forEachPiece(
    of range: Range<Int>, _ body: (Span<UInt8>) throws(LoadError) -> Void
  ) throws(LoadError) {
    var start = range.lowerBound
    while start < range.upperBound {
      let end = min(start + Self.pieceBytes, range.upperBound)
      try withBytes(in: start..<end, body)
      start = end
    }
  }
}
