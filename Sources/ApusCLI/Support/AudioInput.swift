// Sound files as inputs: read, mixed to one channel, brought to the rate of the model.

import Apus
import ArgumentParser

enum AudioInput {
  /// What most models of speech take, and what is believed where a model does not say its rate.
  private static let usualRate = 16000

  /// The samples of a .wav file, channels mixed to one, from -1 to 1, at `rate` samples a second, in the input's shape:
  /// as many as it asks for, zeros after the end of the file. A symbolic extent takes what the file has. Without a rate
  /// only sound of the usual one is taken: at another one a model computes nonsense and does not say so.
  static func tensor(
    file: String, rate: Int?, for input: ValueDescription, option: String = "--audio"
  ) throws -> Tensor {
    guard input.dataType == .float32, let dims = input.dimensions else {
      throw InputError("\(option): input '\(input.name)' is \(input.type); expected a float32 tensor of known rank")
    }
    let sound = try self.sound(file: file, rate: rate, option: option)
    var resampler = Resampler(from: sound.rate, to: rate ?? sound.rate)
    let shape = try self.shape(dims, sampleCount: resampler.outputCount(sound.frameCount), input, option)
    let count = shape.elementCount
    // The file may have more than the input takes, or much less.
    let isOtherRate = rate ?? sound.rate != sound.rate
    var samples = sound.samples(first: isOtherRate ? resampler.inputCount(count) : count)
    if isOtherRate {
      Console.note("\(file) is resampled from \(sound.rate) to \(rate ?? sound.rate) samples a second")
      samples = resampler.resample(samples)
    }
    samples = Array(samples.prefix(count))
    samples += repeatElement(0, count: count - samples.count)
    return Tensor(samples, shape: shape)
  }

  /// The sound in a file, whose rate must be known to be right.
  private static func sound(file: String, rate: Int?, option: String) throws -> WaveFile {
    let sound = try WaveFile(path: file)
    guard rate != nil || sound.rate == usualRate else {
      throw InputError(
        "\(option): \(file) has \(sound.rate) samples a second, and the model does not say what it takes; give "
          + "--sample-rate \(usualRate) to resample it, --sample-rate \(sound.rate) to take it as it is")
    }
    return sound
  }

  /// The samples that a sound has at `rate`.
  static func sampleCount(file: String, rate: Int?, option: String) throws -> Int {
    let sound = try sound(file: file, rate: rate, option: option)
    return Resampler(from: sound.rate, to: rate ?? sound.rate).outputCount(sound.frameCount)
  }

  /// All samples of a sound, at `rate`.
  static func samples(file: String, rate: Int?, option: String) throws -> [Float] {
    let sound = try sound(file: file, rate: rate, option: option)
    var resampler = Resampler(from: sound.rate, to: rate ?? sound.rate)
    // The samples twice, at both rates.
    try MemoryRoom.require((sound.frameCount + resampler.outputCount(sound.frameCount)) * 8, for: "\(option): \(file)")
    let samples = sound.samples(first: sound.frameCount)
    return rate ?? sound.rate == sound.rate ? samples : resampler.resample(samples)
  }

  /// The rate in the model's metadata.
  static func declaredRate(in metadata: [(key: String, value: String)]) -> Int? {
    let keys = ["sample_rate", "sampling_rate", "samplerate"]
    let text = metadata.first { keys.contains($0.key.lowercased()) }?.value
    return text.flatMap { Int($0) }.flatMap { WaveFile.rateRange.contains($0) ? $0 : nil }
  }

  /// The last symbolic extent takes the samples that there are; others are 1.
  private static func shape(
    _ dims: [String], sampleCount: Int, _ input: ValueDescription, _ option: String
  ) throws -> Shape {
    let known = dims.map { Int($0) }
    var shape = Shape(known.map { $0 ?? 1 })
    if let open = known.lastIndex(of: nil), let fixed = shape.checkedElementCount {
      shape[open] = max(1, sampleCount / max(fixed, 1))
    }
    // The samples twice, while they are made a tensor, and those of the file.
    let count = shape.checkedElementCount
    try MemoryRoom.require(
      count.flatMap { $0 < 1 << 58 ? ($0 + sampleCount) * 8 : nil },
      for: "\(option): input '\(input.name)' (\(input.type))")
    return shape
  }
}
