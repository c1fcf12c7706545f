// FlatBuffers of the Python library, those that this module writes, and broken ones.

import ApusContainers
import Glibc
import Testing

@Suite struct FlatBufferTests {
  /// Checks the buffer of make_objects.py, `make_flat`.
  private func check(_ buffer: FlatBuffer) throws {
    let root = try buffer.root()
    #expect(try root.int8(0) == -5)
    #expect(try root.uint16(1) == 65535)
    #expect(try root.float32(2) == 1.5)
    #expect(try root.bool(3))
    #expect(try root.string(4) == "雨燕")
    #expect(try root.int32s(5) == [-2, -1, 0, 1, 2])
    #expect(try root.bytes(6)?.array == Array(0..<200))
    let union = try #require(try root.union(7))
    #expect(union.type == 3)
    #expect(try union.value.int64(0) == -(1 << 40))
    #expect(try union.value.float64(1) == 0.25)
    let children = try root.tables(9)
    #expect(try children.map { (table) throws(LoadError) in try table.int64(0) } == [-(1 << 40), 9])
    #expect(try children.last?.float64(1, default: 7) == 7)
    #expect(try root.string(10) == nil && root.bytes(10) == nil && !root.has(10) && root.int32(10, default: 4) == 4)
    #expect(try root.strings(11) == ["雨燕", "swift"])
    #expect(try root.int32(99, default: 3) == 3)
  }

