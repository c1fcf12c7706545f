// The parts of the protobuf wire format: varints, tags, lengths. Every read is bounded by an end that the caller gives.

/// The wire types of protobuf.
@frozen package enum WireType: UInt8 {
  case varint = 0
  case fixed64, bytes, startGroup, endGroup, fixed32
}

/// A position in some bytes, and the reads that move it forward. Nothing here trusts a length: each read is checked
/// against `end`, which is at most the number of bytes.
@frozen package struct WireReader {
  package var position: Int
  package let end: Int

  @inlinable package init(_ range: Range<Int>) {
    position = range.lowerBound
    end = range.upperBound
  }

  @inlinable package var isAtEnd: Bool { position >= end }

  /// An unsigned number of up to 10 bytes of 7 bits, lowest first.
  @inlinable package mutating func varint(_ bytes: Span<UInt8>) throws(LoadError) -> UInt64 {
    let start = position
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while position < end {
      let byte = bytes[position]
      position += 1
      if shift == 63 && byte > 1 {
        throw LoadError(.malformed, "a varint of at most 64 bits was expected; this one has more", byteOffset: start)
      }
      value |= UInt64(byte & 0x7F) << shift
      if byte < 0x80 { return value }
      shift += 7
    }
    throw LoadError(.malformed, "a varint is cut off by the end of its message", byteOffset: start)
  }

  /// A field number and wire type.
  @inlinable package mutating func tag(_ bytes: Span<UInt8>) throws(LoadError) -> (number: UInt32, type: WireType) {
    let start = position
    let tag = try varint(bytes)
    guard tag >> 3 != 0, tag <= UInt64(UInt32.max) else {
      throw LoadError(
        .malformed, "a field number from 1 to 536870911 was expected; this is \(tag >> 3)", byteOffset: start)
    }
    guard let type = WireType(rawValue: UInt8(tag & 7)) else {
      throw LoadError(.malformed, "a wire type from 0 to 5 was expected; this is \(tag & 7)", byteOffset: start)
    }
    if type == .startGroup || type == .endGroup {
      throw LoadError(.malformed, "field \(tag >> 3) is a group, which ONNX does not have", byteOffset: start)
    }
    return (UInt32(tag >> 3), type)
  }

  /// Moves past `count` bytes and returns their range.
  @inlinable package mutating func take(_ count: UInt64) throws(LoadError) -> Range<Int> {
    guard count <= UInt64(end - position) else {
      throw LoadError(
        .malformed, "\(count) bytes are announced, but only \(end - position) remain in the message",
        remedy: "The file may be cut off; compare its size with the original", byteOffset: position)
    }
    let range = position..<(position + Int(count))
    position = range.upperBound
    return range
  }

  /// A length and as many bytes; the range of the bytes.
  @inlinable package mutating func lengthDelimited(_ bytes: Span<UInt8>) throws(LoadError) -> Range<Int> {
    try take(varint(bytes))
  }

  /// Moves past the value of a field and returns its range without the length.
  @inlinable package mutating func value(_ type: WireType, _ bytes: Span<UInt8>) throws(LoadError) -> Range<Int> {
    let start = position
    switch type {
    case .varint:
      _ = try varint(bytes)
      return start..<position
    case .fixed64: return try take(8)
    case .fixed32: return try take(4)
    case .bytes: return try lengthDelimited(bytes)
    case .startGroup, .endGroup:
      throw LoadError(.malformed, "a group, which ONNX does not have", byteOffset: start)
    }
  }
}

extension [UInt8] {
  /// Appends an unsigned number of up to 10 bytes of 7 bits, lowest first.
  @inlinable package mutating func appendVarint(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    append(UInt8(rest))
  }

  package mutating func appendTag(_ number: UInt32, _ type: WireType) {
    appendVarint(UInt64(number) << 3 | UInt64(type.rawValue))
  }
}
