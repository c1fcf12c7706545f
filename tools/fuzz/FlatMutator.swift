// Breaks FlatBuffers of models by what they are made of: walks their tables without a schema, and changes fields,
// vtables, offsets, lengths, numbers in vectors, and texts.

import ApusOperators

enum FlatMutator {
  /// Where things lie.
  private struct Places {
    /// Fields in tables, as numbers.
    var fields: [Int] = []
    /// Entries of vtables.
    var entries: [Int] = []
    /// Offsets, by what they lead to.
    var tables: [Int] = []
    var vectors: [Int] = []
    var texts: [Int] = []
    /// Numbers in vectors.
    var elements: [Int] = []

    var isEmpty: Bool { fields.isEmpty && tables.isEmpty }
  }

  /// Tables that are looked at.
  private static let maximumTables = 5000
  /// Elements of a vector of numbers that are looked at.
  private static let keptElements = 64

  /// One thing wrong.
  static func mutate(_ bytes: inout [UInt8], _ random: inout SplitMix64) {
    let places = places(in: bytes)
    guard !places.isEmpty else { return FlatBufferMutator.mutate(&bytes, &random) }
    switch random.below(12) {
    case 0, 1, 2: breakNumber(pick(places.fields, &random), in: &bytes, &random)
    case 3: breakEntry(places.entries, in: &bytes, &random)
    case 4: redirect(places.tables, in: &bytes, &random)
    case 5: redirect(places.vectors, in: &bytes, &random)
    case 6: redirect(places.texts, in: &bytes, &random)
    case 7: breakLength(places.vectors + places.texts, in: &bytes, &random)
    case 8, 9: breakNumber(pick(places.elements, &random), in: &bytes, &random)
    case 10: breakText(places.texts, in: &bytes, &random)
    default: FlatBufferMutator.mutate(&bytes, &random)
    }
  }

  private static func pick(_ places: [Int], _ random: inout SplitMix64) -> Int? {
    places.isEmpty ? nil : places[random.below(places.count)]
  }

  private static func breakNumber(_ place: Int?, in bytes: inout [UInt8], _ random: inout SplitMix64) {
    guard let place else { return }
    let width = [1, 4, 4, 8][random.below(4)]
    let old = bytes.little(place, width)
    let values = [
      old &+ random.below(5) &- 2, edges[random.below(edges.count)], 0 &- edges[random.below(edges.count)],
      random.below(200), old ^ 1 << random.below(8 * width), random.below(8),
    ]
    bytes.setLittle(values[random.below(values.count)], place, width)
  }

  /// Takes a field away, or lets it be another one of its table.
  private static func breakEntry(_ entries: [Int], in bytes: inout [UInt8], _ random: inout SplitMix64) {
    guard let place = pick(entries, &random) else { return }
    let other = place + 2 * (random.below(7) - 3)
    bytes.setLittle(random.below(2) == 0 ? 0 : bytes.little(other, 2), place, 2)
  }

  /// Lets an offset lead where another of the same kind leads, if that lies behind it.
  private static func redirect(_ places: [Int], in bytes: inout [UInt8], _ random: inout SplitMix64) {
    guard let place = pick(places, &random) else { return }
    for _ in 0..<8 {
      guard let other = pick(places, &random) else { return }
      let target = other + bytes.little(other, 4)
      if target > place { return bytes.setLittle(target - place, place, 4) }
    }
  }

  private static func breakLength(_ places: [Int], in bytes: inout [UInt8], _ random: inout SplitMix64) {
    guard let place = pick(places, &random) else { return }
    let target = place + bytes.little(place, 4)
    let old = bytes.little(target, 4)
    let values = [old + 1, old - 1, old / 2, old * 2, 0, 1, edges[random.below(edges.count)]]
    bytes.setLittle(values[random.below(values.count)], target, 4)
  }

  private static func breakText(_ places: [Int], in bytes: inout [UInt8], _ random: inout SplitMix64) {
    guard let place = pick(places, &random) else { return }
    let start = place + bytes.little(place, 4) + 4
    let count = bytes.little(start - 4, 4)
    guard count > 0, start + count < bytes.count else { return }
    switch random.below(3) {
    case 0: bytes[start + random.below(count)] = UInt8(32 + random.below(96))
    case 1: bytes[start + random.below(count)] = UInt8(random.below(2) * 255)
    default:
      // Another text, as far as there is room.
      guard let other = pick(places, &random) else { return }
      let source = other + bytes.little(other, 4) + 4
      let length = min(count, bytes.little(source - 4, 4))
      guard length >= 0, source + length <= bytes.count else { return }
      let text = Array(bytes[source..<source + length])
      for (index, byte) in text.enumerated() { bytes[start + index] = byte }
      bytes.setLittle(length, start - 4, 4)
      if start + length < bytes.count { bytes[start + length] = 0 }
    }
  }

  // MARK: - The walk

  private static func places(in bytes: [UInt8]) -> Places {
    var places = Places()
    var seen: Set<Int> = []
    var open = [bytes.little(0, 4)]
    while let table = open.popLast(), seen.count < maximumTables {
      guard let size = vtable(at: table, bytes), seen.insert(table).inserted else { continue }
      for entry in stride(from: size.lowerBound + 4, to: size.upperBound, by: 2) {
        places.entries.append(entry)
        let offset = bytes.little(entry, 2)
        if offset >= 4 { look(at: table + offset, bytes, &places, &open) }
      }
    }
    return places
  }

  /// Sorts the field, or the element of a vector, at `place`.
  private static func look(at place: Int, _ bytes: [UInt8], _ places: inout Places, _ open: inout [Int]) {
    let offset = bytes.little(place, 4)
    let target = place + offset
    guard offset >= 4, target + 4 <= bytes.count else { return places.fields.append(place) }
    if vtable(at: target, bytes) != nil {
      places.tables.append(place)
      open.append(target)
      return
    }
    let count = bytes.little(target, 4)
    guard count <= bytes.count - target - 4 else { return places.fields.append(place) }
    if count > 0, target + 4 + count < bytes.count, bytes[target + 4 + count] == 0,
      bytes[target + 4..<target + 4 + count].allSatisfy({ (0x20..<0x7F).contains($0) })
    {
      places.texts.append(place)
      return
    }
    places.vectors.append(place)
    for index in 0..<min(count, keptElements) {
      let element = target + 4 + 4 * index
      guard element + 4 <= bytes.count else { return }
      let inner = element + bytes.little(element, 4)
      if inner > element, inner + 4 <= bytes.count, vtable(at: inner, bytes) != nil {
        places.tables.append(element)
        open.append(inner)
      } else {
        places.elements.append(element)
      }
    }
  }

  /// The vtable of the table at `position`; nil if there seems to be no table.
  private static func vtable(at position: Int, _ bytes: [UInt8]) -> Range<Int>? {
    guard position >= 4, position + 4 <= bytes.count else { return nil }
    let start = position - Int(Int32(truncatingIfNeeded: bytes.little(position, 4)))
    guard start >= 4, start + 4 <= bytes.count else { return nil }
    let (size, tableSize) = (bytes.little(start, 2), bytes.little(start + 2, 2))
    guard size >= 4, size % 2 == 0, size <= 256, start + size <= bytes.count, tableSize >= 4,
      position + tableSize <= bytes.count
    else { return nil }
    let entries = stride(from: start + 4, to: start + size, by: 2)
    return entries.allSatisfy { bytes.little($0, 2) < tableSize } ? start..<start + size : nil
  }
}