  @Test func readsWhatTheLibraryWrote() throws {
    try check(FlatBuffer(ByteView(Samples.bytes("flat.bin")), identifier: "APTS"))
    let error = #expect(throws: LoadError.self) {
      try FlatBuffer(ByteView(Samples.bytes("flat.bin")), identifier: "TFL3")
    }
    #expect(error?.code == .wrongFormat && error?.message.contains("APTS") == true)
  }

  /// The same buffer, built here.
  private func built() throws(LoadError) -> [UInt8] {
    var builder = FlatBufferBuilder(capacity: 1)
    let name = try builder.sharedString("雨燕")
    var fields = FlatFields()
    fields.set(0, -(1 << 40) as Int64)
    fields.set(1, 0.25)
    let child = try builder.table(fields)
    var other = FlatFields()
    other.set(0, 9 as Int64)
    other.set(1, 0.0)
    let children = try builder.vector([child, builder.table(other)])
    let names = try builder.vector([builder.sharedString("雨燕"), builder.sharedString("swift")])
    var root = FlatFields()
    root.set(11, names)
    root.set(0, -5 as Int8)
    root.set(1, 65535 as UInt16)
    root.set(2, 1.5 as Float)
    root.set(3, true)
    root.set(4, name)
    root.set(5, try builder.vector([-2, -1, 0, 1, 2] as [Int32]))
    root.set(6, try builder.vector(bytes: 0..<200, alignment: 16))
    root.set(7, union: 3, child)
    root.set(9, children)
    root.set(10, nil)
    return try builder.finish(builder.table(root), identifier: "APTS")
  }

  @Test func readsWhatItWrites() throws {
    let bytes = try built()
    if let folder = getenv("APUS_CONTAINER_OUT") { Samples.write(bytes, to: String(cString: folder) + "/written.bin") }
    let buffer = try FlatBuffer(ByteView(bytes), identifier: "APTS")
    try check(buffer)
    #expect(bytes.count % 16 == 0)
    #expect(try buffer.root().bytes(6)?.isAligned(to: 16) == true)
  }

  @Test func writesEveryVectorAndStruct() throws {
    var builder = FlatBufferBuilder()
    var fields = FlatFields()
    fields.set(0, try builder.vector([1, -2] as [Int64]))
    fields.set(1, try builder.vector([0.5, -1] as [Float]))
    fields.set(2, try builder.vector(structures: [1, 2, 3, 4, 5, 6, 7, 8], size: 4, alignment: 2))
    fields.set(3, structure: [9, 0, 0, 0, 8, 0, 0, 0], alignment: 4)
    fields.set(4, try builder.vector([] as [Int32]))
    fields.set(5, try builder.vector(ByteView([3, 4])))
    fields.set(6, 0 as Int32, default: nil)
    let root = try FlatBuffer(ByteView(builder.finish(builder.table(fields)))).root()
    #expect(try root.int64s(0) == [1, -2])
    #expect(try root.float32s(1) == [0.5, -1])
    #expect(try root.vector(2, stride: 4)?.structure(1).array == [5, 6, 7, 8])
    #expect(try root.structure(3, size: 8)?.u32(4) == 8)
    #expect(try root.int32s(4) == [])
    #expect(try root.bytes(5)?.array == [3, 4])
    #expect(try root.has(6))
    #expect(throws: LoadError.self) { _ = try root.vector(2, stride: 4)?.structure(2) }
  }

  /// Reads everything that a buffer without schema may have.
  private func walk(_ table: FlatTable) throws(LoadError) {
    for field in 0..<min(table.fieldCount, 16) {
      _ = try table.int64(field)
      _ = try? table.string(field)
      _ = try? table.int64s(field)
      if let tables = try? table.tables(field) { for table in tables.prefix(8) { try walk(table) } }
      if let child = try? table.table(field) { try walk(child) }
    }
  }

  @Test(arguments: [false, true]) func survivesMutations(_ isBuilt: Bool) throws {
    let seed = isBuilt ? try built() : try Samples.bytes("flat.bin")
    var chance = Chance(state: 8)
    var limits = FlatBuffer.Limits()
    limits.maximumTables = 3000
    var refused = 0
    for _ in 0..<Mutation.count {
      let mutant = Mutation.mutated(seed, structures: Array(stride(from: 0, to: seed.count, by: 4)), &chance)
      do throws(LoadError) {
        try walk(FlatBuffer(ByteView(mutant), limits: limits).root())
      } catch {
        refused += 1
      }
    }
    #expect(refused > Mutation.count / 10)
    for length in 0..<seed.count {
      _ = try? walk(FlatBuffer(ByteView(Array(seed[..<length])), limits: limits).root())
    }
  }

  @Test func boundsDepthAndCount() throws {
    // Offsets lead forward only, so that depth needs as many tables; a vector may name one table many times.
    var builder = FlatBufferBuilder()
    var last = try builder.table(FlatFields())
    for _ in 0..<100 {
      var fields = FlatFields()
      fields.set(0, last)
      last = try builder.table(fields)
    }
    var table = try FlatBuffer(ByteView(builder.finish(last))).root()
    let deep = #expect(throws: LoadError.self) { while let next = try table.table(0) { table = next } }
    #expect(deep?.code == .limitExceeded && deep?.message.contains("deep") == true)

    var wide = FlatBufferBuilder()
    let one = try wide.table(FlatFields())
    var fields = FlatFields()
    fields.set(0, try wide.vector(Array(repeating: one, count: 50)))
    var limits = FlatBuffer.Limits()
    limits.maximumTables = 40
    let root = try FlatBuffer(ByteView(wide.finish(wide.table(fields))), limits: limits).root()
    #expect(#expect(throws: LoadError.self) { try root.tables(0) }?.code == .limitExceeded)
  }

  /// What many offsets lead to counts every time it is read: a small file cannot stand for any amount of memory.
  @Test func whatIsSharedCountsEachTime() throws {
    var builder = FlatBufferBuilder()
    let long = try builder.string(String(repeating: "a", count: 1 << 20))
    let numbers = try builder.vector([Int64](repeating: 7, count: 1 << 17))
    var fields = FlatFields()
    fields.set(0, try builder.vector(Array(repeating: long, count: 300)))
    fields.set(1, numbers)
    let bytes = try builder.finish(builder.table(fields))
    let texts = #expect(throws: LoadError.self) {
      try FlatBuffer(ByteView(bytes)).root().strings(0)
    }
    #expect(texts?.code == .limitExceeded && texts?.message.contains("too many offsets lead to the same") == true)
    var limits = FlatBuffer.Limits()
    limits.maximumStructureBytes = 4 << 20
    let root = try FlatBuffer(ByteView(bytes), limits: limits).root()
    let lists = #expect(throws: LoadError.self) { for _ in 0..<8 { _ = try root.int64s(1) } }
    #expect(lists?.message.contains("LoadLimits.maximumStructureBytes is 4194304") == true)
  }
}
