// Elements of less than a byte: from packed bytes to one byte an element, and back.

import ApusTensor

/// The layout of 2-, 4- and 6-bit elements: element i takes the bits i·bits … of the bytes, lowest bits first.
struct PackedLayout: Sendable {
  let bits: Int

  /// Elements that fill whole bytes; `bits` bytes hold as many. Ranges given to `unpack` and `pack` start at multiples of it.
  static let group = 8

  init(bits: Int) { self.bits = bits }

  /// Writes the elements of `range` as one byte each: `target[i]` for element i. `range` must start at a multiple of `group`.
  func unpack(_ source: UnsafeRawPointer, _ target: UnsafeMutableRawPointer, _ range: Range<Int>) {
    let mask = UInt64(1) << UInt64(bits) &- 1
    let bytes = source.assumingMemoryBound(to: UInt8.self)
    let elements = target.assumingMemoryBound(to: UInt8.self)
    var index = range.lowerBound
    while index < range.upperBound {
      let count = min(PackedLayout.group, range.upperBound &- index)
      let first = index / PackedLayout.group &* bits
      var word: UInt64 = 0
      for byte in 0..<(count &* bits &+ 7) / 8 { word |= UInt64(bytes[first &+ byte]) << UInt64(byte &* 8) }
      for offset in 0..<count {
        elements[index &+ offset] = UInt8(truncatingIfNeeded: word & mask)
        word >>= UInt64(bits)
      }
      index &+= count
    }
  }

  /// The inverse of `unpack`. Bits above `bits` are ignored; the unused bits of the last byte become 0.
  func pack(_ source: UnsafeRawPointer, _ target: UnsafeMutableRawPointer, _ range: Range<Int>) {
    let mask = UInt64(1) << UInt64(bits) &- 1
    let elements = source.assumingMemoryBound(to: UInt8.self)
    let bytes = target.assumingMemoryBound(to: UInt8.self)
    var index = range.lowerBound
    while index < range.upperBound {
      let count = min(PackedLayout.group, range.upperBound &- index)
      let first = index / PackedLayout.group &* bits
      var word: UInt64 = 0
      for offset in 0..<count { word |= (UInt64(elements[index &+ offset]) & mask) << UInt64(offset &* bits) }
      for byte in 0..<(count &* bits &+ 7) / 8 {
        bytes[first &+ byte] = UInt8(truncatingIfNeeded: word >> UInt64(byte &* 8))
      }
      index &+= count
    }
  }
}
