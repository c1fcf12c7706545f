// Reading numbers from bytes that may end anywhere.

/// A position in bytes. Every read checks the end.
struct ByteCursor {
  let bytes: [UInt8]
  var position: Int
  /// The format, for messages.
  let format: String

  init(_ bytes: [UInt8], at position: Int = 0, format: String) {
    (self.bytes, self.position, self.format) = (bytes, position, format)
  }

  mutating func byte() throws(ImageError) -> UInt8 {
    guard position >= 0, position < bytes.count else {
      throw ImageError("\(format): the file ends at byte \(bytes.count)")
    }
    position += 1
    return bytes[position - 1]
  }

  /// An unsigned number of `count` (at most 4) bytes, lowest first.
  mutating func little(_ count: Int) throws(ImageError) -> Int {
    var value = 0
    for index in 0..<count { value |= Int(try byte()) << (8 * index) }
    return value
  }

  /// A number of 4 bytes in two's complement, lowest first.
  mutating func signedLittle() throws(ImageError) -> Int { Int(Int32(truncatingIfNeeded: try little(4))) }
}
