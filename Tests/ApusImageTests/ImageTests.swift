// Pictures: every format against the formula of the samples, conversion, resizing, and bytes that are no picture.
// Samples/ was written by make_samples.py.

import ApusImage
import Foundation
import Testing

@Suite struct ImageTests {
  static let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Samples")

  static func bytes(_ name: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: folder.appending(path: name))) }

  static func expected(channels: Int) -> [UInt8] {
    var samples: [UInt8] = []
    for row in 0..<5 {
      for column in 0..<7 {
        for channel in 0..<channels { samples.append(UInt8((row * 37 + column * 53 + channel * 91) % 256)) }
      }
    }
    return samples
  }

  /// Whether this build decodes a sample. What it does not decode must be refused with the name of the package trait.
  static func isDecoded(_ name: String) throws -> Bool {
    let bytes = try bytes(name)
    let format = try #require(ImageFormat(signatureOf: bytes))
    if ImageFormat.available.contains(format) { return true }
    let error = #expect(throws: ImageError.self) { try ImageCodec.decode(bytes) }
    #expect(error?.kind == .unavailable && error?.description.contains("package trait") == true)
    return false
  }

  @Test(arguments: ["png", "bmp", "ppm", "tif", "webp", "jp2", "j2k"], [1, 3, 4])
  func lossless(ending: String, channels: Int) throws {
    if channels == 4 && ending == "ppm" || channels == 1 && ending == "webp" { return }
    guard try Self.isDecoded("\(channels).\(ending)") else { return }
    let image = try ImageCodec.decode(try Self.bytes("\(channels).\(ending)"))
    // A 32-bit bitmap without bit fields has no alpha.
    let kept = ending == "bmp" && image.channels == 3 ? min(channels, 3) : channels
    #expect(image.channels == kept && image.height == 5 && image.width == 7)
    let wanted = Image(height: 5, width: 7, channels: channels, pixels: Self.expected(channels: channels))
    #expect(image == wanted.converted(toChannels: kept))
  }

  @Test(arguments: ["3.jpg", "progressive.jpg"]) func lossy(name: String) throws {
    guard try Self.isDecoded(name) else { return }
    let image = try ImageCodec.decode(try Self.bytes(name))
    #expect(image.channels == 3 && image.height == 5 && image.width == 7)
    let differences = zip(image.pixels, Self.expected(channels: 3)).map { abs(Int($0) - Int($1)) }
    #expect(differences.reduce(0, +) / differences.count < 12)
  }

  @Test func plainAndArbitraryMaps() throws {
    #expect(try ImageCodec.decode(Array("P1 # bits\n3 2\n101\n0 1 0".utf8)).pixels == [0, 255, 0, 255, 0, 255])
    #expect(try ImageCodec.decode(Array("P2\n2 1\n10\n0 5".utf8)).pixels == [0, 128])
    #expect(try ImageCodec.decode(Array("P3 1 1 255 1 2 3\n".utf8)).pixels == [1, 2, 3])
    #expect(try ImageCodec.decode(Array("P5 2 1 65535 ".utf8) + [0, 0, 255, 255]).pixels == [0, 255])
    let map = "P7\nWIDTH 1\nHEIGHT 1\nDEPTH 2\nMAXVAL 255\nTUPLTYPE GRAYSCALE_ALPHA\nENDHDR\n"
    #expect(try ImageCodec.decode(Array(map.utf8) + [7, 9]).pixels == [7, 7, 7, 9])
  }

  @Test func runLengths() throws {
    // A bitmap of 4 × 2 with 8 bits: a run of 3 and a literal pixel; a jump of 2 and a run of 2.
    let data: [UInt8] = [3, 1, 1, 2, 0, 0, 0, 2, 2, 0, 2, 3, 0, 1]
    let palette: [UInt8] = [0, 0, 0, 0, 1, 1, 1, 0, 2, 2, 2, 0, 3, 3, 3, 0]
    let sizes: [UInt8] = [40, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 1, 0, 8, 0, 1, 0, 0, 0]
    let zeros = [UInt8](repeating: 0, count: 12)
    var header: [UInt8] = [0x42, 0x4D, 0, 0, 0, 0, 0, 0, 0, 0, 70, 0, 0, 0]
    header += sizes
    header += zeros
    header += [4, 0, 0, 0, 0, 0, 0, 0]
    #expect(try ImageCodec.decode(header + palette + data).pixels == [0, 0, 3, 3, 1, 1, 1, 2])
  }

  @Test func conversion() {
    let image = Image(height: 1, width: 3, channels: 3, pixels: [255, 0, 0, 0, 255, 0, 0, 0, 255])
    #expect(image.converted(toChannels: 1).pixels == [76, 150, 29])
    #expect(image.swappingRedAndBlue().pixels == [0, 0, 255, 0, 255, 0, 255, 0, 0])
    #expect(image.converted(toChannels: 4).pixels == [255, 0, 0, 255, 0, 255, 0, 255, 0, 0, 255, 255])
  }

  @Test func resizing() {
    let image = Image(height: 2, width: 2, channels: 1, pixels: [0, 100, 100, 200])
    #expect(image.resized(height: 2, width: 2) == image)
    #expect(image.resized(height: 1, width: 1).pixels == [100])
    #expect(image.resized(height: 2, width: 4).pixels == [0, 25, 75, 100, 100, 125, 175, 200])
  }

  /// Cut and changed files must give a picture or an error, never a crash or much memory.
  @Test func hostileBytes() throws {
    var state: UInt64 = 1
    func random(_ bound: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % bound
    }
    let limits = ImageLimits(pixels: 1 << 16)
    for name in try FileManager.default.contentsOfDirectory(atPath: Self.folder.path()).sorted() {
      let original = try Self.bytes(name)
      for round in 0..<200 {
        var bytes = original
        if round % 4 == 0 { bytes.removeLast(random(bytes.count)) }
        for _ in 0..<random(6) where !bytes.isEmpty { bytes[random(bytes.count)] = UInt8(random(256)) }
        _ = try? ImageCodec.decode(bytes, limits: limits)
      }
    }
    #expect(throws: ImageError.self) { try ImageCodec.decode([]) }
    #expect(throws: ImageError.self) { try ImageCodec.decode(Array("P6 99999 99999 255 ".utf8)) }
  }
}
