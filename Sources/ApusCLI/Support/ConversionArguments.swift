// The options of `apus convert`, by what they change.

import Apus
import ApusFormats
import ApusGraph
import ApusTensor
import ArgumentParser

/// What the model takes and gives.
struct InterfaceArguments: ParsableArguments {
  @Option(
    help: """
      A number for a symbolic dimension, as in batch=4, or another name for it, as in unk__0=batch. May be repeated.
      """)
  var dim: [String] = []

  @Option(
    help: """
      The shape of an input, as in x=1x3x224x224. Names make extents open: x=Nx3xHxW, as far as the model lets them. \
      May be repeated.
      """)
  var shape: [String] = []

  @Option(help: "A new name for an input or output, as in OLD=NEW. May be repeated.")
  var rename: [String] = []

  @Flag(help: "All inputs of 4 or 5 axes take the channels last.")
  var nhwcInputs = false

  @Flag(help: "All outputs of 4 or 5 axes give the channels last.")
  var nhwcOutputs = false

  @Flag(help: "All inputs of 4 or 5 axes take the channels behind the batch.")
  var nchwInputs = false

  @Flag(help: "All outputs of 4 or 5 axes give the channels behind the batch.")
  var nchwOutputs = false

  @Option(help: "The order of axes of one input or output, as in x=nhwc or x=nchw. May be repeated.")
  var layout: [String] = []

  func validate() throws {
    if nhwcInputs, nchwInputs { throw ValidationError("--nhwc-inputs and --nchw-inputs exclude each other") }
    if nhwcOutputs, nchwOutputs { throw ValidationError("--nhwc-outputs and --nchw-outputs exclude each other") }
    var (options, changes) = (ModelOptions(), InterfaceChanges())
    try apply(to: &options, &changes)
  }

  /// Sizes go to `options`, the rest to `changes`.
  func apply(to options: inout ModelOptions, _ changes: inout InterfaceChanges) throws(ValidationError) {
    for text in dim {
      let (name, value) = try Pair.split(text, option: "--dim")
      if Self.isName(value) {
        changes.symbols.append((name, value))
      } else {
        let former = options.dimensions.updateValue(try Extents.dimension(text).size, forKey: name)
        if former != nil { throw ValidationError("--dim \(text): '\(name)' has a number already; give one") }
      }
    }
    for text in shape {
      let (name, value) = try Pair.split(text, option: "--shape")
      if let open = Self.openShape(value) {
        changes.shapes.append((name, open))
      } else {
        let former = options.shapes.updateValue(try Extents.shape(text).shape, forKey: name)
        if former != nil { throw ValidationError("--shape \(text): '\(name)' has a shape already; give one") }
      }
    }
    for text in rename {
      let (old, new) = try Pair.split(text, option: "--rename")
      if new.isEmpty { throw ValidationError("--rename \(text): the new name is empty") }
      changes.names.append((old, new))
    }
    for text in layout {
      let (name, value) = try Pair.split(text, option: "--layout")
      guard let layout = InterfaceChanges.Layout(rawValue: value) else {
        throw ValidationError("--layout \(text): expected NAME=nhwc or NAME=nchw")
      }
      changes.layouts.append((name, layout))
    }
    changes.inputLayout = nhwcInputs ? .channelsLast : nchwInputs ? .channelsFirst : nil
    changes.outputLayout = nhwcOutputs ? .channelsLast : nchwOutputs ? .channelsFirst : nil
  }

  private static func isName(_ text: String) -> Bool {
    guard let first = text.first, first.isLetter || first == "_" else { return false }
    return text.allSatisfy { $0.isLetter || $0.isNumber || $0 == "_" || $0 == "." }
  }

  /// Numbers and names between `x` or commas, with a name among them; nil: it is something else.
  private static func openShape(_ text: String) -> [Dim]? {
    let parts = text.split(omittingEmptySubsequences: false, whereSeparator: { $0 == "x" || $0 == "," }).map(
      String.init)
    guard parts.contains(where: isName), parts.allSatisfy({ isName($0) || (Int($0) ?? -1) >= 0 }) else { return nil }
    return parts.map { Int($0).map { Dim($0) } ?? .symbol($0) }
  }
}

