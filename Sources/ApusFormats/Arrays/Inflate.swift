// Decompression of deflate streams (RFC 1951), and the checksum of zip files. Our own, and not zlib's: it needs a page
// of code, keeps to a bound on its output by construction, and saves the package a dependency.

/// Decompresses deflate streams.
enum Inflate {
  /// What `range` of `bytes` decompresses to, which must be exactly `size` bytes. The caller has checked `size` against
  /// the limits; no more than that is ever written.
  static func decompress(_ bytes: Span<UInt8>, _ range: Range<Int>, size: Int) throws(LoadError) -> [UInt8] {
    // A match of 258 bytes takes at least two bits.
    guard size <= (range.count + 8) * 1032 else {
      throw LoadError(.malformed, "\(range.count) compressed bytes cannot become \(size)", byteOffset: range.lowerBound)
    }
    var input = BitReader(position: range.lowerBound, end: range.upperBound)
    var output: [UInt8] = []
    output.reserveCapacity(size)
    var isLast = false
    while !isLast {
      isLast = try input.bits(1, bytes) == 1
      switch try input.bits(2, bytes) {
      case 0: try stored(bytes, &input, &output, size)
      case 1: try block(bytes, &input, &output, size, try HuffmanCode(fixedLengths), try HuffmanCode(fixedDistances))
      case 2:
        let (lengths, distances) = try dynamicCodes(bytes, &input)
        try block(bytes, &input, &output, size, lengths, distances)
      default: throw input.error("a block of an unknown kind")
      }
    }
    guard output.count == size else {
      throw LoadError(.malformed, "\(size) bytes were expected; \(output.count) came out", byteOffset: range.lowerBound)
    }
    return output
  }

  private static let fixedLengths: [UInt8] =
    [UInt8](repeating: 8, count: 144) + [UInt8](repeating: 9, count: 112) + [UInt8](repeating: 7, count: 24)
    + [UInt8](repeating: 8, count: 8)
  private static let fixedDistances = [UInt8](repeating: 5, count: 30)

  private static func stored(
    _ bytes: Span<UInt8>, _ input: inout BitReader, _ output: inout [UInt8], _ size: Int
  ) throws(LoadError) {
    input.alignToByte()
    let length = try input.bits(16, bytes)
    guard try input.bits(16, bytes) == length ^ 0xFFFF else {
      throw input.error("the length of a stored block is wrong")
    }
    guard output.count + length <= size else { throw input.error("more bytes than announced") }
    for _ in 0..<length { output.append(UInt8(try input.bits(8, bytes))) }
  }

  /// The order in which the lengths of the code of code lengths are stored.
  private static let lengthOrder = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]

  private static func dynamicCodes(
    _ bytes: Span<UInt8>, _ input: inout BitReader
  ) throws(LoadError) -> (lengths: HuffmanCode, distances: HuffmanCode) {
    let lengthCount = try input.bits(5, bytes) + 257
    let distanceCount = try input.bits(5, bytes) + 1
    let codeCount = try input.bits(4, bytes) + 4
    var codeLengths = [UInt8](repeating: 0, count: 19)
    for index in 0..<codeCount { codeLengths[lengthOrder[index]] = UInt8(try input.bits(3, bytes)) }
    let code = try HuffmanCode(codeLengths)
    var lengths: [UInt8] = []
    while lengths.count < lengthCount + distanceCount {
      let symbol = try code.symbol(bytes, &input)
      switch symbol {
      case 16:
        guard let last = lengths.last else { throw input.error("a repeat of nothing") }
        lengths += [UInt8](repeating: last, count: try input.bits(2, bytes) + 3)
      case 17: lengths += [UInt8](repeating: 0, count: try input.bits(3, bytes) + 3)
      case 18: lengths += [UInt8](repeating: 0, count: try input.bits(7, bytes) + 11)
      default: lengths.append(UInt8(symbol))
      }
    }
    guard lengths.count == lengthCount + distanceCount else { throw input.error("too many code lengths") }
    return (try HuffmanCode(Array(lengths[..<lengthCount])), try HuffmanCode(Array(lengths[lengthCount...])))
  }

  private static let lengthBase = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258,
  ]
  private static let lengthExtra = [
    0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0,
  ]
  private static let distanceBase = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145,
    8193, 12289, 16385, 24577,
  ]

  private static func block(
    _ bytes: Span<UInt8>, _ input: inout BitReader, _ output: inout [UInt8], _ size: Int, _ lengths: HuffmanCode,
    _ distances: HuffmanCode
  ) throws(LoadError) {
    while true {
      let symbol = try lengths.symbol(bytes, &input)
      if symbol == 256 { return }
      if symbol < 256 {
        guard output.count < size else { throw input.error("more bytes than announced") }
        output.append(UInt8(symbol))
        continue
      }
      guard symbol - 257 < lengthBase.count else { throw input.error("a length that does not exist") }
      let length = lengthBase[symbol - 257] + (try input.bits(lengthExtra[symbol - 257], bytes))
      let distanceSymbol = try distances.symbol(bytes, &input)
      guard distanceSymbol < distanceBase.count else { throw input.error("a distance that does not exist") }
      let distance = distanceBase[distanceSymbol] + (try input.bits(max(0, distanceSymbol / 2 - 1), bytes))
      guard distance <= output.count else { throw input.error("a distance that leads before the beginning") }
      guard output.count + length <= size else { throw input.error("more bytes than announced") }
      for _ in 0..<length { output.append(output[output.count - distance]) }
    }
  }
}

