// The pieces of compiled models that need no operators: digests, and what is mapped.

import ApusFormats
import ApusTensor
import ApusTestSupport
import Glibc
import Testing

@Suite struct CompiledFormatTests {
  private func digest(_ pieces: [[UInt8]]) -> String {
    var hash = SHA256()
    for piece in pieces { hash.update(piece.span) }
    return hash.finish().map { byte in
      let text = String(byte, radix: 16)
      return text.count < 2 ? "0" + text : text
    }.joined()
  }

  /// The examples of FIPS 180-4.
  @Test func digests() {
    #expect(digest([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    #expect(digest([Array("abc".utf8)]) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    let long = Array("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq".utf8)
    #expect(digest([long]) == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1")
    let million = [UInt8](repeating: UInt8(ascii: "a"), count: 1_000_000)
    #expect(digest([million]) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
    // In pieces of every size.
    for size in [1, 7, 63, 64, 65, 200] {
      let pieces = stride(from: 0, to: long.count, by: size).map { Array(long[$0..<min($0 + size, long.count)]) }
      #expect(digest(pieces) == digest([long]))
    }
  }

  @Test func aMappedFileThatShrinksIsDamagedAndZero() throws {
    let path = TemporaryFolder.shared.write([UInt8](repeating: 7, count: 40_000), "mapped")
    let first = try FileBytes.open(path: path, reading: .mapped)
    let second = try FileBytes.open(path: path, reading: .mapped)
    let bytes = try first.slice(8192..<8200)
    #expect(bytes.base == (try second.slice(8192..<8200)).base, "two openings of one file share the mapping")
    #expect(bytes.base.load(as: UInt8.self) == 7 && !first.isDamaged)
    #expect(truncate(path, 100) == 0)
    #expect(bytes.base.load(as: UInt8.self) == 0)
    #expect(first.isDamaged && second.isDamaged)
    #expect(try first.slice(39_936..<40_000).base.load(as: UInt8.self) == 0)
    // A file of another size is another file.
    let third = try FileBytes.open(path: path, reading: .mapped)
    #expect(third.count == 100 && !third.isDamaged)
  }
}
