// Ways to break a model file: blind ones, and ones that know the wire format of protobuf.

import ApusFormats
import ApusOperators

extension SplitMix64 {
  mutating func below(_ count: Int) -> Int { count <= 1 ? 0 : Int(next() % UInt64(count)) }
}

enum Mutator {
  /// Values that sit on the edges of integer types.
  private static let edges: [UInt64] = [
    0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 40, 1 << 62,
    0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000, 0xFFFF_FFFF_FFFF_FFFF,
  ]

  /// `seed` with one to four things wrong. Two of three keep to the wire format, so that the damage is not all found by
  /// the scanner.
  static func mutated(_ seed: [UInt8], all: [[UInt8]], _ random: inout SplitMix64) -> [UInt8] {
    var bytes = seed
    let isBlind = random.below(3) == 0
    for _ in 0...random.below(4) {
      if isBlind { mutate(&bytes, all, &random) } else { mutateGently(&bytes, &random) }
    }
    return bytes
  }

  /// One thing wrong, wherever it comes.
  static func breakBlindly(_ bytes: inout [UInt8], _ all: [[UInt8]], _ random: inout SplitMix64) {
    mutate(&bytes, all, &random)
  }

  private static func mutate(_ bytes: inout [UInt8], _ all: [[UInt8]], _ random: inout SplitMix64) {
    guard !bytes.isEmpty else { return }
    let position = random.below(bytes.count)
    switch random.below(16) {
    case 0, 1: bytes[position] ^= 1 << UInt8(random.below(8))
    case 2: bytes[position] = UInt8(truncatingIfNeeded: random.next())
    case 3: bytes.removeLast(bytes.count - position)
    case 4: bytes.removeSubrange(position..<min(bytes.count, position + 1 + random.below(64)))
    case 5:
      let noise = (0...random.below(32)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      bytes.insert(contentsOf: noise, at: position)
    case 6:
      let end = min(bytes.count, position + 1 + random.below(256))
      bytes.insert(contentsOf: bytes[position..<end], at: random.below(bytes.count))
    case 7:
      let other = all[random.below(all.count)]
      guard !other.isEmpty else { return }
      let start = random.below(other.count)
      bytes.insert(contentsOf: other[start..<min(other.count, start + 1 + random.below(512))], at: position)
    case 8: nest(&bytes, &random)
    default: mutateField(&bytes, &random)
    }
  }

  // MARK: With knowledge of the format

  /// Keeps a well-formed message well-formed: other numbers, other names, fields gone, doubled, or in another order.
  private static func mutateGently(_ bytes: inout [UInt8], _ random: inout SplitMix64) {
    let trail = randomField(bytes, &random)
    guard let field = trail.last else { return }
    let original = Array(bytes[field.tag..<field.end])
    let tag = Array(bytes[field.tag..<(varint(bytes, field.tag, bytes.count)?.1 ?? field.value)])
    var content = Array(bytes[field.value..<field.end])
    var replacement = original
    switch (field.wire, random.below(8)) {
    case (_, 0): replacement = []
    case (_, 1): replacement = original + original
    case (0, _):
      let near = UInt64(bitPattern: Int64(random.below(9)) - 2)
      replacement = tag + encoded(random.below(2) == 0 ? near : edges[random.below(edges.count)])
    case (2, 2...4):
      // What stands in the same place elsewhere: another name, another node, another tensor.
      let others = randomField(bytes, &random)
      guard let other = others.last, other.wire == 2 else { return }
      content = Array(bytes[other.value..<other.end])
      replacement = tag + encoded(UInt64(content.count)) + content
    case (2, 5) where !content.isEmpty:
      content[random.below(content.count)] = UInt8(32 + random.below(95))
      replacement = tag + encoded(UInt64(content.count)) + content
    case (2, 6): replacement = tag + [0]
    case (2, _) where !content.isEmpty:
      let start = random.below(content.count)
      for index in start..<min(content.count, start + 8) { content[index] = UInt8(truncatingIfNeeded: random.next()) }
      replacement = tag + encoded(UInt64(content.count)) + content
    default:
      for index in content.indices { content[index] = UInt8(truncatingIfNeeded: random.next()) }
      replacement = tag + (field.wire == 2 ? encoded(UInt64(content.count)) : []) + content
    }
    replace(&bytes, trail, with: replacement)
  }

  /// A field: where its tag begins, where its value begins, where it ends.
  private struct Field {
    var tag: Int
    var value: Int
    var end: Int
    var wire: UInt8
  }

  /// Fields on the way down into messages, chosen at random: the last is the field to break.
  private static func randomField(_ bytes: [UInt8], _ random: inout SplitMix64) -> [Field] {
    var trail: [Field] = []
    var range = 0..<bytes.count
    for _ in 0..<8 {
      let fields = self.fields(bytes, range)
      guard !fields.isEmpty else { break }
      let field = fields[random.below(fields.count)]
      trail.append(field)
      guard field.wire == 2, random.below(5) > 0 else { break }
      range = field.value..<field.end
    }
    return trail
  }

  /// The fields in `range` as far as it looks like a message, at most 4096 of them.
  private static func fields(_ bytes: [UInt8], _ range: Range<Int>) -> [Field] {
    var fields: [Field] = []
    var position = range.lowerBound
    while position < range.upperBound, fields.count < 4096 {
      let tag = position
      guard let (key, afterKey) = varint(bytes, position, range.upperBound), key >> 3 != 0 else { break }
      var value = afterKey
      var end = afterKey
      switch key & 7 {
      case 0:
        guard let (_, after) = varint(bytes, afterKey, range.upperBound) else { return fields }
        end = after
      case 1: end = afterKey + 8
      case 5: end = afterKey + 4
      case 2:
        guard let (length, after) = varint(bytes, afterKey, range.upperBound),
          length <= UInt64(range.upperBound - after)
        else { return fields }
        value = after
        end = after + Int(length)
      default: return fields
      }
      if end > range.upperBound { break }
      fields.append(Field(tag: tag, value: value, end: end, wire: UInt8(key & 7)))
      position = end
    }
    return fields
  }

  private static func varint(_ bytes: [UInt8], _ start: Int, _ end: Int) -> (UInt64, Int)? {
    var value: UInt64 = 0
    for index in 0..<10 where start + index < end {
      value |= UInt64(bytes[start + index] & 0x7F) << UInt64(7 * index)
      if bytes[start + index] < 0x80 { return (value, start + index + 1) }
    }
    return nil
  }

  private static func encoded(_ value: UInt64) -> [UInt8] {
    var bytes: [UInt8] = []
    var rest = value
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    return bytes + [UInt8(rest)]
  }

  /// Breaks one field but keeps the lengths of the messages around it right, so that the damage is seen deep inside.
  private static func mutateField(_ bytes: inout [UInt8], _ random: inout SplitMix64) {
    let trail = randomField(bytes, &random)
    guard let field = trail.last else { return }
    let original = Array(bytes[field.tag..<field.end])
    let tag = Array(bytes[field.tag..<(varint(bytes, field.tag, bytes.count)?.1 ?? field.value)])
    let content = Array(bytes[field.value..<field.end])
    var replacement: [UInt8]
    switch (random.below(8), field.wire) {
    case (0, _): replacement = []
    case (1, _): replacement = original + original
    case (2, _): replacement = (0..<(1 << (2 + random.below(7)))).flatMap { _ in original.prefix(256) }
    case (3, 2): replacement = tag + encoded(edges[random.below(edges.count)]) + content
    case (4, 2): replacement = tag + encoded(UInt64(content.count / 2)) + content.prefix(content.count / 2)
    case (5, 2):
      let filled = content.map { _ in UInt8(truncatingIfNeeded: random.next()) }
      replacement = tag + encoded(UInt64(filled.count)) + filled
    case (6, _):
      let newTag = encoded(UInt64(1 + random.below(26)) << 3 | UInt64(random.below(8)))
      replacement = newTag + (field.wire == 2 ? encoded(UInt64(content.count)) : []) + content
    case (_, 0): replacement = tag + encoded(edges[random.below(edges.count)])
    default:
      replacement = original
      replacement[random.below(replacement.count)] ^= 1 << UInt8(random.below(8))
    }
    replace(&bytes, trail, with: replacement)
  }

  /// Puts `replacement` in the place of the last field of `trail` and corrects the lengths around it.
  private static func replace(_ bytes: inout [UInt8], _ trail: [Field], with replacement: [UInt8]) {
    var inner = replacement
    for (depth, field) in trail.enumerated().reversed() {
      if depth == 0 {
        bytes.replaceSubrange(field.tag..<field.end, with: inner)
        return
      }
      let parent = trail[depth - 1]
      let tagEnd = varint(bytes, parent.tag, bytes.count)?.1 ?? parent.value
      let content = bytes[parent.value..<field.tag] + inner + bytes[field.end..<parent.end]
      inner = Array(bytes[parent.tag..<tagEnd]) + encoded(UInt64(content.count)) + content
    }
  }

  /// Puts the whole model, or a part of it, into itself many times: graphs in attributes of nodes of graphs.
  private static func nest(_ bytes: inout [UInt8], _ random: inout SplitMix64) {
    let chains: [[UInt8]] = [[6, 5, 1], [11, 5, 1], [1, 4], [1, 9], [5], [7]]
    let chain = chains[random.below(chains.count)]
    var inner: [UInt8] = random.below(2) == 0 ? [] : Array(bytes.prefix(64))
    for level in 0..<(1 << random.below(12)) {
      let number = chain[level % chain.count]
      inner = encoded(UInt64(number) << 3 | 2) + encoded(UInt64(inner.count)) + inner
      if inner.count > 1 << 16 { break }
    }
    let graph = encoded(7 << 3 | 2) + encoded(UInt64(inner.count)) + inner
    bytes += graph
  }
}
