// apus quantize: a model on integers, and what that costs.

import Apus
import ApusCompression
import ApusFormats
import ArgumentParser
import Foundation

struct QuantizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "quantize",
    abstract: "Makes a model smaller and faster: integers, weights of few bits, 16-bit floats; says what that costs.",
    discussion: """
      apus quantize resnet50.onnx resnet50-int8.onnx --calibrate samples.npz
      apus quantize bert.onnx bert-int8.onnx --dynamic
      apus quantize llama.onnx llama-int4.onnx --weights int4 --method gptq --calibrate texts.npz
      apus quantize unet.onnx unet-f16.onnx --float16
      apus quantize resnet50.onnx out.onnx --calibrate samples.npz --target-sqnr 25 --html report.html
      """)

  @OptionGroup var model: ModelArguments

  @Argument(help: "Where to store the quantized model.", completion: .file(extensions: ["onnx"]))
  var output: String

  @OptionGroup(title: "Activations and weights as integers") var choice: QuantizationArguments
  @OptionGroup(title: "Weights of few bits") var few: WeightArguments
  @OptionGroup(title: "16 bits") var halves: HalfArguments

  @Option(
    name: .long, parsing: .upToNextOption,
    help: """
      The samples to calibrate with: folders, .npz, .npy, .csv, .wav, pictures, .pb, .json or .txt; INPUT=PATH where \
      the model has several inputs.
      """, completion: .file())
  var calibrate: [String] = []

  @OptionGroup(title: "How samples are read") var samples: SampleArguments
  @OptionGroup(title: "How accuracy is measured") var accuracy: AccuracyArguments

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

  @Option(
    parsing: .unconditional,
    help: """
      Leave as many nodes in float, the worst first, as it takes for the model to reach this figure on labelled \
      samples, as `apus accuracy` measures it: the first of --metric, or of the task.
      """)
  var targetAccuracy: Double?

  @Option(
    name: .long, parsing: .upToNextOption,
    help: "The labelled samples of --target-accuracy. [default: those of --calibrate]", completion: .file())
  var data: [String] = []

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
    if output.isEmpty || output == "-" { throw ValidationError("the quantized model: expected the name of a file") }
    if targetAccuracy == nil, !data.isEmpty || !accuracy.metric.isEmpty {
      throw ValidationError("\(data.isEmpty ? "--metric" : "--data") is of no use without --target-accuracy")
    }
    try OptionValues.check(measure, "--measure", 0...Int.max)
    try OptionValues.check(top, "--top", 0...Int.max)
    try OptionValues.check(ending: html, "--html", ["html", "htm"])
    try OptionValues.check(ending: saveCalibration, "--save-calibration", ["json"])
    switch try kind() {
    case .dynamic:
      let unused: [(Bool, String)] = [
        (calibration != nil, "--calibration"), (saveCalibration != nil, "--save-calibration"),
        (tensorrtCache != nil, "--tensorrt-cache"),
      ]
      if let (_, option) = unused.first(where: \.0) {
        throw ValidationError("\(option) is of no use with --dynamic: scales are found in each run")
      }
      if choice.smooth != nil, calibrate.isEmpty {
        throw ValidationError("--smooth looks at samples; give them by --calibrate")
      }
      try refuse(few.given + halves.given, "--dynamic")
      try checkGoals()
    case .static:
      if calibrate.isEmpty, calibration == nil {
        throw ValidationError(
          "--static needs samples by --calibrate, or what --save-calibration stored by --calibration")
      }
      if choice.smooth != nil, saveCalibration != nil {
        throw ValidationError("--save-calibration is of no use with --smooth: the ranges are those of other weights")
      }
      if choice.adaround, calibrate.isEmpty { throw ValidationError("--adaround needs samples by --calibrate") }
      try refuse(few.given + halves.given, "--static")
      try checkGoals()
    case .weights:
      if choice.adaround { throw ValidationError("--adaround is for --static; see --method gptq") }
      try refuse(choice.given + searched + halves.given, "--weights")
      if few.method.wantsSamples, calibrate.isEmpty {
        throw ValidationError("--method \(few.method.rawValue) goes by activations; give --calibrate too")
      }
    case .halves: try refuse(choice.given + searched + few.given, halves.float16 ? "--float16" : "--bfloat16")
    }
  }

  /// What only integers have, beside the names of the options.
  private var searched: [(Bool, String)] {
    [
      (calibration != nil, "--calibration"), (saveCalibration != nil, "--save-calibration"),
      (tensorrtCache != nil, "--tensorrt-cache"), (targetSqnr != nil, "--target-sqnr"), (rank, "--rank"),
      (targetAccuracy != nil, "--target-accuracy"), (html != nil, "--html"),
    ]
  }

  private func refuse(_ given: [(Bool, String)], _ what: String) throws(ValidationError) {
    guard let (_, option) = given.first(where: \.0) else { return }
    throw ValidationError("\(option) is of no use with \(what)")
  }

  private func checkGoals() throws(ValidationError) {
    if let targetSqnr, !targetSqnr.isFinite || calibrate.isEmpty {
      throw ValidationError("--target-sqnr takes a number of decibels, and samples by --calibrate")
    }
    if targetAccuracy != nil, targetSqnr != nil || calibrate.isEmpty {
      throw ValidationError("--target-accuracy takes samples by --calibrate, and no --target-sqnr beside it")
    }
    if rank, calibrate.isEmpty { throw ValidationError("--rank needs samples by --calibrate") }
  }

  /// What is made of the model.
  private enum Kind { case `static`, dynamic, weights, halves }

  private func kind() throws(ValidationError) -> Kind {
    let said = [choice.isStatic, choice.dynamic, halves.float16, halves.bfloat16].count { $0 }
    if said > 1 { throw ValidationError("--static, --dynamic, --float16 and --bfloat16 exclude each other") }
    if halves.options != nil {
      if few.weights == nil { return .halves }
      throw ValidationError("--weights and --float16 or --bfloat16 exclude each other")
    }
    if choice.dynamic { return .dynamic }
    if few.weights != nil, !choice.isStatic { return .weights }
    if choice.isStatic || !calibrate.isEmpty || calibration != nil { return .static }
    throw ValidationError(
      "say what is to be made: --static with samples by --calibrate, --dynamic, --weights TYPE, --float16 or --bfloat16"
    )
  }

  func run() throws {
    for path in [output, html, saveCalibration, tensorrtCache] { try OptionValues.check(folderOf: path) }
    switch try kind() {
    case .static, .dynamic: try makeIntegers()
    case .weights:
      let source = try CompressionSource(path: model.model, options: try model.options())
      let result = try WeightQuantization.quantize(
        source, few.options(), on: try calibrationFiles(source), progress: Console.progress)
      try save(result.model)
      if json { try printJSON(result.report) } else { try result.report.show() }
    case .halves:
      var loading = try model.options()
      // Weights go from file to file.
      loading.mapsFiles = true
      var options = halves.options ?? HalfConversionOptions()
      (options.include, options.keep) = (few.include, options.keep + few.exclude)
      let source = try CompressionSource(path: model.model, options: loading)
      let result = try HalfConversion.convert(
        source, options, on: try calibrationFiles(source), progress: Console.progress)
      try save(result.model)
      if json { try printJSON(result.report) } else { try result.report.show() }
    }
  }

  private func save(_ result: CompressedModel) throws {
    Console.progress("")
    try result.save(to: URL(filePath: output))
  }

  /// The samples of --calibrate; nil: there are none.
  private func calibrationFiles(_ source: CompressionSource) throws -> CalibrationFiles? {
    calibrate.isEmpty ? nil : try CalibrationFiles(calibrate, samples, for: source)
  }

  private func makeIntegers() throws {
    let weights = try few.weights.map { type in
      guard let known = QuantizedType(rawValue: type.rawValue), known.bits == 8 || !choice.dynamic else {
        throw ValidationError("--weights \(type.rawValue) is no type of weights that are multiplied as integers")
      }
      return known
    }
    let selection = NodeSelection(included: few.include, excluded: few.exclude)
    let options = try choice.options(weights: weights, selection)
    let source = try CompressionSource(path: model.model, options: try model.options())
    let quantizer = try Quantizer(source, options: options)
    let data = calibrate.isEmpty ? nil : try CalibrationFiles(calibrate, samples, for: source)
    let result = try steps.quantize(quantizer, on: data, progress: progress)
    try save(result.model)
    let report = QuantizationSummary(model: model.name, file: output, report: result.report)
    if let html { try OutputFile.write(Array(report.page.utf8), to: html) }
    if json { try printJSON(report) } else { try report.print(top: top) }
  }

  private var steps: QuantizationSteps {
    var steps = QuantizationSteps()
    (steps.calibration, steps.saveCalibration) = (calibration, saveCalibration)
    (steps.tensorRTCache, steps.measured, steps.ranks) = (tensorrtCache, measure, rank)
    steps.goal =
      targetAccuracy.map { Quantizer.Goal.quality($0, measure: measuredAccuracy) }
      ?? targetSqnr.map { Quantizer.Goal.decibels($0) }
    return steps
  }

  /// The figure that a target speaks of.
  private func measuredAccuracy(of model: Model) throws -> Double {
    var reader = try Samples(
      data.isEmpty ? calibrate : data, option: data.isEmpty ? "--calibrate" : "--data", arguments: samples,
      for: InputTargets(model))
    let session = try AccuracySession(accuracy, feed: samples.feed, model, &reader)
    guard let figure = session.figure, let value = figure.value else {
      throw InputError("--target-accuracy: \(session.figure?.reason ?? "there is no figure for these samples")")
    }
    if AccuracyTask.errors.contains(figure.name) {
      throw InputError("--target-accuracy: of \(figure.name) less is better; name another figure by --metric")
    }
    return value
  }

  private func progress(_ stage: String, _ done: Int, _ all: Int?) {
    Console.progress(all.map { "\(stage): \(done) of \($0)" } ?? "\(stage)\(done > 0 ? ": \(done)" : "")")
  }
}
