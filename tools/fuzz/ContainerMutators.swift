// Ways to break containers that know how they are built: numbers of records, texts of headers, compressed bytes.

import ApusOperators

/// Values that sit on the edges of what formats and readers count with.
let edges: [Int] = [
  0, 1, 2, 3, 7, 8, 0x7F, 0xFF, 0x7FFF, 0xFFFE, 0xFFFF, 0x10000, 0x7FFF_FFFF, 0xFFFF_FFFE, 0xFFFF_FFFF, 1 << 32,
  1 << 40, Int.max, -1,
]

extension [UInt8] {
  func little(_ offset: Int, _ width: Int) -> Int {
    guard offset >= 0, offset + width <= count else { return 0 }
    return (0..<width).reversed().reduce(0) { $0 << 8 | Int(self[offset + $1]) }
  }

  mutating func setLittle(_ value: Int, _ offset: Int, _ width: Int) {
    guard offset >= 0, offset + width <= count else { return }
    for byte in 0..<width { self[offset + byte] = UInt8(truncatingIfNeeded: value >> (8 * byte)) }
  }

  /// Where a text stands.
  func places(of text: [UInt8]) -> [Int] {
    indices.filter { self[$0] == text[0] && self[$0...].starts(with: text) }
  }
}

enum ZipMutator {
  /// The fields of a record, as offset and width.
  private static let fields: [(signature: [UInt8], fields: [(Int, Int)])] = [
    (
      [0x50, 0x4B, 3, 4],
      [(4, 2), (6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2), (30, 1), (31, 2), (38, 8)]
    ),
    (
      [0x50, 0x4B, 1, 2],
      [
        (4, 2), (8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (34, 2), (38, 4), (40, 2),
        (42, 4), (46, 1), (47, 2), (54, 8),
      ]
    ),
    ([0x50, 0x4B, 5, 6], [(4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)]),
    ([0x50, 0x4B, 6, 6], [(4, 8), (16, 4), (20, 4), (24, 8), (32, 8), (40, 8), (48, 8)]),
    ([0x50, 0x4B, 6, 7], [(4, 4), (8, 8), (16, 4)]), ([0x50, 0x4B, 7, 8], [(4, 4), (8, 4), (12, 4)]),
  ]

  static func mutate(_ bytes: inout [UInt8], _ random: inout SplitMix64) {
    switch random.below(6) {
    case 0: breakContents(&bytes, &random)
    case 1: repeatEntry(&bytes, &random)
    case 2: rename(&bytes, &random)
    default: breakField(&bytes, &random)
    }
  }

  private static func record(
    _ kind: Int, _ bytes: [UInt8], _ random: inout SplitMix64
  ) -> Int? {
    let places = bytes.places(of: fields[kind].signature)
    return places.isEmpty ? nil : places[random.below(places.count)]
  }

  /// Another number in one record; in half of the cases in the other header of the entry too, so that the two agree.
  private static func breakField(_ bytes: inout [UInt8], _ random: inout SplitMix64) {
    let kind = random.below(fields.count)
    guard let start = record(kind, bytes, &random) else { return }
    let (offset, width) = fields[kind].fields[random.below(fields[kind].fields.count)]
    let old = bytes.little(start + offset, width)
    let value: Int
    switch random.below(4) {
    case 0: value = old &+ random.below(9) &- 4
    case 1: value = old ^ 1 << random.below(8 * width)
    case 2: value = random.below(bytes.count + 1)
    default: value = edges[random.below(edges.count)]
    }
    bytes.setLittle(value, start + offset, width)
    guard kind == 1, (8..<28).contains(offset), random.below(2) == 0 else { return }
    bytes.setLittle(value, bytes.little(start + 42, 4) + offset - 2, width)
  }

  /// Lists an entry again, with the end record corrected, or lets it refer to another's bytes.
  private static func repeatEntry(_ bytes: inout [UInt8], _ random: inout SplitMix64) {
    guard let first = record(1, bytes, &random), let second = record(1, bytes, &random) else { return }
    if random.below(2) == 0 { return bytes.setLittle(bytes.little(second + 42, 4), first + 42, 4) }
    let count = 46 + bytes.little(first + 28, 2) + bytes.little(first + 30, 2) + bytes.little(first + 32, 2)
    guard first + count <= bytes.count else { return }
    bytes.insert(contentsOf: bytes[first..<first + count], at: first)
    guard let end = record(2, bytes, &random) else { return }
    for offset in [8, 10] { bytes.setLittle(bytes.little(end + offset, 2) + 1, end + offset, 2) }
    bytes.setLittle(bytes.little(end + 12, 4) + count, end + 12, 4)
    if random.below(2) == 0 { bytes[first + 46] ^= 1 }
  }

  /// A name that leads elsewhere, of the length of the old one, in both headers.
  private static func rename(_ bytes: inout [UInt8], _ random: inout SplitMix64) {
    guard let entry = record(1, bytes, &random) else { return }
    let names = ["../", "/", "..\\", "a//", "\0", "\u{FF}", "./", "c:"].map { Array($0.utf8) }
    let name = names[random.below(names.count)]
    let local = bytes.little(entry + 42, 4) + 30
    for (index, byte) in name.enumerated() where index < bytes.little(entry + 28, 2) {
      if entry + 46 + index < bytes.count { bytes[entry + 46 + index] = byte }
      if local + index < bytes.count, random.below(8) > 0 { bytes[local + index] = byte }
    }
  }

  /// Other bytes in an entry, and a checksum that fits, so that what reads them sees them.
  private static func breakContents(_ bytes: inout [UInt8], _ random: inout SplitMix64) {
    guard let entry = record(1, bytes, &random) else { return }
    let local = bytes.little(entry + 42, 4)
    let start = local + 30 + bytes.little(local + 26, 2) + bytes.little(local + 28, 2)
    let end = start + min(bytes.little(entry + 20, 4), 1 << 20)
    guard start < end, end <= bytes.count else { return }
    for _ in 0...random.below(3) {
      // Headers of arrays stand at the beginning.
      let position = start + random.below(random.below(2) == 0 ? min(128, end - start) : end - start)
      switch random.below(3) {
      case 0: bytes[position] ^= 1 << UInt8(random.below(8))
      case 1: bytes[position] = UInt8(48 + random.below(10))
      default: bytes[position] = UInt8(truncatingIfNeeded: random.next())
      }
    }
    guard bytes.little(entry + 10, 2) == 0 else { return }
    let checksum = Checksum.crc32(bytes[start..<end])
    bytes.setLittle(checksum, entry + 16, 4)
    if bytes.little(local + 14, 4) != 0 { bytes.setLittle(checksum, local + 14, 4) }
  }
}

enum GzipMutator {
  /// Flags and lengths of the header, compressed bytes, the checksum and size at the end.
  static func mutate(_ bytes: inout [UInt8], _ random: inout SplitMix64) {
    guard bytes.count > 20 else { return }
    switch random.below(6) {
    case 0: bytes[3] = UInt8(random.below(32))
    case 1: bytes[random.below(12)] = UInt8(truncatingIfNeeded: random.next())
    case 2: bytes.setLittle(edges[random.below(edges.count)], bytes.count - 4 - 4 * random.below(2), 4)
    case 3: bytes += bytes[..<random.below(bytes.count)]
    case 4: bytes += [UInt8](repeating: 0, count: random.below(40))
    default: bytes[10 + random.below(bytes.count - 10)] ^= 1 << UInt8(random.below(8))
    }
  }
}

enum SafeTensorsMutator {
  /// Keeps the length before the header right, most of the time, so that the damage is seen inside.
  static func mutate(_ bytes: inout [UInt8], _ random: inout SplitMix64) {
    let length = bytes.little(0, 8)
    guard length > 2, length <= bytes.count - 8 else { return }
    if random.below(10) == 0 { return bytes.setLittle(length &+ edges[random.below(edges.count)], 0, 8) }
    var header = Array(bytes[8..<8 + length])
    switch random.below(4) {
    case 0: replaceNumber(&header, &random)
    case 1: replaceWord(&header, &random)
    case 2: repeatMember(&header, &random)
    default:
      let brackets = Array("{}[]\",:\\ -.e0".utf8)
      header[random.below(header.count)] = brackets[random.below(brackets.count)]
    }
    bytes.replaceSubrange(8..<8 + length, with: header)
    bytes.setLittle(header.count, 0, 8)
  }

