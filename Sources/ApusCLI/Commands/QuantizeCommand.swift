// apus quantize: a model on integers, and what that costs.

import Apus
import ApusCompression
import ArgumentParser
import Foundation

struct QuantizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "quantize",
    abstract: "Makes a model smaller and faster by computing it on integers, and says what that costs.",
    discussion: """
      apus quantize resnet50.onnx resnet50-int8.onnx --calibrate samples.npz
      apus quantize bert.onnx bert-int8.onnx --dynamic
      apus quantize resnet50.onnx out.onnx --calibrate samples.npz --target-sqnr 25 --html report.html
      """)

  @OptionGroup var model: ModelArguments

  @Argument(help: "Where to store the quantized model.", completion: .file(extensions: ["onnx"]))
  var output: String

  @OptionGroup(title: "What is quantized, and how") var choice: QuantizationArguments

  @Option(
    name: .long, parsing: .upToNextOption,
    help: """
      The samples to calibrate with: folders, .npz, .npy, .csv, .wav, pictures, .pb, .json or .txt; INPUT=PATH where \
      the model has several inputs.
      """, completion: .file())
  var calibrate: [String] = []

  @OptionGroup(title: "How samples are read") var samples: SampleArguments

  @Option(help: "Take what an earlier calibration has seen, as --save-calibration stored it.")
  var calibration: String?

  @Option(help: "Store what the calibration has seen, as JSON.", completion: .file(extensions: ["json"]))
  var saveCalibration: String?

  @Option(help: "Store the ranges as a calibration cache of TensorRT.")
  var tensorrtCache: String?

  @Option(
    parsing: .unconditional,
    help: """
      Leave as many nodes in float, the worst first, as it takes for each output to reach this ratio of signal to \
      quantization noise, in decibels.
      """)
  var targetSqnr: Double?

  @Flag(help: "Rank the nodes by what each costs alone, which takes a run for each.")
  var rank = false

  @Option(parsing: .unconditional, help: "Samples on which the loss is measured; 0: none.")
  var measure = 8

  @Option(help: "Write the report as one HTML file.", completion: .file(extensions: ["html"]))
  var html: String?

  @Option(parsing: .unconditional, help: "Nodes to list; the report has all with --json and --html.")
  var top = 20

  @Flag(help: "Print JSON.")
  var json = false

  func validate() throws {
    if output.isEmpty { throw ValidationError("the name of the file to write is empty") }
    try OptionValues.check(measure, "--measure", 0...Int.max)
    try OptionValues.check(top, "--top", 0...Int.max)
    try OptionValues.check(ending: html, "--html", ["html", "htm"])
    try OptionValues.check(ending: saveCalibration, "--save-calibration", ["json"])
    if choice.dynamic {
      let unused: [(Bool, String)] = [
        (calibration != nil, "--calibration"), (saveCalibration != nil, "--save-calibration"),
        (tensorrtCache != nil, "--tensorrt-cache"), (targetSqnr != nil, "--target-sqnr"), (rank, "--rank"),
      ]
      if let (_, option) = unused.first(where: \.0) {
        throw ValidationError("\(option) is of no use with --dynamic: scales are found in each run")
      }
      if choice.smooth != nil, calibrate.isEmpty {
        throw ValidationError("--smooth looks at samples; give them by --calibrate")
      }
    } else if calibrate.isEmpty, calibration == nil {
      throw ValidationError("give samples by --calibrate, or --dynamic, which needs none")
    }
    if let targetSqnr, !targetSqnr.isFinite || calibrate.isEmpty {
      throw ValidationError("--target-sqnr takes a number of decibels, and samples by --calibrate")
    }
    if rank, calibrate.isEmpty { throw ValidationError("--rank needs samples by --calibrate") }
  }

  func run() throws {
    let options = try choice.options()
    var loading = try model.options()
    loading.optimization.isPortable = true
    let quantizer = try Quantizer(path: model.model, options: options, loading: loading)
    let data = try CalibrationFiles(calibrate, samples, for: quantizer) { try model.load() }
    let result: Quantizer.Result
    if choice.dynamic {
      result =
        calibrate.isEmpty
        ? try quantizer.quantizeDynamically()
        : try quantizer.quantizeDynamically(on: data, measured: measure, progress: progress)
    } else {
      result = try statically(quantizer, data)
    }
    Console.progress("")
    try result.model.save(to: URL(filePath: output))
    let report = QuantizationSummary(model: model.name, file: output, report: result.report)
    if let html { try report.writeHTML(to: html) }
    if json { try printJSON(report) } else { try report.print(top: top) }
  }

  private func statically(_ quantizer: Quantizer, _ data: CalibrationFiles) throws -> Quantizer.Result {
    let goal = targetSqnr.map { Quantizer.Goal.decibels($0) }
    let samples = calibrate.isEmpty ? 0 : measure
    var cache = try calibration.map { try CalibrationCache(contentsOf: URL(filePath: $0)) }
    if cache == nil, !choice.needsTwoPasses {
      let calibrator = try quantizer.calibrator()
      try data.forEachSample { sample in
        progress("calibration", calibrator.samples, data.sampleCount)
        try calibrator.observe(sample)
      }
      cache = calibrator.cache
    }
    guard let cache else {
      return try quantizer.quantize(on: data, goal: goal, measured: samples, ranks: rank, progress: progress)
    }
    if let saveCalibration { try cache.save(to: URL(filePath: saveCalibration)) }
    let result = try quantizer.quantize(
      with: cache, on: data, goal: goal, measured: samples, ranks: rank, progress: progress)
    if let tensorrtCache { try TensorRTCache.write(result.report, to: tensorrtCache) }
    return result
  }

  private func progress(_ stage: String, _ done: Int, _ all: Int?) {
    Console.progress(all.map { "\(stage): \(done) of \($0)" } ?? "\(stage)\(done > 0 ? ": \(done)" : "")")
  }
}