/// Work that the model does beside its own.
struct AddedWorkArguments: ParsableArguments {
  @Flag(name: .customLong("uint8-inputs"), help: "Pictures come as bytes.")
  var bytes = false

  @Flag(help: "Pictures come in any size, and are brought to that of the model.")
  var resizeInputs = false

  @Option(
    parsing: .unconditional,
    help: "What to subtract from each channel of a picture, after scaling: one number, or one a channel.")
  var mean: String?

  @Option(parsing: .unconditional, help: "What to divide each channel of a picture by, after the mean.")
  var std: String?

  @Option(
    parsing: .unconditional, help: "What to multiply pictures by. [default: 1/255 with --uint8-inputs, else 1]")
  var scale: Double?

  @Option(
    help: "The input that is a picture. May be repeated. [default: all with 4 axes, one of 1, 3 or 4 channels]")
  var picture: [String] = []

  @Flag(help: "Scores become probabilities: Softmax over the last axis.")
  var softmax = false

  @Option(parsing: .unconditional, help: "Give so many of the largest scores, and their indices in NAME_indices.")
  var topK: Int?

  @Option(help: "The output that --softmax and --top-k are for. [default: the first]")
  var scores: String?

  func validate() throws {
    if let scale, !scale.isFinite || scale == 0 {
      throw ValidationError("--scale is \(scale); expected a finite number that is not 0")
    }
    _ = try OptionValues.numbers(mean, "--mean")
    if try OptionValues.numbers(std, "--std").contains(0) { throw ValidationError("--std: 0 cannot divide") }
    try OptionValues.check(topK, "--top-k", 1...Int(Int32.max))
    if scores != nil, !softmax, topK == nil {
      throw ValidationError("--scores is for --softmax and --top-k; give one of them too")
    }
    if !picture.isEmpty, !bytes, !resizeInputs, mean == nil, std == nil, scale == nil {
      throw ValidationError(
        "--picture is for --mean, --std, --scale, --uint8-inputs and --resize-inputs; give one of them too")
    }
  }

  func apply(to changes: inout InterfaceChanges) throws(ValidationError) {
    changes.pictures.scale = scale
    changes.pictures.mean = try OptionValues.numbers(mean, "--mean")
    changes.pictures.deviation = try OptionValues.numbers(std, "--std")
    (changes.pictures.takesBytes, changes.pictures.takesAnySize) = (bytes, resizeInputs)
    changes.pictures.inputs = picture
    (changes.scores.softmax, changes.scores.top, changes.scores.output) = (softmax, topK, scores)
  }
}

/// Where weights come, and what the model says of itself.
struct StorageArguments: ParsableArguments {
  @Option(
    name: .customLong("external-data"),
    help: "Put the weights into this file beside the target. [default: into OUT.data above 1.5 GB]",
    completion: .file())
  var sideFile: String?

  @Option(
    name: .customLong("external-threshold"), parsing: .unconditional,
    help: "Weights of fewer bytes stay in the model, and so do up to 64 integers of one axis. [default: 1024]")
  var threshold: Int?

  @Option(
    name: .customLong("external-align"), parsing: .unconditional,
    help: "Weights begin at multiples of so many bytes. [default: 4096]")
  var alignment: Int?

  @Flag(help: "Put weights that lie in files beside the model into the target.")
  var embedData = false

  @Option(help: "An entry of the metadata, as in KEY=VALUE. May be repeated.")
  var metadata: [String] = []

  @Option(help: "An entry of the metadata to leave out. May be repeated.")
  var dropMetadata: [String] = []

  @Option(help: "What the model says of itself, for people.")
  var doc: String?

  @Option(parsing: .unconditional, help: "The version of the model.")
  var modelVersion: Int?

  @Option(
    parsing: .unconditional, help: "The IR version to write. [default: as the operator set and the model want it]")
  var irVersion: Int?

