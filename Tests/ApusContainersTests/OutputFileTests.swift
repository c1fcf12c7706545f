// Files that are written whole or not at all.

import ApusContainers
import ApusTensor
import ApusTestSupport
import Glibc
import Testing

@Suite struct OutputFileTests {
  private func content(_ path: String) throws -> [UInt8] {
    try FileBytes.open(path: path).withBytes { bytes in bytes.indices.map { bytes[$0] } }
  }

  private func names(in folder: String) -> [String] {
    guard let stream = opendir(folder) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      names.append(withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) })
    }
    return names.filter { $0 != "." && $0 != ".." }.sorted()
  }

  @Test func appearsWhenItIsWhole() throws {
    let folder = TemporaryFolder.shared.makeFolder("output-whole")
    let path = folder + "/a"
    var file = try OutputFile(path: path)
    try file.write([1, 2, 3])
    // The temporary file, which has no name where the file system can do that.
    #expect(names(in: folder).allSatisfy { $0 != "a" } && names(in: folder).count <= 1)
    try file.commit()
    #expect(names(in: folder) == ["a"])
    #expect(try content(path) == [1, 2, 3])
  }

  @Test func leavesTheOldFileWithoutCommit() throws {
    let folder = TemporaryFolder.shared.makeFolder("output-dropped")
    let path = folder + "/a"
    try OutputFile.write([7], to: path)
    do {
      var file = try OutputFile(path: path)
      try file.write([1, 2, 3])
    }
    #expect(names(in: folder) == ["a"])
    #expect(try content(path) == [7])
  }

  @Test func replacesAFileThatIsMapped() throws {
    let path = TemporaryFolder.shared.path("output-mapped")
    try OutputFile.write([UInt8](repeating: 7, count: 1 << 16), to: path)
    let mapped = try FileBytes.open(path: path)
    try OutputFile.write([1], to: path)
    #expect(mapped.withBytes { bytes in bytes.indices.allSatisfy { bytes[$0] == 7 } })
    #expect(try content(path) == [1])
  }

  @Test func keepsPermissionsAndLinks() throws {
    let folder = TemporaryFolder.shared.makeFolder("output-links")
    try OutputFile.write([7], to: folder + "/a")
    chmod(folder + "/a", 0o640)
    symlink("a", folder + "/link")
    symlink("link", folder + "/second")
    try OutputFile.write([1], to: folder + "/second")
    #expect(names(in: folder) == ["a", "link", "second"])
    #expect(try content(folder + "/a") == [1])
    var status = stat()
    #expect(lstat(folder + "/link", &status) == 0 && status.st_mode & S_IFMT == S_IFLNK)
    #expect(stat(folder + "/a", &status) == 0 && status.st_mode & 0o777 == 0o640)
    symlink("round", folder + "/round")
    #expect(throws: LoadError.self) { try OutputFile.write([1], to: folder + "/round") }
  }

  @Test func writesDevicesDirectly() throws {
    try OutputFile.write([1], to: "/dev/null")
    #expect(throws: LoadError.self) { try OutputFile.write([1], to: "/dev/full") }
    #expect(throws: LoadError.self) { try OutputFile.write([1], to: "/tmp") }
    #expect(throws: LoadError.self) { try OutputFile.write([1], to: "") }
  }

  @Test func makesFolders() throws {
    let root = TemporaryFolder.shared.makeFolder("output-folders")
    try OutputFolder.make(root + "/a/b/")
    try OutputFolder.make(root + "/a/b")
    try OutputFile.write([1], to: root + "/a/b/c")
    #expect(throws: LoadError.self) { try OutputFolder.make(root + "/a/b/c/d") }
    #expect(throws: LoadError.self) { try OutputFolder.make(root + "/a/b/c") }
  }

  @Test func refusesWhatNumPyCannotHold() throws {
    let folder = TemporaryFolder.shared.makeFolder("output-npy")
    let deep = Tensor([Float(1)], shape: Shape([Int](repeating: 1, count: 30_000)))
    #expect(throws: LoadError.self) { try Npy.write(deep, to: folder + "/deep.npy") }
    let long = Tensor(
      strings: [String(repeating: "a", count: 200_000)] + [String](repeating: "", count: 20_000), shape: [20_001])
    #expect(throws: LoadError.self) { try Npy.write(long, to: folder + "/long.npy") }
    #expect(throws: LoadError.self) { try Npz.write([("long", long)], to: folder + "/long.npz") }
    let zero = Tensor(strings: ["a\0"], shape: [1])
    #expect(throws: LoadError.self) { try Npy.write(zero, to: folder + "/zero.npy") }
    #expect(names(in: folder) == [])
  }
}

