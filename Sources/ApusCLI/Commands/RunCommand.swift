// apus run: runs a model once and shows or stores its outputs.

import Apus
import ApusFormats
import ArgumentParser
import Foundation

struct RunCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Runs a model on inputs from files, pictures, sound or random numbers.",
    discussion: """
      apus run digits.onnx --image input=digit-7.png --top 3
      apus run bert.onnx --input input_ids=ids.npy --input attention_mask=mask.npy --output out.npz
      """)

  @OptionGroup var model: ModelArguments
  @OptionGroup var inputs: InputArguments

  @Option(help: "Store the outputs: FILE.npz (keys are the output names), or a folder for one .npy each.")
  var output: String?

  @Option(help: "Print the K largest elements along the last axis of each float output.")
  var top: Int?

  @Option(help: "A file with one label a line, for --top. [default: `labels` in the model's metadata]")
  var labels: String?

  @Flag(help: "Return every value of the main graph; the model runs without passes.")
  var allValues = false

  @Option(help: "Return this intermediate value too. May be repeated.")
  var value: [String] = []

  @Option(help: "End the run with an error after so many seconds.")
  var timeout: Double?

  @Flag(help: "Print JSON.")
  var json = false

  private struct Report: Encodable {
    struct Output: Encodable {
      var name, type: String
      var file: String?
      var summary: ValueSummary?
      var top: [[TopElement]]?
    }
    var model: String
    var milliseconds: Double
    var outputs: [Output]
  }

  func run() throws {
    do {
      try execute()
    } catch let error as ValidationError {
      throw error
    } catch {
      throw fail(error)
    }
  }

  private func execute() throws {
    let given = Set(inputs.input.compactMap { $0.split(separator: "=").first.map(String.init) })
    let loaded = try model.load { options in
      options.extraOutputs = value
      options.returnsAllValues = allValues
      options.overridableInitializers = given
    }
    let values = try inputs.values(for: loaded)
    var options = RunOptions()
    options.timeout = timeout
    let start = ContinuousClock.now
    let results = try loaded.run(values: values, options: options)
    let milliseconds = (ContinuousClock.now - start) / .milliseconds(1)
    let files = try output.map { try OutputFiles.store(results, order: loaded.outputs.map(\.name), to: $0) } ?? [:]
    let names = try labels.map { try OutputFiles.lines(of: $0) } ?? OutputFiles.labels(in: loaded.information)
    var report = Report(model: model.name, milliseconds: milliseconds, outputs: [])
    for description in loaded.outputs {
      guard let result = results[description.name] else { continue }
      report.outputs.append(
        .init(
          name: description.name, type: result.type.description, file: files[description.name],
          summary: result.tensor.map { ValueSummary($0) },
          top: top.flatMap { count in result.tensor.flatMap { TopElement.rows(of: $0, count: count, labels: names) } }))
    }
    if json { return try printJSON(report) }
    for output in report.outputs {
      print("\(output.name): \(output.type)" + (output.summary.map { "  \($0)" } ?? ""))
      if output.summary == nil, let result = results[output.name] { print("  \(ValueText.describe(result))") }
      for (row, elements) in (output.top ?? []).enumerated() {
        if output.top?.count ?? 0 > 1 { print("  row \(row)") }
        for element in elements { print("  \(element)") }
      }
      if let file = output.file { print("  stored in \(file)") }
    }
  }
}