  func validate() throws {
    if sideFile != nil, embedData { throw ValidationError("--external-data and --embed-data exclude each other") }
    if let sideFile, sideFile.isEmpty || sideFile.contains("/") {
      throw ValidationError(
        "--external-data \(sideFile): a name without a folder was expected; it lies beside the target")
    }
    if sideFile == nil, threshold != nil || alignment != nil {
      throw ValidationError("--external-threshold and --external-align are for --external-data; give it too")
    }
    try OptionValues.check(threshold, "--external-threshold", 0...Int.max)
    try OptionValues.check(alignment, "--external-align", SideFileLayout.alignments)
    try OptionValues.check(irVersion, "--ir-version", HeaderChanges.irVersions)
    for text in metadata { _ = try Pair.splitFirst(text, option: "--metadata") }
  }

  func apply(to options: inout ModelConversion.Options) throws(ValidationError) {
    if let sideFile {
      var layout = SideFileLayout()
      layout.name = sideFile
      if let threshold { layout.threshold = threshold }
      if let alignment { layout.alignment = alignment }
      options.placement = .external(layout)
    } else if embedData {
      options.placement = .embedded
    }
    for text in metadata {
      // Values may contain '='.
      let (key, value) = try Pair.splitFirst(text, option: "--metadata")
      options.header.metadata.append((key, value))
    }
    options.header.metadata += dropMetadata.map { ($0, nil) }
    (options.header.documentation, options.header.modelVersion) = (doc, modelVersion)
    options.header.irVersion = irVersion
  }
}

/// Whether what was written computes what was read.
struct VerificationArguments: ParsableArguments {
  @Option(
    help: """
      Run the model that is read and the one that is written, and print the largest error of each output: on the \
      inputs in FILE.npz, or on `random` ones. Arrays with the names of outputs are what these should be. May be \
      repeated.
      """,
    completion: .file(extensions: ["npz"]))
  var verify: [String] = []

  @Option(
    parsing: .unconditional,
    help: """
      The largest error that is none, as a part of the largest magnitude of the output. [default: 1e-4, or 0.02 in 16 \
      bits]
      """)
  var tolerance: Double?

  @Option(parsing: .unconditional, help: "The seed of `--verify random`.")
  var seed: UInt64 = 0

  private static let halfTolerance = 0.02

  func validate() throws {
    if let tolerance, !(tolerance >= 0) {
      throw ValidationError("--tolerance is \(tolerance); expected a number of 0 or more")
    }
    if tolerance != nil, verify.isEmpty { throw ValidationError("--tolerance is for --verify; give it too") }
  }

  /// nil if none is asked for. `opened` are the extents that the conversion makes open.
  func check(isHalf: Bool, opened: Set<String>) -> ConversionCheck? {
    if verify.isEmpty { return nil }
    let usual = isHalf ? Self.halfTolerance : ConversionCheck.usualTolerance
    return ConversionCheck(tolerance: tolerance ?? usual) { model in
      var samples: [ConversionCheck.Sample] = []
      for source in verify {
        samples +=
          source == "random"
          ? try RandomSamples(for: model, seed: seed, opened: opened).samples() : [try sample(in: source, for: model)]
      }
      return samples
    }
  }

  private func sample(in path: String, for model: Model) throws -> ConversionCheck.Sample {
    let targets = model.inputs + model.outputs
    let types = targets.compactMap { value in value.dataType.map { (value.name, $0) } }
    let arrays = try Npz.decode(FileBytes.open(path: path), as: Dictionary(types) { first, _ in first })
    var sample = ConversionCheck.Sample(inputs: [:])
    for (name, tensor) in arrays {
      if let input = model.inputs.first(where: { $0.name == name }) {
        sample.inputs[name] = .tensor(ValueInput.converted(tensor, for: input))
      } else if let output = model.outputs.first(where: { $0.name == name }) {
        sample.outputs[name] = .tensor(ValueInput.converted(tensor, for: output))
      } else {
        let all = targets.map { "'\($0.name.printable())'" }.joined(separator: ", ")
        throw InputError(
          "--verify \(path.printable()): there is no input or output '\(name.printable())'; there are \(all)")
      }
    }
    return sample
  }
}
