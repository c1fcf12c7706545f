// The samples of files as those of a calibration: read one at a time, as often as somebody wants.

import Apus

/// Samples that lie in files, with the state of a model that hears sound piece by piece.
struct CalibrationFiles: CalibrationData {
  private let paths: [String]
  private let arguments: SampleArguments
  private let targets: InputTargets
  /// Runs where outputs of a sample are inputs of the next; nil: none are.
  private let model: Model?
  let sampleCount: Int?

  init(
    _ paths: [String], _ arguments: SampleArguments, for source: CompressionSource
  ) throws {
    (self.paths, self.arguments) = (paths, arguments)
    targets = InputTargets(source.read.model)
    model = paths.isEmpty || arguments.feed.isEmpty ? nil : try source.model()
    sampleCount =
      paths.isEmpty ? 0 : try Samples(paths, option: "--calibrate", arguments: arguments, for: targets).count
  }

  func forEachSample(_ body: ([String: Tensor]) throws -> Void) throws {
    if paths.isEmpty { return }
    var samples = try Samples(paths, option: "--calibrate", arguments: arguments, for: targets)
    var feed = try StateFeed(
      arguments.feed, constants: samples.constants, inputs: targets.inputs, outputs: model?.outputs.map(\.name) ?? [])
    while let sample = try samples.next() {
      let values = feed.inputs(for: sample)
      var tensors: [String: Tensor] = [:]
      for (name, value) in values {
        guard let tensor = value.tensor else {
          throw InputError("sample '\(sample.name.printable())': '\(name)' is \(value.type); expected a tensor")
        }
        tensors[name] = tensor
      }
      do { try body(tensors) } catch let error as RunError {
        throw InputError("sample '\(sample.name.printable())': \(error)")
      }
      if let model { feed.take(try model.run(values: values)) }
    }
  }
}
