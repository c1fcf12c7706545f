// Zip archives: what Python's zipfile writes, what is written here, and every way in which an archive can lie.

import ApusContainers
import ApusTensor
import ApusTestSupport
import Testing

/// An archive made by hand, whose records can be wrong.
struct HandMadeZip {
  struct Entry {
    var name = "a"
    var content: [UInt8] = [1, 2, 3]
    var method = 0
    /// Size after decompression; that of the content if nil.
    var size: Int?
    var checksum: Int?
    var flags = 0
    /// Kind of the file, as Unix has it.
    var mode = 0
    /// What the local header says in place of the same.
    var localName: String?
    var localSize: Int?
    var localMethod: Int?
    /// Where the directory says that the entry begins.
    var offset: Int?
    /// Behind the bytes.
    var trailer: [UInt8] = []
  }

  var entries: [Entry] = []
  var count: Int?
  var directoryStart: Int?
  var comment: [UInt8] = []
  var prefix: [UInt8] = []
  var suffix: [UInt8] = []

  static func little(_ value: Int, _ width: Int) -> [UInt8] {
    (0..<width).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
  }

  static func checksum(_ bytes: [UInt8]) -> Int {
    var state = ~UInt32(0)
    for byte in bytes {
      state ^= UInt32(byte)
      for _ in 0..<8 { state = state & 1 == 1 ? state >> 1 ^ 0xEDB8_8320 : state >> 1 }
    }
    return Int(~state)
  }

  var bytes: [UInt8] {
    var bytes = prefix
    var directory: [UInt8] = []
    for entry in entries {
      let size = entry.size ?? entry.content.count
      let checksum = entry.checksum ?? Self.checksum(entry.content)
      func common(_ size: Int, _ method: Int) -> [UInt8] {
        Self.little(20, 2) + Self.little(entry.flags, 2) + Self.little(method, 2) + Self.little(0, 4)
          + Self.little(checksum, 4) + Self.little(entry.content.count, 4) + Self.little(size, 4)
      }
      let (name, localName) = (Array(entry.name.utf8), Array((entry.localName ?? entry.name).utf8))
      directory += Self.little(0x0201_4B50, 4) + Self.little(3 << 8 | 20, 2) + common(size, entry.method)
      directory += Self.little(name.count, 2) + Self.little(0, 2) + Self.little(0, 2) + Self.little(0, 2)
      directory += Self.little(0, 2) + Self.little(entry.mode << 16, 4)
      directory += Self.little(entry.offset ?? bytes.count, 4) + name
      bytes += Self.little(0x0403_4B50, 4) + common(entry.localSize ?? size, entry.localMethod ?? entry.method)
      bytes += Self.little(localName.count, 2) + Self.little(0, 2) + localName + entry.content + entry.trailer
    }
    let start = bytes.count
    bytes += directory + Self.little(0x0605_4B50, 4) + Self.little(0, 4)
    for _ in 0..<2 { bytes += Self.little(count ?? entries.count, 2) }
    bytes += Self.little(directory.count, 4) + Self.little(directoryStart ?? start, 4)
    return bytes + Self.little(comment.count, 2) + comment + suffix
  }

  func archive(_ rules: ZipRules = .files, _ limits: LoadLimits = LoadLimits()) throws(LoadError) -> ZipArchive {
    try ZipArchive(FileBytes(copying: bytes), rules: rules, limits: limits)
  }

  /// An archive of one entry.
  init(_ change: (inout Entry) -> Void = { _ in }) {
    var entry = Entry()
    change(&entry)
    entries = [entry]
  }
}

@Suite struct ZipTests {
  private func bytes(_ archive: ZipArchive, _ entry: ZipArchive.Entry) throws -> [UInt8] {
    let (file, range) = try archive.contents(of: entry)
    var streamed: [UInt8] = []
    try archive.forEachPart(of: entry) { part in
      for index in part.indices { streamed.append(part[index]) }
    }
    let whole = try file.part(range).all
    #expect(whole == streamed, "\(entry.name)")
    return whole
  }

