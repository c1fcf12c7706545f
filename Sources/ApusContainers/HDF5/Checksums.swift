// The checksums of HDF5: Bob Jenkins' lookup3 for metadata, Fletcher-32 for chunks.

/// lookup3's `hashlittle` (http://burtleburtle.net/bob/c/lookup3.c). Sums wrap by definition.
enum Lookup3 {
  static func hash(_ view: ByteView) -> UInt32 {
    view.withBytes { bytes in
      let length = bytes.count
      var a = UInt32(0xDEAD_BEEF) &+ UInt32(truncatingIfNeeded: length)
      var (b, c) = (a, a)
      /// The word at `position`; bytes after the end are zeros.
      func word(_ position: Int) -> UInt32 {
        var value: UInt32 = 0
        for index in 0..<4 where position + index < length { value |= UInt32(bytes[position + index]) << (8 * index) }
        return value
      }
      var position = 0
      while length - position > 12 {
        a = a &+ word(position)
        b = b &+ word(position + 4)
        c = c &+ word(position + 8)
        mix(&a, &b, &c)
        position += 12
      }
      if position == length { return c }
      a = a &+ word(position)
      b = b &+ word(position + 4)
      c = c &+ word(position + 8)
      finish(&a, &b, &c)
      return c
    }
  }

  private static func rotate(_ value: UInt32, _ count: UInt32) -> UInt32 { value << count | value >> (32 - count) }

  private static func mix(_ a: inout UInt32, _ b: inout UInt32, _ c: inout UInt32) {
    a = (a &- c) ^ rotate(c, 4)
    c = c &+ b
    b = (b &- a) ^ rotate(a, 6)
    a = a &+ c
    c = (c &- b) ^ rotate(b, 8)
    b = b &+ a
    a = (a &- c) ^ rotate(c, 16)
    c = c &+ b
    b = (b &- a) ^ rotate(a, 19)
    a = a &+ c
    c = (c &- b) ^ rotate(b, 4)
    b = b &+ a
  }

  private static func finish(_ a: inout UInt32, _ b: inout UInt32, _ c: inout UInt32) {
    c = (c ^ b) &- rotate(b, 14)
    a = (a ^ c) &- rotate(c, 11)
    b = (b ^ a) &- rotate(a, 25)
    c = (c ^ b) &- rotate(b, 16)
    a = (a ^ c) &- rotate(c, 4)
    b = (b ^ a) &- rotate(a, 14)
    c = (c ^ b) &- rotate(b, 24)
  }
}

/// Fletcher's sum of big-endian 16-bit words, modulo 65535; an odd last byte is the high one of its word.
enum Fletcher32 {
  static func sum(_ bytes: ArraySlice<UInt8>) -> UInt32 {
    bytes.withUnsafeBytes { bytes in
      var (first, second): (UInt64, UInt64) = (0, 0)
      var index = 0
      while index < bytes.count {
        let low = index + 1 < bytes.count ? UInt64(bytes[index + 1]) : 0
        first = (first + UInt64(bytes[index]) << 8 + low) % 65535
        second = (second + first) % 65535
        index += 2
      }
      // The library folds carries, which leaves 65535 where a remainder is 0; `matches` takes both for equal.
      return UInt32(second << 16 | first)
    }
  }

  /// True if `stored` is the sum of `bytes`, in either byte order (releases before 1.6.3 swapped it).
  static func matches(_ bytes: ArraySlice<UInt8>, _ stored: UInt32) -> Bool {
    let sum = sum(bytes)
    func canonical(_ value: UInt32) -> UInt32 { ((value >> 16) % 65535) << 16 | (value & 0xFFFF) % 65535 }
    if canonical(stored) == sum { return true }
    let swapped = (stored & 0x00FF_00FF) << 8 | (stored >> 8) & 0x00FF_00FF
    return canonical(swapped) == sum
  }
}
