// What every compression tells of a model before and after: size, work, speed, outputs.

import Apus
import ApusCompression
import ApusGraph
import ArgumentParser
import Foundation

struct ComparisonArguments: ParsableArguments {
  @Option(
    name: .long, parsing: .upToNextOption,
    help: """
      Samples to compare the outputs before and after on: folders, .npz, .npy, .csv, .wav, pictures, .pb, .json or \
      .txt; INPUT=PATH where the model has several inputs.
      """, completion: .file())
  var data: [String] = []

  @OptionGroup(title: "How samples are read") var samples: SampleArguments

  @Option(
    parsing: .unconditional,
    help: "Seconds to measure the speed before and after, in turn, on a sample or on random inputs; 0: not at all.")
  var seconds = 1.0

  func validate() throws {
    guard seconds >= 0 else { throw ValidationError("--seconds is \(seconds); expected a number, 0 or above") }
    if seconds > 0 { try OptionValues.check(seconds: seconds, "--seconds") }
  }

  /// The model before, as it was read, beside the one that was made of it.
  func compare(
    _ arguments: ModelArguments, _ source: CompressionSource, _ made: CompressedModel
  ) throws -> ModelComparison {
    let read = source.read
    var comparison = ModelComparison(before: read.model.graph, after: made.optimized.model.graph)
    comparison.before.fileBytes =
      arguments.model == "-" ? nil : ([arguments.model] + read.sideFiles).reduce(0) { $0 + FileSizes.bytes($1) }
    if seconds == 0, data.isEmpty { return comparison }
    let (before, after) = (try source.model(), try made.model())
    if !data.isEmpty { comparison.outputs = try differences(before, after) }
    if seconds > 0 {
      Console.progress("measuring the speed")
      try comparison.measure(before, after, on: try oneSample(for: before), seconds: seconds)
    }
    Console.progress("")
    return comparison
  }

  private func differences(_ before: Model, _ after: Model) throws -> [OutputLoss.Report] {
    var samples = try Samples(data, option: "--data", arguments: self.samples, for: InputTargets(before))
    var states = (
      try StateFeed(self.samples.feed, samples, for: before), try StateFeed(self.samples.feed, samples, for: after)
    )
    var losses = before.outputs.map { OutputLoss(name: $0.name) }
    var number = 0
    while let sample = try samples.next() {
      number += sample.count
      Console.progress("sample \(number) of \(samples.count)")
      let (expected, found) = (try states.0.run(before, on: sample), try states.1.run(after, on: sample))
      for index in losses.indices {
        guard let a = expected[losses[index].name]?.tensor, let b = found[losses[index].name]?.tensor else { continue }
        try losses[index].add(teacher: a, student: b)
      }
    }
    return losses.map(\.report)
  }

  private func oneSample(for model: Model) throws -> [String: Value] {
    if !data.isEmpty {
      var samples = try Samples(data, option: "--data", arguments: self.samples, for: InputTargets(model))
      var state = try StateFeed(self.samples.feed, samples, for: model)
      if let sample = try samples.next() { return state.inputs(for: sample) }
    }
    var generator = RandomInputs(seed: 0)
    let bounds = RandomInputs.indexBounds(in: model.graph)
    var values: [String: Value] = [:]
    for input in model.inputs {
      values[input.name] = try generator.value(
        for: input, extents: [:], bound: bounds[input.name], isDropped: false)
    }
    return values
  }
}

extension ModelComparison {
  /// Lines for people.
  var text: String {
    var rows = [["", "before", "after"]]
    if let a = before.fileBytes, let b = after.fileBytes { rows.append(["bytes of the file", "\(a)", "\(b)"]) }
    rows += [
      ["parameters", "\(before.parameters)", "\(after.parameters)"],
      ["parameters that are not 0", "\(before.nonzeroParameters)", "\(after.nonzeroParameters)"],
      ["multiply-adds", before.multiplyAdds, after.multiplyAdds],
    ]
    if let a = before.milliseconds, let b = after.milliseconds {
      rows.append(["median of \(runs ?? 0) runs", "\(ValueText.format(a)) ms", "\(ValueText.format(b)) ms"])
    }
    var lines = [table(rows)]
    for output in outputs ?? [] {
      let agreement = output.argmaxAgreement.map { ", largest at the same place in \(percent($0))" } ?? ""
      lines.append(
        "output \(output.output.printable()) on \(output.samples) samples: cosine \(ValueText.format(output.cosine)), "
          + "largest difference \(ValueText.format(output.maximumError))\(agreement)")
    }
    return lines.joined(separator: "\n")
  }
}

/// A share as text, with a digit behind the point.
func percent(_ share: Double) -> String { String(format: "%.1f %%", share * 100) }

enum FileSizes {
  /// The bytes of a file; 0 if there is none.
  static func bytes(_ path: String) -> Int {
    let attributes = try? FileManager.default.attributesOfItem(atPath: path)
    return (attributes?[.size] as? NSNumber)?.intValue ?? 0
  }
}
