// Sound files as inputs: read, mixed to one channel, brought to the rate of the model.

import Apus
import ArgumentParser

enum AudioInput {
  /// What most models of speech take, and what is believed where a model does not say its rate.
  private static let usualRate = 16000

  /// The samples of a .wav file, channels mixed to one, from -1 to 1, at `rate` samples a second, in the input's shape:
  /// as many as it asks for, zeros after the end of the file. A symbolic extent takes what the file has. Without a rate
  /// only sound of the usual one is taken: at another one a model computes nonsense and does not say so.
  static func tensor(file: String, rate: Int?, for input: ValueDescription) throws -> Tensor {
    guard input.dataType == .float32, let dims = input.dimensions else {
      throw InputError("--audio: input '\(input.name)' is \(input.type); expected a float32 tensor of known rank")
    }
    let sound = try WaveFile(path: file)
    guard rate != nil || sound.rate == usualRate else {
      throw InputError(
        "--audio: \(file) has \(sound.rate) samples a second, and the model does not say what it takes; give "
          + "--sample-rate \(usualRate) to resample it, --sample-rate \(sound.rate) to take it as it is")
    }
    var resampler = Resampler(from: sound.rate, to: rate ?? sound.rate)
    let shape = try self.shape(dims, sampleCount: resampler.outputCount(sound.frameCount), input)
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

  /// The rate in the model's metadata.
  static func declaredRate(in information: ModelInformation) -> Int? {
    let keys = ["sample_rate", "sampling_rate", "samplerate"]
    let text = information.metadata.first { keys.contains($0.key.lowercased()) }?.value
    return text.flatMap { Int($0) }.flatMap { WaveFile.rateRange.contains($0) ? $0 : nil }
  }

  /// The last symbolic extent takes the samples that there are; others are 1.
  private static func shape(_ dims: [String], sampleCount: Int, _ input: ValueDescription) throws -> Shape {
    let known = dims.map { Int($0) }
    var shape = Shape(known.map { $0 ?? 1 })
    if let open = known.lastIndex(of: nil), let fixed = shape.checkedElementCount {
      shape[open] = max(1, sampleCount / max(fixed, 1))
    }
    // The samples twice, while they are made a tensor, and those of the file.
    let count = shape.checkedElementCount
    try MemoryRoom.require(
      count.flatMap { $0 < 1 << 58 ? ($0 + sampleCount) * 8 : nil },
      for: "--audio: input '\(input.name)' (\(input.type))")
    return shape
  }
}
