// Files compressed by gzip.

import ApusContainers
import ApusTestSupport
import Testing

@Suite struct GzipTests {
  @Test func readsMembersOneAfterTheOther() throws {
    for reading in [FileBytes.Reading.everything, .ranges] {
      let bytes = try Gzip.decode(Samples.file("text.gz", reading: reading)).all
      #expect(Array(bytes[..<Samples.text.count]) == Samples.text && bytes.count == Samples.text.count + 700)
    }
  }

  @Test func refusesWhatIsBroken() throws {
    let bytes = try Samples.bytes("text.gz")
    func decode(_ bytes: [UInt8]) -> String { message { _ = try Gzip.decode(FileBytes(copying: bytes)) } }
    #expect(decode([1, 2, 3]).contains("a gzip file was expected"))
    #expect(decode([]).contains("cut off"))
    #expect(decode(bytes + [1]).contains("bytes follow"))
    // The first member ends where the second begins; the zeros at the end may be fewer.
    var ends: [Int] = []
    for length in 1..<bytes.count where decode(Array(bytes[..<length])) == "no error" { ends.append(length) }
    #expect(ends.count == 1 + 512 && ends.last == bytes.count - 1)
    var flips = 0
    for position in 0..<bytes.count - 512 {
      var broken = bytes
      broken[position] ^= 1 << UInt8(position % 8)
      if decode(broken) != "no error" { flips += 1 }
    }
    // A few bytes of the header (time, system) say nothing that is checked.
    #expect(flips > bytes.count - 512 - 40)
  }

  @Test func keepsToLimits() throws {
    var limits = LoadLimits()
    limits.maximumDecodedBytes = 1000
    #expect(message { _ = try Gzip.decode(Samples.file("text.gz"), limits: limits) }.contains("maximumDecodedBytes"))
    limits.maximumDecodedBytes = 1 << 30
    limits.maximumLoadMemory = 2000
    #expect(
      message {
        _ = try Gzip.decode(FileBytes.open(path: Samples.path("text.gz"), limits: limits), limits: limits)
      }.contains("maximumLoadMemory"))
  }
}
