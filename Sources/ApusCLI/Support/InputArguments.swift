// Where the inputs of a run come from: files, pictures, sound, random numbers.

import Apus
import ApusFormats
import ApusGraph
import ApusImage
import ArgumentParser
import Foundation

/// What one must know of a model to read inputs for it.
struct InputTargets {
  var inputs: [ValueDescription]
  var metadata: [(key: String, value: String)]
  var graph: Graph

  init(_ model: Model) { (inputs, metadata, graph) = (model.inputs, model.information.metadata, model.graph) }

  init(_ model: ModelGraph) {
    (metadata, graph) = (model.metadata, model.graph)
    inputs = graph.inputs.map { ValueDescription(name: model.graph[$0].name, fact: model.graph.fact($0)) }
  }
}

struct InputArguments: ParsableArguments {
  @Option(
    name: .shortAndLong,
    help: "NAME=FILE: .npy, .npz, .pb, .json or .txt; - is .npy on standard input. May be repeated.",
    completion: .file(extensions: ["npy", "npz", "pb", "json", "txt"]))
  var input: [String] = []

  @Option(
    help: "NAME=FILE: a picture (\(ImageFormat.list)), brought to the input's height and width. May be repeated.",
    completion: .file())
  var image: [String] = []

  @Option(
    help: "How a picture comes to another shape: stretch it, crop what stands out at two sides, or pad two sides.")
  var imageFit = ImageFit.stretch

  @Option(parsing: .unconditional, help: "The byte that --image-fit pad fills with.")
  var padValue = 0

  @Option(
    parsing: .unconditional,
    help: "What to subtract from each channel of an image, after scaling: one number, or one a channel.")
  var mean: String?

  @Option(parsing: .unconditional, help: "What to divide each channel of an image by, after the mean.")
  var std: String?

  @Option(
    parsing: .unconditional,
    help: "What to multiply the bytes of an image by. [default: 1/255 for floats, 1 for integers]")
  var scale: Double?

  @Option(
    help: "NAME=FILE: a .wav file, as samples from -1 to 1. May be repeated.", completion: .file(extensions: ["wav"]))
  var audio: [String] = []

  @Option(
    parsing: .unconditional,
    help: """
      The samples a second that the model takes; sound of another rate is resampled. [default: `sample_rate` in the \
      model's metadata; without it, 16000 is taken as it is and another rate is an error]
      """)
  var sampleRate: Int?

  @Flag(help: "Fill the inputs that are not given with seeded random values.")
  var random = false

  @Option(parsing: .unconditional, help: "The seed of --random, 0 or more.")
  var seed: UInt64 = 0

  func validate() throws {
    try OptionValues.check(padValue, "--pad-value", 0...255)
    try OptionValues.check(sampleRate, "--sample-rate", WaveFile.rateRange)
    if let scale, !scale.isFinite { throw ValidationError("--scale is \(scale); expected a finite number") }
    _ = try OptionValues.numbers(mean, "--mean")
    if try OptionValues.numbers(std, "--std").contains(0) { throw ValidationError("--std: 0 cannot divide") }
  }

  /// The names before the `=` of `--input`.
  var givenNames: Set<String> { Set(input.compactMap { $0.split(separator: "=").first.map(String.init) }) }

  /// How pictures become numbers; `option` is what messages name.
  func scaling(option: String) throws -> ImageScaling {
    ImageScaling(
      fit: imageFit, padding: UInt8(clamping: padValue), scale: scale, mean: try OptionValues.numbers(mean, "--mean"),
      deviation: try OptionValues.numbers(std, "--std"), option: option)
  }

  /// The inputs of `model` as the arguments give them.
  func values(for model: Model) throws -> [String: Value] { try values(for: InputTargets(model)) }

  func values(for model: InputTargets) throws -> [String: Value] {
    var values: [String: Value] = [:]
    func set(_ name: String, _ option: String, _ value: Value) throws {
      if values.updateValue(value, forKey: name) == nil { return }
      throw ValidationError(
        "\(option): the input '\(name.printable())' has a value already; expected one for each input")
    }
    for text in input { try read(text, for: model, set) }
    let scaling = try scaling(option: "--image")
    for text in image {
      let (name, file) = try split(text, option: "--image", model)
      let picture = try ImageInput.tensor(file: file, for: try description(name, "--image", model), scaling: scaling)
      try set(name, "--image", .tensor(picture))
    }
    for text in audio {
      let (name, file) = try split(text, option: "--audio", model)
      let rate = sampleRate ?? AudioInput.declaredRate(in: model.metadata)
      let sound = try AudioInput.tensor(file: file, rate: rate, for: try description(name, "--audio", model))
      try set(name, "--audio", .tensor(sound))
    }
    if random {
      var generator = RandomInputs(seed: seed)
      let extents = RandomInputs.extents(model.inputs, in: values)
      let bounds = RandomInputs.indexBounds(in: model.graph)
      for input in model.inputs {
        // Drawn for every input, so that what an input gets does not depend on which others are given.
        let value = try generator.value(
          for: input, extents: extents, bound: bounds[input.name], isDropped: values[input.name] != nil)
        if values[input.name] == nil { values[input.name] = value }
      }
    }
    return values
  }

  private func read(
    _ text: String, for model: InputTargets, _ set: (_ name: String, _ option: String, Value) throws -> Void
  ) throws {
    // A file of several arrays may come without a name.
    if text.lowercased().hasSuffix(".npz"), !text.contains("=") {
      let file = try FileBytes.open(path: text)
      let types = model.inputs.compactMap { input in input.dataType.map { (input.name, $0) } }
      for (name, tensor) in try Npz.decode(file, as: Dictionary(types) { first, _ in first }) {
        let wanted = try description(name, "--input \(text)", model)
        try set(name, "--input \(text)", .tensor(ValueInput.converted(tensor, for: wanted)))
      }
      return
    }
    let (name, file) = try split(text, option: "--input", model)
    let wanted = try description(name, "--input", model)
    try set(name, "--input", try ValueInput.value(file: file, name: name, for: wanted))
  }

  /// NAME=FILE, or FILE alone where the model has one input.
  func split(_ text: String, option: String, _ model: InputTargets) throws -> (name: String, file: String) {
    let pair = try pair(text, option: option, model)
    if pair.file.isEmpty { throw ValidationError("\(option) \(text): the name of the file is empty") }
    return pair
  }

  private func pair(_ text: String, option: String, _ model: InputTargets) throws -> (name: String, file: String) {
    if !text.contains("="), model.inputs.count == 1 { return (model.inputs[0].name, text) }
    // Names may contain '='; the longest one that is an input counts.
    if let name = model.inputs.map(\.name).filter({ text.hasPrefix($0 + "=") }).max(by: { $0.count < $1.count }) {
      return (name, String(text.dropFirst(name.count + 1)))
    }
    let pair = try Pair.split(text, option: option)
    _ = try description(pair.name, option, model)
    return (pair.name, pair.value)
  }

  private func description(_ name: String, _ option: String, _ model: InputTargets) throws -> ValueDescription {
    if let description = model.inputs.first(where: { $0.name == name }) { return description }
    let inputs = model.inputs.map { "\($0.name.printable(limit: 80)) (\($0.type.printable(limit: 120)))" }
    let all = inputs.isEmpty ? "the model has no inputs" : "inputs are \(inputs.joined(separator: ", "))"
    throw InputError(
      "\(option): there is no input '\(name.printable())'; "
        + NearMiss.choices(name, among: model.inputs.map(\.name), all))
  }
}