/// Bits of a stream, lowest first.
private struct BitReader {
  var position: Int
  let end: Int
  private var pending: UInt32 = 0
  private var pendingBits = 0

  init(position: Int, end: Int) { (self.position, self.end) = (position, end) }

  /// A number of up to 16 bits.
  mutating func bits(_ count: Int, _ bytes: Span<UInt8>) throws(LoadError) -> Int {
    while pendingBits < count {
      guard position < end else { throw error("the compressed data are cut off") }
      pending |= UInt32(bytes[position]) << UInt32(pendingBits)
      position += 1
      pendingBits += 8
    }
    let value = pending & ((1 << UInt32(count)) - 1)
    pending >>= UInt32(count)
    pendingBits -= count
    return Int(value)
  }

  mutating func alignToByte() {
    pending >>= UInt32(pendingBits % 8)
    pendingBits -= pendingBits % 8
  }

  func error(_ message: String) -> LoadError { LoadError(.malformed, message, byteOffset: position) }
}

/// A canonical Huffman code of up to 15 bits.
private struct HuffmanCode {
  /// How many codes there are of each length.
  private var counts = [Int](repeating: 0, count: 16)
  /// The symbols by code.
  private var symbols: [Int] = []

  /// `lengths` has the bits of each symbol's code, 0 for symbols that do not occur.
  init(_ lengths: [UInt8]) throws(LoadError) {
    for length in lengths { counts[Int(length)] += 1 }
    counts[0] = 0
    var left = 1
    for length in 1...15 {
      left = left * 2 - counts[length]
      if left < 0 { throw LoadError(.malformed, "a Huffman code with too many codes") }
    }
    for length in 1...15 where counts[length] > 0 {
      for (symbol, own) in lengths.enumerated() where Int(own) == length { symbols.append(symbol) }
    }
  }

  func symbol(_ bytes: Span<UInt8>, _ input: inout BitReader) throws(LoadError) -> Int {
    var code = 0
    var first = 0
    var index = 0
    for length in 1...15 {
      code |= try input.bits(1, bytes)
      let count = counts[length]
      if code - first < count { return symbols[index + code - first] }
      index += count
      first = (first + count) << 1
      code <<= 1
    }
    throw input.error("a code that does not exist")
  }
}

/// The checksum of zip files (CRC-32 of ISO 3309).
struct CRC32 {
  private var state = ~UInt32(0)
  /// At 256 k + b: what byte b does to the checksum when k more bytes follow it.
  private static let table: [UInt32] = {
    var table = (0..<256).map { (index: UInt32) in
      (0..<8).reduce(index) { value, _ in value & 1 == 1 ? value >> 1 ^ 0xEDB8_8320 : value >> 1 }
    }
    for index in 256..<8 * 256 { table.append(table[Int(table[index - 256] & 0xFF)] ^ table[index - 256] >> 8) }
    return table
  }()

  var value: UInt32 { ~state }

  mutating func update(_ bytes: Span<UInt8>, _ range: Range<Int>) {
    let table = Self.table
    var state = self.state
    var index = range.lowerBound
    // Eight bytes at a time: their effects do not depend on each other.
    while range.upperBound - index >= 8 {
      var first = UInt32(bytes[index]) | UInt32(bytes[index + 1]) << 8
      first |= UInt32(bytes[index + 2]) << 16 | UInt32(bytes[index + 3]) << 24
      first ^= state
      state = table[7 * 256 + Int(first & 0xFF)] ^ table[6 * 256 + Int(first >> 8 & 0xFF)]
      state ^= table[5 * 256 + Int(first >> 16 & 0xFF)] ^ table[4 * 256 + Int(first >> 24)]
      state ^= table[3 * 256 + Int(bytes[index + 4])] ^ table[2 * 256 + Int(bytes[index + 5])]
      state ^= table[256 + Int(bytes[index + 6])] ^ table[Int(bytes[index + 7])]
      index += 8
    }
    while index < range.upperBound {
      state = table[Int((state ^ UInt32(bytes[index])) & 0xFF)] ^ state >> 8
      index += 1
    }
    self.state = state
  }
}