  /// The bytes of zipfile's archives are those of the files; stored entries are ranges of the file.
  @Test(arguments: ["plain.zip", "streamed.zip"], [false, true])
  func readsWhatPythonWrites(_ name: String, inParts: Bool) throws {
    let archive = try ZipArchive(Samples.file(name, reading: inParts ? .ranges : .everything))
    #expect(
      archive.entries.map(\.name) == ["folder/", "folder/text.txt", "noise.bin", "empty", "雨燕.json", "large.bin"])
    #expect(try bytes(archive, archive.entry("folder/text.txt")) == Samples.text)
    let noise = try archive.entry("noise.bin")
    #expect(try !noise.isDeflated && bytes(archive, noise).count == 700)
    #expect(try Array(Samples.bytes(name)[noise.range]) == bytes(archive, noise))
    #expect(try bytes(archive, archive.entry("large.bin")) == Array(bytes(archive, noise)[..<100]))
    #expect(try bytes(archive, archive.entry("empty")) == [])
    #expect(try bytes(archive, archive.entry("雨燕.json")) == Array("{}".utf8))
    #expect(archive.entries[0].isFolder && archive["nothing"] == nil)
    #expect(message { _ = try archive.entry("nothing") }.contains("no entry 'nothing'; it has 'folder/'"))
  }

  /// Archives of torch: sizes behind the bytes, stored entries at multiples of 64, the records of zip64 always.
  @Test func readsWhatTorchWrites() throws {
    let archive = try ZipArchive(Samples.file("traced.pt"))
    #expect(archive.entries.count == 10 && archive.entries[0].name == "jit/data.pkl")
    for entry in archive.entries {
      try archive.check(entry)
      #expect(entry.isDeflated || entry.alignment >= 64, "\(entry.name)")
    }
    let code = try bytes(archive, archive.entry("jit/code/__torch__.py"))
    #expect(String(decoding: code, as: UTF8.self).contains("class M(Module)"))
  }

  @Test(arguments: [1, 64, 4096])
  func isReadBack(_ alignment: Int) throws {
    let path = TemporaryFolder.shared.path("written-\(alignment).zip")
    var random = TestRandom(seed: 3)
    let contents = [0, 1, 63, 64, 65, 70_000, 300_000].map { count in
      (0..<count).map { _ in UInt8(random.below(count % 2 == 0 ? 256 : 3)) }
    }
    var writer = try ZipWriter(path: path, alignment: alignment)
    for (index, content) in contents.enumerated() {
      try writer.add("stored/\(index)", content)
      try writer.add("deflated/\(index)", content, isDeflated: true)
    }
    #expect(throws: LoadError.self) { try writer.add("stored/0", []) }
    try writer.commit()
    for reading in [FileBytes.Reading.everything, .ranges, .mapped] {
      let archive = try ZipArchive(FileBytes.open(path: path, reading: reading))
      for (index, content) in contents.enumerated() {
        let (stored, deflated) = (try archive.entry("stored/\(index)"), try archive.entry("deflated/\(index)"))
        #expect(try bytes(archive, stored) == content && bytes(archive, deflated) == content)
        #expect(stored.alignment >= alignment && deflated.isDeflated && !stored.isDeflated)
        if content.count > 1000 { #expect(deflated.range.count < content.count + content.count / 1000 + 64) }
      }
    }
  }

  @Test func readsCommentsAndNothing() throws {
    #expect(try HandMadeZip().archive().entries.count == 1)
    var zip = HandMadeZip()
    zip.comment = Array("PK\u{5}\u{6} said twice".utf8)
    #expect(try zip.archive().entries[0].name == "a")
    zip.entries = []
    #expect(try zip.archive().entries.isEmpty)
  }

  /// For each rule an archive that breaks it alone.
  private static let lies: [(String, HandMadeZip)] = {
    func zip(_ change: (inout HandMadeZip) -> Void) -> HandMadeZip {
      var zip = HandMadeZip()
      change(&zip)
      return zip
    }
    let two = zip { $0.entries = [.init(name: "a"), .init(name: "b")] }
    var bomb = HandMadeZip { $0.method = 8 }
    (bomb.entries[0].size, bomb.entries[0].content) = (3 << 20, [UInt8](repeating: 0, count: 5000))
    return [
      ("differ", HandMadeZip { $0.localName = "b" }), ("differ", HandMadeZip { $0.localSize = 4 }),
      ("differ", HandMadeZip { $0.localMethod = 8 }), ("two sizes", HandMadeZip { $0.size = 4 }),
      ("encrypted", HandMadeZip { $0.flags = 1 }), ("encrypted", HandMadeZip { $0.flags = 1 << 6 }),
      ("method 12", HandMadeZip { $0.method = 12 }), ("no path below", HandMadeZip { $0.name = "/a" }),
      ("no path below", HandMadeZip { $0.name = "a/../b" }), ("no path below", HandMadeZip { $0.name = "..\\b" }),
      ("no path below", HandMadeZip { $0.name = "C:b" }), ("no path below", HandMadeZip { $0.name = "" }),
      ("no path below", HandMadeZip { $0.name = "a\0b" }), ("folder and has", HandMadeZip { $0.name = "a/" }),
      ("symbolic link", HandMadeZip { $0.mode = 0o120777 }), ("regular file", HandMadeZip { $0.mode = 0o020666 }),
      ("behind the entry", HandMadeZip { $0.flags = 8 }), ("at most 200 times", bomb),
      ("where the directory says", HandMadeZip { $0.offset = 2 }), ("cut off", HandMadeZip { $0.offset = 1 << 30 }),
      ("two entries", zip { $0.entries = [.init(), .init()] }),
      ("overlap", zip { $0.entries = [.init(), .init(name: "a", offset: 0)] }),
      ("should", zip { $0.directoryStart = 3 }), ("should", zip { $0.count = 60_000 }),
      (
        "should",
        zip {
          $0.prefix = [1]; $0.directoryStart = 34
        }
      ), ("follow the end", zip { $0.suffix = [1] }),
      (
        "more than the 1",
        zip {
          $0.entries = two.entries; $0.count = 1
        }
      ),
      (
        "directory of the archive is damaged",
        zip {
          $0.count = 2; $0.entries[0].name = String(repeating: "n", count: 60)
        }
      ),
    ]
  }()

  @Test(arguments: lies.indices)
  func refuses(_ index: Int) {
    let (expected, zip) = Self.lies[index]
    let message = message { _ = try zip.archive() }
    #expect(message.contains(expected), "\(index): \(message)")
  }

  /// The checksum and the compressed bytes are looked at when an entry is read.
  @Test func refusesBrokenContents() throws {
    let stored = try HandMadeZip { $0.checksum = 7 }.archive()
    #expect(message { try stored.check(stored.entries[0]) }.contains("entry 'a': the checksum is wrong"))
    #expect(try stored.contents(of: stored.entries[0], checks: false).range.count == 3)
    // A last block of the fixed code that holds nothing but its end: 3 bits and 7.
    let nothing: [UInt8] = [3, 0]
    let cases: [(String, HandMadeZip)] = [
      ("0 come out", HandMadeZip { ($0.method, $0.content, $0.size) = (8, nothing, 5) }),
      ("no error", HandMadeZip { ($0.method, $0.content, $0.size, $0.checksum) = (8, nothing, 0, 0) }),
      ("bytes follow the end", HandMadeZip { ($0.method, $0.content, $0.size) = (8, nothing + [9], 0) }),
      ("damaged", HandMadeZip { ($0.method, $0.content, $0.size) = (8, [7], 5) }),
      ("0 come out", HandMadeZip { ($0.method, $0.content, $0.size) = (8, [], 5) }),
      // A stored block of one byte where none was announced, and its checksum.
      ("more come out", HandMadeZip { ($0.method, $0.content, $0.size) = (8, [1, 1, 0, 254, 255, 65], 0) }),
      ("wrong", HandMadeZip { ($0.method, $0.content, $0.size) = (8, [1, 1, 0, 254, 255, 65], 1) }),
    ]
    for (expected, zip) in cases {
      let archive = try zip.archive()
      let (whole, parts) = (
        message { _ = try archive.contents(of: archive.entries[0]) }, message { try archive.check(archive.entries[0]) }
      )
      #expect(whole.contains(expected) && parts.contains(expected), "\(whole); \(parts)")
    }
  }

  @Test func keepsToLimits() throws {
    var limits = LoadLimits()
    limits.maximumDecodedBytes = Samples.text.count - 1
    #expect(message { _ = try ZipArchive(Samples.file("plain.zip"), limits: limits) }.contains("maximumDecodedBytes"))
    var rules = ZipRules.files
    rules.maximumEntries = 1
    var zip = HandMadeZip()
    zip.entries.append(.init(name: "b"))
    #expect(message { _ = try zip.archive(rules) }.contains("2 entries; at most 1"))
    // In archives of arrays names are no paths.
    #expect(try HandMadeZip { $0.name = "/model/../x" }.archive(.arrays).entries[0].name == "/model/../x")
  }

  @Test func survivesEveryTruncationAndBitFlip() throws {
    for name in ["plain.zip", "streamed.zip"] {
      let bytes = try Samples.bytes(name)
      for length in bytes.indices {
        #expect(throws: LoadError.self) { try ZipArchive(FileBytes(copying: bytes[..<length])) }
      }
      for position in bytes.indices {
        var broken = bytes
        broken[position] ^= 1 << UInt8(position % 8)
        guard let archive = try? ZipArchive(FileBytes(copying: broken)) else { continue }
        for entry in archive.entries { try? archive.check(entry) }
      }
    }
  }

  /// Large sizes and many entries need the numbers of zip64; the file is sparse, the entry as large as it says.
  @Test func readsArchivesOfManyEntries() throws {
    let path = TemporaryFolder.shared.path("many.zip")
    var writer = try ZipWriter(path: path, alignment: 1)
    for index in 0..<65_535 { try writer.add("\(index)", []) }
    try writer.commit()
    #expect(try ZipArchive(FileBytes.open(path: path)).entries.count == 65_535)
  }
}
