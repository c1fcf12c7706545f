// Ways to break files of models that are archives or HDF5 files around texts and weights.

import ApusContainers
import ApusOperators

enum ArchiveMutator {
  /// Breaks an entry of an archive by what it is, and packs it again.
  static func mutate(_ bytes: inout [UInt8], _ random: inout SplitMix64) {
    if random.below(6) == 0 { return ZipMutator.mutate(&bytes, &random) }
    guard var entries = TorchMutator.entries(bytes), !entries.isEmpty else { return }
    let texts = entries.indices.filter { entries[$0].name.hasSuffix(".json") && entries[$0].bytes.count > 2 }
    let other = random.below(entries.count)
    switch random.below(12) {
    case 0: entries[other].bytes.removeLast(random.below(entries[other].bytes.count + 1))
    case 1: entries[other].bytes += [UInt8](repeating: 1, count: random.below(64))
    case 2: entries.remove(at: other)
    case 3: entries[other].name = entries[random.below(entries.count)].name + ["", "1", "/x"][random.below(3)]
    case 4: entries[other].bytes = entries[random.below(entries.count)].bytes
    case 5: breakContent(&entries[other], &random)
    default:
      guard let text = texts.isEmpty ? nil : texts[random.below(texts.count)] else { return }
      JSONMutator.mutate(&entries[text].bytes, &random)
    }
    bytes = StoredZip.encode(entries)
  }

  private static func breakContent(_ entry: inout (name: String, bytes: [UInt8]), _ random: inout SplitMix64) {
    if entry.name.hasSuffix(".json") {
      TextMutator.mutate(&entry.bytes, &random)
    } else if HDF5File.isHDF5(ByteView(entry.bytes)) {
      HDF5Mutator.mutate(&entry.bytes, &random)
    } else {
      PickleMutator.mutate(&entry.bytes, &random)
    }
  }
}

enum KerasFileMutator {
  /// Breaks the structure of an HDF5 file, or the configuration of the model in it, whose length stays.
  static func mutate(_ bytes: inout [UInt8], _ random: inout SplitMix64) {
    guard random.below(3) > 0, let range = configuration(in: bytes) else { return HDF5Mutator.mutate(&bytes, &random) }
    let old = Array(bytes[range])
    for _ in 0..<8 {
      var text = old
      JSONMutator.mutate(&text, &random)
      guard text.count <= old.count else { continue }
      text += [UInt8](repeating: 0x20, count: old.count - text.count)
      bytes.replaceSubrange(range, with: text)
      return
    }
  }

  /// The text of the model's configuration, from its first brace to the one that closes it.
  private static func configuration(in bytes: [UInt8]) -> Range<Int>? {
    guard let start = bytes.places(of: Array("{\"class_name\"".utf8)).first else { return nil }
    var depth = 0
    for position in start..<bytes.count {
      if bytes[position] == 0x7B { depth += 1 }
      if bytes[position] == 0x7D { depth -= 1 }
      if depth == 0 { return start..<position + 1 }
    }
    return nil
  }
}