@Suite struct TextLineTests {
  private func lines(_ text: String, mark: Bool = false) throws -> [String] {
    try TextLines.lines(((mark ? [0xEF, 0xBB, 0xBF] : []) + Array(text.utf8)).span)
  }

  @Test func endsWithAnyLineEnd() throws {
    for mark in [false, true] {
      #expect(try lines("a\n\nb", mark: mark) == ["a", "", "b"])
      #expect(try lines("a\r\n\r\nb\r\n", mark: mark) == ["a", "", "b"])
      #expect(try lines("\n", mark: mark) == [""])
      #expect(try lines("", mark: mark) == [])
    }
  }

  @Test func saysWhatIsNoText() {
    #expect(throws: LoadError.self) { try TextLines.lines([0xFF, 0xFE, 0x61, 0].span) }
    #expect(throws: LoadError.self) { try TextLines.lines([0x61, 0xFF].span) }
  }
}

@Suite struct ValueJSONTests {
  private func text(_ value: Value) throws -> String {
    let path = TemporaryFolder.shared.path("value-\(UInt64.random(in: 0 ... .max)).json")
    try JSONWriter.write(value, to: path)
    return try FileBytes.open(path: path).withBytes { bytes in
      String(decoding: bytes.indices.map { bytes[$0] }, as: UTF8.self).filter { !$0.isWhitespace }
    }
  }

  @Test func holdsEveryShape() throws {
    #expect(try text(.tensor(Tensor(scalar: Int64(3)))) == "3")
    #expect(try text(.tensor(Tensor([Int32(1), 2, 3, 4], shape: [2, 1, 2]))) == "[[[1,2]],[[3,4]]]")
    #expect(try text(.tensor(Tensor([Float](), shape: [2, 0]))) == "[[],[]]")
    #expect(try text(.tensor(Tensor([Float](), shape: [1 << 40, 0]))) == "[]")
    #expect(try text(.tensor(Tensor([Float](), shape: [0, 1 << 40]))) == "[]")
  }

  @Test func isReadBack() throws {
    let values: [Float] = [.nan, .infinity, -.infinity, 0.1, -0.0, .greatestFiniteMagnitude, .leastNonzeroMagnitude]
    let path = TemporaryFolder.shared.path("again.json")
    try JSONWriter.write(.tensor(Tensor(values)), to: path)
    let again = try TextTensors.json(FileBytes.open(path: path), as: .tensor(.float32, nil)).tensor
    #expect(again?.elements(as: Float.self)?.map(\.bitPattern).dropFirst() == values.map(\.bitPattern).dropFirst())
    #expect(again?.elements(as: Float.self)?.first?.isNaN == true)
    let map = MapValue(
      keys: Tensor([Int64(5), -6]), values: [.tensor(Tensor(scalar: true)), .tensor(Tensor(scalar: false))],
      valueType: .tensor(.bool, nil))
    #expect(try text(.map(map)) == "{\"5\":true,\"-6\":false}")
    #expect(try text(.optional(nil, elementType: .tensor(.bool, nil))) == "null")
    #expect(try text(.tensor(Tensor(strings: ["\"\\\n\u{1}é"], shape: [1]))) == "[\"\\\"\\\\\\n\\u0001é\"]")
  }
}
