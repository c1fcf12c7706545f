// Where the inputs of a run come from: files, pictures, sound, random numbers.

import Apus
import ApusFormats
import ArgumentParser
import Foundation

struct InputArguments: ParsableArguments {
  @Option(help: "NAME=FILE: .npy, .npz, .pb, .json or .txt; - is .npy on standard input. May be repeated.")
  var input: [String] = []

  @Option(help: "NAME=FILE: a PNG or JPEG, resized to the input's height and width. May be repeated.")
  var image: [String] = []

  @Option(help: "What to subtract from each channel of an image, after scaling: one number, or one a channel.")
  var mean: String?

  @Option(help: "What to divide each channel of an image by, after the mean.")
  var std: String?

  @Option(help: "What to multiply the bytes of an image by. [default: 1/255 for floats, 1 for integers]")
  var scale: Double?

  @Option(help: "NAME=FILE: a .wav file, as samples from -1 to 1. May be repeated.")
  var audio: [String] = []

  @Flag(help: "Fill the inputs that are not given with seeded random values.")
  var random = false

  @Option(help: "The seed of --random.")
  var seed: UInt64 = 0

  /// The inputs of `model` as the arguments give them.
  func values(for model: Model) throws -> [String: Value] {
    var values: [String: Value] = [:]
    for text in input { try read(text, for: model, into: &values) }
    let scaling = ImageScaling(scale: scale, mean: try numbers(mean, "--mean"), deviation: try numbers(std, "--std"))
    for text in image {
      let (name, file) = try split(text, option: "--image", model)
      values[name] = .tensor(try ImageInput.tensor(file: file, for: try description(name, model), scaling: scaling))
    }
    for text in audio {
      let (name, file) = try split(text, option: "--audio", model)
      values[name] = .tensor(try AudioInput.tensor(file: file, for: try description(name, model)))
    }
    if random {
      var generator = RandomInputs(seed: seed)
      let bounds = RandomInputs.indexBounds(in: model.graph)
      for input in model.inputs {
        // Drawn for every input, so that what an input gets does not depend on which others are given.
        let value = try generator.value(for: input, bound: bounds[input.name])
        if values[input.name] == nil { values[input.name] = value }
      }
    }
    return values
  }

  private func read(_ text: String, for model: Model, into values: inout [String: Value]) throws {
    // A file of several arrays may come without a name.
    if text.hasSuffix(".npz"), !text.contains("=") {
      for (name, tensor) in try Npz.decode(FileBytes.open(path: text)) { values[name] = .tensor(tensor) }
      return
    }
    let (name, file) = try split(text, option: "--input", model)
    let wanted = try description(name, model)
    values[name] = try ValueInput.value(file: file, name: name, for: wanted)
  }

  /// NAME=FILE, or FILE alone where the model has one input.
  private func split(_ text: String, option: String, _ model: Model) throws -> (name: String, file: String) {
    if !text.contains("="), model.inputs.count == 1 { return (model.inputs[0].name, text) }
    // Names may contain '='; the longest one that is an input counts.
    if let name = model.inputs.map(\.name).filter({ text.hasPrefix($0 + "=") }).max(by: { $0.count < $1.count }) {
      return (name, String(text.dropFirst(name.count + 1)))
    }
    let pair = try Pair.split(text, option: option)
    throw ValidationError(
      "\(option): there is no input '\(pair.name)'; inputs are \(model.inputs.map { "\($0.name) (\($0.type))" }.joined(separator: ", "))")
  }

  private func description(_ name: String, _ model: Model) throws -> ValueDescription {
    guard let description = model.inputs.first(where: { $0.name == name }) else {
      throw ValidationError("there is no input '\(name)'")
    }
    return description
  }

  private func numbers(_ text: String?, _ option: String) throws -> [Double] {
    guard let text else { return [] }
    let parts = text.split(separator: ",").map { Double($0.trimmingCharacters(in: .whitespaces)) }
    guard !parts.isEmpty, !parts.contains(nil) else { throw ValidationError("\(option) \(text): expected numbers") }
    return parts.compactMap { $0 }
  }
}
