// RIFF WAVE files. http://soundfile.sapp.org/doc/WaveFormat/ and Microsoft's WAVEFORMATEXTENSIBLE.

import Apus
import ApusFormats

/// The sound of a .wav file: PCM of 8 to 32 bits, or float of 32.
struct WaveFile {
  /// Sample rates that are believed.
  static let rateRange = 1...1_000_000

  private enum Coding { case integer, float }

  private let file: FileBytes
  private let name: String
  private let data: Range<Int>
  private let coding: Coding
  private let channels: Int
  /// Bytes of one sample of one channel.
  private let width: Int
  /// Samples a second of each channel.
  let rate: Int
  /// Samples of each channel.
  let frameCount: Int

  /// What stands in the chunk `fmt `.
  private struct Format {
    var code, channels, rate, bits: Int
  }

  init(path: String) throws {
    name = path
    file = try FileBytes.open(path: path)
    let (format, data) = try file.withBytes { bytes in try WaveFile.chunks(bytes, path) }
    self.data = data
    // The container of a sample may have spare bits, at its low end.
    width = (format.bits + 7) / 8
    coding = format.code == 3 ? .float : .integer
    guard format.code == 1 ? (8...32).contains(format.bits) : format.code == 3 && format.bits == 32 else {
      throw InputError(
        "\(path): sound of format \(format.code) with \(format.bits) bits a sample is not read; expected PCM of "
          + "8 to 32 bits, or float of 32")
    }
    guard format.channels > 0, WaveFile.rateRange.contains(format.rate) else {
      throw InputError(
        "\(path): the header says \(format.channels) channels and \(format.rate) samples a second, which cannot be")
    }
    (channels, rate) = (format.channels, format.rate)
    frameCount = data.count / (width * channels)
  }

  /// The first `count` samples, at most all, from -1 to 1, the channels mixed to one.
  func samples(first count: Int) -> [Float] {
    let frames = min(max(count, 0), frameCount)
    return file.withBytes { bytes in
      var samples = [Float](repeating: 0, count: frames)
      for frame in 0..<frames {
        var sum = 0.0
        for channel in 0..<channels { sum += sample(bytes, at: data.lowerBound + (frame * channels + channel) * width) }
        samples[frame] = Float(sum / Double(channels))
      }
      return samples
    }
  }

  private func sample(_ bytes: Span<UInt8>, at offset: Int) -> Double {
    var bits: UInt32 = 0
    for byte in 0..<width { bits |= UInt32(bytes[offset + byte]) << UInt32(8 * byte) }
    switch coding {
    case .float: return Double(Float(bitPattern: bits))
    case .integer where width == 1: return (Double(bits) - 128) / 128
    // The sign bit comes to the top of 32.
    case .integer: return Double(Int32(bitPattern: bits << UInt32(32 - 8 * width))) / 0x1p31
    }
  }

  private static func chunks(_ bytes: Span<UInt8>, _ name: String) throws -> (Format, Range<Int>) {
    func number(_ offset: Int, _ count: Int) -> Int {
      var value = 0
      for index in 0..<count { value |= Int(bytes[offset + index]) << (8 * index) }
      return value
    }
    func has(_ tag: StaticString, _ offset: Int) -> Bool {
      tag.withUTF8Buffer { letters in letters.indices.allSatisfy { bytes[offset + $0] == letters[$0] } }
    }
    guard bytes.count >= 12, has("RIFF", 0), has("WAVE", 8) else {
      throw InputError("\(name) is \(kind(bytes)); a WAVE file was expected")
    }
    var position = 12
    var format: Format?
    while position + 8 <= bytes.count {
      let size = number(position + 4, 4)
      let start = position + 8
      let end = min(start + size, bytes.count)
      if has("fmt ", position), end - start >= 16 {
        var code = number(start, 2)
        if code == 0xFFFE, end - start >= 26 { code = number(start + 24, 2) }
        format = Format(
          code: code, channels: number(start + 2, 2), rate: number(start + 4, 4),
          bits: number(start + 14, 2))
      } else if has("data", position), let format {
        return (format, start..<end)
      }
      position = start + size + size % 2
    }
    throw InputError("\(name): the file has \(format == nil ? "no description of its sound" : "no sound in it")")
  }

  /// What else a file of sound may be.
  private static func kind(_ bytes: Span<UInt8>) -> String {
    let first = (0..<min(4, bytes.count)).map { bytes[$0] }
    if first == Array("fLaC".utf8) { return "a FLAC file" }
    if first == Array("OggS".utf8) { return "an Ogg file" }
    if first.prefix(3) == Array("ID3".utf8)[...] || first.count == 4 && first[0] == 0xFF && first[1] & 0xE0 == 0xE0 {
      return "an MP3 file"
    }
    return "no WAVE file"
  }
}
