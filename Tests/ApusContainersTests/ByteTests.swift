// Views and readers of bytes: numbers at any place, and no place that traps.

import ApusContainers
import Testing

@Suite struct ByteTests {
  @Test func readsNumbersAtAnyPlace() throws {
    let view = ByteView([0xFF, 1, 2, 3, 4, 5, 6, 7, 8, 0xFE])
    #expect(try view.u16(1) == 0x0201)
    #expect(try view.u32(1) == 0x0403_0201)
    #expect(try view.u64(1) == 0x0807_0605_0403_0201)
    #expect(try view.unsigned(1, bytes: 3, "") == 0x03_0201)
    #expect(try ByteView([0x40, 0x09, 0x21, 0xFB, 0x54, 0x44, 0x2D, 0x18]).bigFloat64(0) == .pi)
    #expect(try view.slice(2, 3, "").slice(1, 1, "").array == [3])
    #expect(try view.slice(2, 3, "").slice(1, 1, "").fileOffset == 3)
    #expect(try view.slice(10, 0, "").count == 0)
  }

  @Test(arguments: [Int.min, -1, 7, 8, 11, Int.max - 3, Int.max]) func refusesEveryOtherPlace(_ place: Int) throws {
    let view = ByteView([UInt8](repeating: 1, count: 10))
    #expect(throws: LoadError.self) { try view.u32(place) }
    #expect(throws: LoadError.self) { try view.slice(place, 9, "nine bytes") }
    #expect(throws: LoadError.self) { try view.slice(9, place, "many bytes") }
    let error = #expect(throws: LoadError.self) { try view.u64(place, "a length") }
    #expect(error?.message.contains("a length") == true)
  }

  @Test(arguments: [FileBytes.Reading.everything, .ranges, .mapped]) func viewsAreOfTheFile(
    _ reading: FileBytes.Reading
  ) throws {
    let file = try Samples.file("flat.bin", reading: reading)
    let bytes = try Samples.bytes("flat.bin")
    let part = try file.view(5..<40)
    #expect(part.array == Array(bytes[5..<40]) && part.fileOffset == 5)
    #expect(try file.mapped().view().array == bytes && file.view(40..<40).count == 0)
    // Bytes in memory are not copied.
    let whole = try file.mapped()
    let addresses = try [whole.view(), whole.view()].map { $0.withUnsafeBytes(\.baseAddress) }
    #expect(addresses[0] == addresses[1])
  }

  @Test func movesOn() throws {
    var reader = ByteReader(ByteView([1, 2, 0, 65, 66, 0, 9, 9]))
    #expect(try reader.u8() == 1)
    #expect(try reader.u16() == 2)
    #expect(try reader.bytes(upTo: 0, "a name").text == "AB")
    try reader.align(4)
    #expect(reader.isAtEnd && reader.remaining == 0)
    #expect(throws: LoadError.self) { try reader.u8() }
    #expect(throws: LoadError.self) { try reader.bytes(upTo: 0, "a name") }
  }
}
