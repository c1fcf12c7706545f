// Ways to break HDF5 files, FlatBuffers, pickles, files of PyTorch and models as text, each with what it knows of them.

import ApusContainers
import ApusOperators

extension [UInt8] {
  /// Another number of 1 to 8 bytes at `position`: near the old one, in the file, or on an edge.
  fileprivate mutating func breakNumber(at position: Int, _ random: inout SplitMix64) {
    let width = [1, 2, 4, 8][random.below(4)]
    let old = little(position, width)
    let value =
      switch random.below(4) {
      case 0: old &+ random.below(9) &- 4
      case 1: old ^ 1 << random.below(8 * width)
      case 2: random.below(count + 1)
      default: edges[random.below(edges.count)]
      }
    setLittle(value, position, width)
  }

  /// A range from `position` on, of at most `longest` bytes.
  fileprivate func range(from position: Int, longest: Int, _ random: inout SplitMix64) -> Range<Int> {
    position..<Swift.min(count, position + 1 + random.below(longest))
  }
}

enum HDF5Mutator {
  private static let signatures = [
    "TREE", "SNOD", "HEAP", "GCOL", "OHDR", "OCHK", "FAHD", "FADB", "EAHD", "EAIB", "EASB", "EADB", "\u{89}HDF",
  ].map { $0.unicodeScalars.map { UInt8($0.value) } }

  /// Numbers behind the signatures of structures and in headers of objects, which have none; addresses that lead to
  /// other structures.
  static func mutate(_ bytes: inout [UInt8], _ random: inout SplitMix64) {
    guard bytes.count > 100 else { return }
    let places = bytes.places(of: signatures[random.below(signatures.count)])
    guard random.below(4) > 0, !places.isEmpty else { return bytes.breakNumber(at: random.below(bytes.count), &random) }
    let place = places[random.below(places.count)] + 4 + random.below(40)
    let others = bytes.places(of: signatures[random.below(signatures.count)])
    if random.below(4) == 0, !others.isEmpty {
      bytes.setLittle(others[random.below(others.count)], place, 8)
    } else {
      bytes.breakNumber(at: place, &random)
    }
  }
}

enum FlatBufferMutator {
  /// Offsets, lengths and entries of vtables lie at multiples of two bytes.
  static func mutate(_ bytes: inout [UInt8], _ random: inout SplitMix64) {
    guard bytes.count > 16 else { return }
    let position = random.below(bytes.count / 2) * 2
    if random.below(4) > 0 { return bytes.breakNumber(at: position, &random) }
    // An offset to a place that another one leads to.
    let other = random.below(bytes.count / 4) * 4
    bytes.setLittle(other &+ bytes.little(other, 4) &- position, position, 4)
  }
}

enum PickleMutator {
  private static let opcodes = Array("(.012FIJKLMNPQRSTUVXabcdeghijlopqrstu})]GBC\u{80}".unicodeScalars).map {
    UInt8($0.value)
  }

  static func mutate(_ bytes: inout [UInt8], _ random: inout SplitMix64) {
    guard !bytes.isEmpty else { return }
    let position = random.below(bytes.count)
    switch random.below(7) {
    case 0: bytes[position] = opcodes[random.below(opcodes.count)]
    case 1: bytes.insert(opcodes[random.below(opcodes.count)], at: position)
    case 2: bytes[position] = UInt8(0x80 + random.below(0x19))
    case 3: bytes.remove(at: position)
    case 4:
      let part = Array(bytes[bytes.range(from: position, longest: 40, &random)])
      for _ in 0...random.below(20) { bytes.insert(contentsOf: part, at: position) }
    case 5:
      let other = random.below(bytes.count)
      let part = Array(bytes[bytes.range(from: other, longest: 40, &random)])
      bytes.replaceSubrange(bytes.range(from: position, longest: 40, &random), with: part)
    default: bytes.breakNumber(at: position, &random)
    }
  }
}