  private static func isDigit(_ byte: UInt8) -> Bool { (48..<58).contains(byte) }

  private static func replaceNumber(_ header: inout [UInt8], _ random: inout SplitMix64) {
    let starts = header.indices.filter { isDigit(header[$0]) && ($0 == 0 || !isDigit(header[$0 - 1])) }
    guard !starts.isEmpty else { return }
    let start = starts[random.below(starts.count)]
    let end = header[start...].firstIndex { !isDigit($0) } ?? header.count
    let old = Int(String(decoding: header[start..<end], as: UTF8.self)) ?? 0
    let texts = [
      "\(edges[random.below(edges.count)])", "\(old &+ random.below(9) &- 4)", "1e3", "18446744073709551616",
    ]
    header.replaceSubrange(start..<end, with: Array(texts[random.below(texts.count)].utf8))
  }

  private static func replaceWord(_ header: inout [UInt8], _ random: inout SplitMix64) {
    let words = [
      "F64", "F32", "F16", "BF16", "I64", "BOOL", "U8", "F4", "F6_E2M3", "F8_E8M0", "C64", "dtype", "shape",
      "data_offsets", "__metadata__",
    ].map { Array($0.utf8) }
    let old = words[random.below(words.count)]
    let places = header.places(of: old)
    guard !places.isEmpty else { return }
    let start = places[random.below(places.count)]
    header.replaceSubrange(start..<start + old.count, with: words[random.below(words.count)])
  }

  /// The members of the header from one brace to another, again.
  private static func repeatMember(_ header: inout [UInt8], _ random: inout SplitMix64) {
    let commas = header.places(of: Array("},".utf8))
    guard commas.count > 1 else { return }
    let first = random.below(commas.count - 1)
    let member = Array(header[commas[first] + 1..<commas[first + 1] + 1])
    header.insert(contentsOf: member, at: commas[random.below(commas.count)] + 1)
  }
}

/// The checksum of zip archives, bit by bit.
enum Checksum {
  static func crc32(_ bytes: ArraySlice<UInt8>) -> Int {
    var state = ~UInt32(0)
    for byte in bytes {
      state ^= UInt32(byte)
      for _ in 0..<8 { state = state & 1 == 1 ? state >> 1 ^ 0xEDB8_8320 : state >> 1 }
    }
    return Int(~state)
  }
}
