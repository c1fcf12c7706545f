// Elements of 2, 4 and 6 bits: single codes, and runs of codes to one byte each and back.
// Element i takes the bits from i * bits on of a stream that starts at the lowest bit of the first byte.

/// Access to elements of less than a byte (`DataType.isPacked`).
package enum PackedElements {
  /// The code of one element, extended by zero bits.
  package static func load(_ base: UnsafeRawPointer, bits: Int, at index: Int) -> UInt8 {
    let position = index &* bits
    let byte = position >> 3
    let shift = UInt16(truncatingIfNeeded: position & 7)
    var pair = UInt16(base.load(fromByteOffset: byte, as: UInt8.self))
    // Only elements of 6 bits lie across two bytes.
    if Int(shift) &+ bits > 8 { pair |= UInt16(base.load(fromByteOffset: byte &+ 1, as: UInt8.self)) << 8 }
    return UInt8(truncatingIfNeeded: (pair >> shift) & ((1 << UInt16(truncatingIfNeeded: bits)) &- 1))
  }

  /// Replaces the code of one element. Not for elements that share a byte with what another thread writes.
  package static func store(_ code: UInt8, _ base: UnsafeMutableRawPointer, bits: Int, at index: Int) {
    let position = index &* bits
    let byte = position >> 3
    let shift = UInt16(truncatingIfNeeded: position & 7)
    let isSplit = Int(shift) &+ bits > 8
    let mask: UInt16 = ((1 << UInt16(truncatingIfNeeded: bits)) &- 1) << shift
    var pair = UInt16(base.load(fromByteOffset: byte, as: UInt8.self))
    if isSplit { pair |= UInt16(base.load(fromByteOffset: byte &+ 1, as: UInt8.self)) << 8 }
    pair = (pair & ~mask) | ((UInt16(code) << shift) & mask)
    base.storeBytes(of: UInt8(truncatingIfNeeded: pair), toByteOffset: byte, as: UInt8.self)
    if isSplit { base.storeBytes(of: UInt8(truncatingIfNeeded: pair >> 8), toByteOffset: byte &+ 1, as: UInt8.self) }
  }

  /// Writes the codes of the elements `start ..< start + count` to one byte each, extended by zero bits.
  package static func unpack(
    _ base: UnsafeRawPointer, bits: Int, from start: Int, _ codes: UnsafeMutablePointer<UInt8>, _ count: Int
  ) {
    var index = 0
    if bits == 4 {
      if start & 1 == 1, count > 0 {
        codes[0] = load(base, bits: 4, at: start)
        index = 1
      }
      let source = base + (start &+ index) / 2
      let pairs = (count &- index) / 2
      for pair in 0..<pairs {
        let byte = source.load(fromByteOffset: pair, as: UInt8.self)
        codes[index &+ 2 &* pair] = byte & 15
        codes[index &+ 2 &* pair &+ 1] = byte >> 4
      }
      index &+= 2 &* pairs
    }
    while index < count {
      codes[index] = load(base, bits: bits, at: start &+ index)
      index &+= 1
    }
  }

  /// Packs `count` codes, of which only the low bits count, into the elements from `start` on, which must begin a byte.
  /// The unused bits of the last byte become zero.
  package static func pack(
    _ codes: UnsafePointer<UInt8>, _ count: Int, bits: Int, _ base: UnsafeMutableRawPointer, at start: Int
  ) {
    assert((start &* bits) & 7 == 0)
    let target = base + (start &* bits) >> 3
    let mask = UInt32(1) << UInt32(truncatingIfNeeded: bits) &- 1
    var pending: UInt32 = 0
    var pendingBits = 0
    var byte = 0
    for index in 0..<count {
      pending |= (UInt32(codes[index]) & mask) << UInt32(truncatingIfNeeded: pendingBits)
      pendingBits &+= bits
      if pendingBits >= 8 {
        target.storeBytes(of: UInt8(truncatingIfNeeded: pending), toByteOffset: byte, as: UInt8.self)
        pending >>= 8
        pendingBits &-= 8
        byte &+= 1
      }
    }
    if pendingBits > 0 { target.storeBytes(of: UInt8(truncatingIfNeeded: pending), toByteOffset: byte, as: UInt8.self) }
  }

  /// A packed code as a number, signed types with their sign.
  @inline(__always) package static func integer(_ code: UInt8, bits: Int, isSigned: Bool) -> Int {
    let spare = 8 &- bits
    return isSigned
      ? Int(Int8(bitPattern: code << UInt8(truncatingIfNeeded: spare)) >> Int8(truncatingIfNeeded: spare))
      : Int(code)
  }
}