enum TorchMutator {
  /// Breaks an entry of an archive and packs it again, so that what reads the entry sees the damage; what is no archive
  /// is broken as a pickle near its beginning, or before its storages.
  static func mutate(_ bytes: inout [UInt8], _ random: inout SplitMix64) {
    guard var entries = entries(bytes), !entries.isEmpty else { return PickleMutator.mutate(&bytes, &random) }
    let pickle = entries.firstIndex { $0.name.hasSuffix("data.pkl") } ?? 0
    let other = random.below(entries.count)
    switch random.below(8) {
    case 0: entries[other].bytes.removeLast(random.below(entries[other].bytes.count + 1))
    case 1: entries[other].bytes += [UInt8](repeating: 1, count: random.below(64))
    case 2: entries.remove(at: other)
    case 3: entries[other].name = entries[random.below(entries.count)].name + ["", "1", "/data.pkl"][random.below(3)]
    default: PickleMutator.mutate(&entries[pickle].bytes, &random)
    }
    bytes = StoredZip.encode(entries)
  }

  /// The entries of an archive that can be read.
  static func entries(_ bytes: [UInt8]) -> [(name: String, bytes: [UInt8])]? {
    do throws(LoadError) {
      let archive = try ZipArchive(FileBytes(copying: bytes))
      var entries: [(name: String, bytes: [UInt8])] = []
      for entry in archive.entries {
        let (file, range) = try archive.contents(of: entry, checks: false)
        entries.append((entry.name, file.bytes(in: range)))
      }
      return entries
    } catch {
      return nil
    }
  }
}

/// Archives without compression.
enum StoredZip {
  static func encode(_ entries: [(name: String, bytes: [UInt8])]) -> [UInt8] {
    func number(_ value: Int, _ width: Int) -> [UInt8] {
      (0..<width).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }
    var (output, directory): ([UInt8], [UInt8]) = ([], [])
    for (name, bytes) in entries {
      let text = Array(name.utf8)
      // Version, flags (names are UTF-8), method, time and date, checksum, both sizes, lengths of name and extra.
      let common =
        number(20, 2) + number(0x800, 2) + number(0, 6) + number(Checksum.crc32(bytes[...]), 4)
        + number(bytes.count, 4) + number(bytes.count, 4) + number(text.count, 2) + number(0, 2)
      directory += [0x50, 0x4B, 1, 2] + number(20, 2) + common + number(0, 10) + number(output.count, 4) + text
      output += [0x50, 0x4B, 3, 4] + common + text + bytes
    }
    let end = number(0, 4) + number(entries.count, 2) + number(entries.count, 2)
    return output + directory + [0x50, 0x4B, 5, 6] + end + number(directory.count, 4) + number(output.count, 4)
      + number(0, 2)
  }
}

enum TextMutator {
  private static let texts = [
    "18446744073709551616", "-1", "1e999", "nan", "0x10", "{", "}", "[", "]", "<", ">", "\"", "'", "\\", ",", ":", "=>",
    "graph {", "{\"graph\":", "\"\\ud800\"", "null", "#", "/*", "\u{FF}", "\"a\"", "float[", "9223372036854775807",
  ].map { Array($0.utf8) }

  private static func isWord(_ byte: UInt8) -> Bool {
    switch byte {
    case 48..<58, 65..<91, 97..<123, 95, 45, 46: true
    default: false
    }
  }

  /// The word that the byte at `position` belongs to, or that byte alone.
  private static func word(_ bytes: [UInt8], at position: Int) -> Range<Int> {
    guard isWord(bytes[position]) else { return position..<position + 1 }
    var (start, end) = (position, position + 1)
    while start > 0, isWord(bytes[start - 1]) { start -= 1 }
    while end < bytes.count, isWord(bytes[end]) { end += 1 }
    return start..<end
  }

  /// Words, numbers and marks in the place of others, gone, doubled, or in each other hundreds of times.
  static func mutate(_ bytes: inout [UInt8], _ random: inout SplitMix64) {
    guard !bytes.isEmpty else { return }
    let position = random.below(bytes.count)
    let word = word(bytes, at: position)
    switch random.below(8) {
    case 0: bytes.removeSubrange(word)
    case 1: bytes.insert(contentsOf: bytes[word], at: position)
    case 2, 3: bytes.replaceSubrange(word, with: texts[random.below(texts.count)])
    case 4: bytes.replaceSubrange(word, with: bytes[Self.word(bytes, at: random.below(bytes.count))])
    case 5:
      let part = Array(bytes[bytes.range(from: position, longest: 200, &random)])
      bytes.insert(contentsOf: part, at: random.below(bytes.count))
    case 6:
      let text = texts[random.below(texts.count)]
      bytes.insert(contentsOf: (0..<1 << random.below(10)).flatMap { _ in text }, at: position)
    default: bytes.removeSubrange(bytes.range(from: position, longest: 60, &random))
    }
  }
}
