// Sound files as inputs. The RIFF WAVE format: http://soundfile.sapp.org/doc/WaveFormat/

import Apus
import ArgumentParser
import Foundation

enum AudioInput {
  /// The samples of a .wav file (PCM of 8 to 32 bits, or float of 32), channels mixed to one, from -1 to 1, in the input's
  /// shape: as many samples as it asks for, zeros after the end of the file.
  static func tensor(file: String, for input: ValueDescription) throws -> Tensor {
    let samples = try wave([UInt8](Data(contentsOf: URL(filePath: file))), file)
    guard input.dataType == .float32, let dims = input.dimensions else {
      throw ValidationError("--audio: input '\(input.name)' is \(input.type); expected a float32 tensor")
    }
    let known = dims.map { Int($0) }
    let fixed = known.compactMap { $0 }.reduce(1, *)
    // The last symbolic extent takes what the file has; others are 1.
    let open = known.lastIndex(of: nil)
    var shape = Shape(known.map { $0 ?? 1 })
    if let open { shape[open] = max(1, samples.count / max(fixed, 1)) }
    var padded = Array(samples.prefix(shape.elementCount))
    padded += [Float](repeating: 0, count: shape.elementCount - padded.count)
    return Tensor(padded, shape: shape)
  }

  private static func wave(_ bytes: [UInt8], _ file: String) throws -> [Float] {
    func number(_ offset: Int, _ count: Int) -> Int { (0..<count).reduce(0) { $0 | Int(bytes[offset + $1]) << (8 * $1) } }
    func tag(_ offset: Int) -> String { String(decoding: bytes[offset..<offset + 4], as: UTF8.self) }
    guard bytes.count >= 12, tag(0) == "RIFF", tag(8) == "WAVE" else { throw ValidationError("\(file) is no WAVE file") }
    var position = 12
    var format: (code: Int, channels: Int, bits: Int)?
    while position + 8 <= bytes.count {
      let size = number(position + 4, 4)
      let start = position + 8
      let end = min(start + size, bytes.count)
      if tag(position) == "fmt ", end - start >= 16 {
        var code = number(start, 2)
        if code == 0xFFFE, end - start >= 26 { code = number(start + 24, 2) }
        format = (code, number(start + 2, 2), number(start + 14, 2))
      } else if tag(position) == "data", let format {
        return try samples(bytes[start..<end], format, file)
      }
      position = start + size + size % 2
    }
    throw ValidationError("\(file) has no sound in it")
  }

  private static func samples(
    _ data: ArraySlice<UInt8>, _ format: (code: Int, channels: Int, bits: Int), _ file: String
  ) throws -> [Float] {
    let width = format.bits / 8
    guard format.channels > 0, format.code == 1 ? [1, 2, 3, 4].contains(width) : format.code == 3 && width == 4 else {
      throw ValidationError("\(file): format \(format.code) of \(format.bits) bits is not known; expected PCM or 32-bit float")
    }
    let frames = data.count / (width * format.channels)
    return (0..<frames).map { frame in
      var sum: Float = 0
      for channel in 0..<format.channels {
        let offset = data.startIndex + (frame * format.channels + channel) * width
        let bits = (0..<width).reduce(UInt32(0)) { $0 | UInt32(data[offset + $1]) << UInt32(8 * $1) }
        if format.code == 3 {
          sum += Float(bitPattern: bits)
        } else if width == 1 {
          sum += (Float(bits) - 128) / 128
        } else {
          sum += Float(Int32(bitPattern: bits << UInt32(32 - format.bits))) / 0x1p31
        }
      }
      return sum / Float(format.channels)
    }
  }
}
