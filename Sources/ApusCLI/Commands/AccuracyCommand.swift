// apus accuracy: how right a model is on samples whose truth is known, and how far another one is from it.

import Apus
import ArgumentParser

struct AccuracyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "accuracy",
    abstract: "Measures how right a model is on labelled samples; compares two models on the same samples.",
    discussion: """
      apus accuracy digits.onnx --data digits.npz
      apus accuracy resnet50.onnx --data val/ --image-fit crop --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
      apus accuracy int8.onnx --against float.onnx --data samples.csv --per-class --predictions out.csv

      Samples are read one at a time, from archives and arrays, folders (of which each is a class), tables, pictures and
      sound; docs/accuracy.md says how, and what each figure is.
      """)

  @OptionGroup var model: ModelArguments

  @Option(
    name: .long, parsing: .upToNextOption,
    help: """
      Where the samples are: folders, .npz, .npy, .csv, .wav, pictures, .pb, .json or .txt; INPUT=PATH where the model \
      has several inputs.
      """, completion: .file())
  var data: [String] = []

  @OptionGroup var samples: SampleArguments
  @OptionGroup var accuracy: AccuracyArguments

  @Option(help: "Another model, which runs on the same samples.", completion: .file(extensions: ["onnx", "apus"]))
  var against: String?

  @Option(help: "Write what the model says of each sample.", completion: .file(extensions: ["csv"]))
  var predictions: String?

  @Flag(help: "Print the figures of each class too.")
  var perClass = false

  @Flag(help: "Print JSON.")
  var json = false

  func validate() throws {
    if data.isEmpty { throw ValidationError("--data is missing: where the samples are") }
    try OptionValues.check(ending: predictions, "--predictions", ["csv"])
    if against == "-", model.model == "-" { throw ValidationError("two models cannot come from standard input") }
  }

  func run() throws {
    let given = samples.inputs.givenNames
    var options = try model.options()
    options.overridableInitializers = given
    // One engine for both: --memory bounds them together.
    let loaded = try Model(path: model.model, options: options)
    let other = try against.map { try Model(path: $0, options: options) }
    var reader = try Samples(data, option: "--data", arguments: samples, for: InputTargets(loaded))
    let session = try AccuracySession(
      accuracy, feed: samples.feed, loaded, against: other, predictions: predictions, &reader)
    if json { try printJSON(session.encoded(name: model.name)) } else { try session.show(perClass: perClass) }
  }
}
