// What the tests of this target share: sample files with what their own libraries read in them, what tests ask of
// errors, and mutations.

import ApusContainers
import ApusTensor
import ApusTestSupport
import Glibc
import Synchronization
import Testing

enum Samples {
  static let folder = String(#filePath.prefix(upTo: #filePath.lastIndex(of: "/") ?? #filePath.startIndex)) + "/Samples"
  /// A folder with more samples, for a run by hand; see make_objects.py.
  static let more = getenv("APUS_CONTAINER_SAMPLES").map { String(cString: $0) }

  static func path(_ name: String) -> String { name.hasPrefix("/") ? name : folder + "/" + name }

  static func file(_ name: String, reading: FileBytes.Reading = .everything) throws -> FileBytes {
    try FileBytes.open(path: path(name), reading: reading)
  }

  static func bytes(_ name: String) throws -> [UInt8] { try file(name).all }

  /// What make_samples.py puts into archives.
  static let text = Array(String(repeating: "the quick brown swift ", count: 200).utf8)

  static func text(_ path: String) throws -> String { String(decoding: try bytes(path), as: UTF8.self) }

  static func write(_ bytes: [UInt8], to path: String) {
    guard let file = fopen(path, "wb") else { return }
    fwrite(bytes, 1, bytes.count, file)
    fclose(file)
  }

  /// The files that end with `suffix` and have a `.txt` beside them.
  static func described(_ suffix: String) -> [String] {
    [folder, more].compactMap(\.self).flatMap { folder in
      names(in: folder).filter { $0.hasSuffix(suffix) && access(folder + "/" + $0 + ".txt", R_OK) == 0 }
        .sorted().map { folder + "/" + $0 }
    }
  }

  private static func names(in folder: String) -> [String] {
    guard let stream = opendir(folder) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      names.append(
        withUnsafePointer(to: &entry.pointee.d_name) { name in
          name.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        })
    }
    return names
  }

  private static let archives = Mutex(0)

  /// An archive with these entries, in the order of their names.
  static func archive(_ entries: [String: [UInt8]]) throws(LoadError) -> ZipArchive {
    let number = archives.withLock { count in
      count += 1
      return count
    }
    let path = TemporaryFolder.shared.path("archive-\(number).zip")
    var writer = try ZipWriter(path: path)
    for (name, bytes) in entries.sorted(by: { $0.key < $1.key }) { try writer.add(name, bytes) }
    try writer.commit()
    defer { unlink(path) }
    return try ZipArchive(FileBytes.open(path: path))
  }

  /// FNV-1a of 64 bits, in hexadecimal digits.
  static func hash(_ bytes: [UInt8]) -> String {
    var value: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in bytes { value = (value ^ UInt64(byte)) &* 0x100_0000_01B3 }
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }

  /// A line of a description: name, type, shape, hash.
  static func line(_ name: String, _ type: String, _ shape: [Int], _ bytes: [UInt8]) -> String {
    "\(name)\t\(type)\t\(shape.map(String.init).joined(separator: ","))\t\(hash(bytes))"
  }
}

extension FileBytes {
  var all: [UInt8] { bytes(in: 0..<count) }
}

extension Tensor {
  var bytes: [UInt8] { withUnsafeBytes { Array($0) } }
}

/// What an action complains of; "no error" if it does not.
func message(_ body: () throws -> Void) -> String {
  do {
    try body()
    return "no error"
  } catch {
    return "\(error)"
  }
}

/// Numbers by chance, the same on every machine.
struct Chance: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
    return value ^ (value >> 31)
  }
}

/// Ways to break a file.
enum Mutation {
  private static let edges: [UInt64] = [
    0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 40,
    0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000, 0xFFFF_FFFF_FFFF_FFFF,
  ]

  /// One to four things wrong. `structures` are positions where numbers of the format lie: half of what is changed
  /// begins there.
  static func mutated(_ bytes: [UInt8], structures: [Int], _ chance: inout Chance) -> [UInt8] {
    var bytes = bytes
    for _ in 0..<Int.random(in: 1...4, using: &chance) {
      if bytes.isEmpty { break }
      var position = Int.random(in: 0..<bytes.count, using: &chance)
      if let place = structures.randomElement(using: &chance), Bool.random(using: &chance) {
        position = min(max(place + Int.random(in: -4...24, using: &chance), 0), bytes.count - 1)
      }
      switch Int.random(in: 0..<10, using: &chance) {
      case 0, 1: bytes[position] ^= 1 << UInt8.random(in: 0..<8, using: &chance)
      case 2: bytes[position] = UInt8.random(in: 0...255, using: &chance)
      case 3: bytes.removeLast(bytes.count - position)
      case 4: bytes.removeSubrange(position..<min(bytes.count, position + Int.random(in: 1...64, using: &chance)))
      case 5:
        let end = min(bytes.count, position + Int.random(in: 1...256, using: &chance))
        bytes.insert(contentsOf: bytes[position..<end], at: Int.random(in: 0..<bytes.count, using: &chance))
      case 6 where !structures.isEmpty:
        // An address or offset that leads to another structure.
        guard let target = structures.randomElement(using: &chance) else { break }
        put(UInt64(max(target, 0)), 8, at: position, &bytes)
      default:
        let width = [1, 2, 4, 8].randomElement(using: &chance) ?? 4
        put(edges.randomElement(using: &chance) ?? 0, width, at: position, &bytes)
      }
    }
    return bytes
  }

  private static func put(_ value: UInt64, _ width: Int, at position: Int, _ bytes: inout [UInt8]) {
    for index in 0..<width where position + index < bytes.count {
      bytes[position + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * index))
    }
  }

  /// The places of the given signatures.
  static func places(of signatures: [String], in bytes: [UInt8]) -> [Int] {
    let all = signatures.map { Array($0.utf8) }
    return bytes.indices.filter { place in all.contains { bytes[place...].starts(with: $0) } }
  }

  /// How many mutants of each file a test makes; more by APUS_MUTANTS. tools/fuzz_containers.py makes the thousands.
  static var count: Int { getenv("APUS_MUTANTS").flatMap { Int(String(cString: $0)) } ?? 150 }
}
