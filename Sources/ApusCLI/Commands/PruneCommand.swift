// apus prune: weights with zeros, or layers with fewer channels.

import Apus
import ApusCompression
import ApusFormats
import ApusGraph
import ArgumentParser
import Foundation

struct PruneCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "prune", abstract: "Makes the smallest elements of weights 0, or takes whole channels away.",
    discussion: """
      With --structured all that depends on a channel goes with it: biases, normalizations, what is added to it, and \
      the weights that read it; what must stay is listed with its reason. The inputs and outputs of the model keep \
      their shapes. Patterns (* and ?) stand for names of nodes, names of weights, or operators.
      """)

  @OptionGroup var model: ModelArguments
  @OptionGroup var comparison: ComparisonArguments

  @Option(name: .shortAndLong, help: "Where to save the pruned model.", completion: .file(extensions: ["onnx"]))
  var output: String

  @Option(parsing: .unconditional, help: "Make that share of the elements 0, those of the smallest magnitude.")
  var magnitude: Double?

  @Option(help: "Of every M elements in a row along the input channels keep the N largest, as in 2:4.")
  var pattern: String?

  @Option(parsing: .unconditional, help: "Take that share of the output channels away.")
  var structured: Double?

  @Flag(help: "Choose the smallest of all layers, in place of those of each.")
  var global = false

  @Option(help: "The size of a channel: the sum of magnitudes (l1) or the root of the sum of squares (l2).")
  var norm = PruningOptions.Norm.l2

  @Option(
    help: """
      A .json file, {"WEIGHT OR NODE": [a number for each output channel]}, or an .npz file of such arrays: what is \
      smallest goes first, in place of the norm.
      """, completion: .file(extensions: ["json", "npz"]))
  var importance: String?

  @Option(help: "Only weights that this pattern fits. May be repeated.")
  var include: [String] = []

  @Option(help: "Not the weights that this pattern fits. May be repeated.")
  var exclude: [String] = []

  @Option(
    help: "A .json file, {\"PATTERN\": FRACTION}: other fractions for the layers that a pattern fits.",
    completion: .file(extensions: ["json"]))
  var fractions: String?

  @Option(
    parsing: .unconditional,
    help: "Prune until that share of the parameters is left, the smallest of all layers first.")
  var targetParams: Double?

  @Option(
    parsing: .unconditional,
    help: """
      Take channels away until that share of the multiply-adds is left, the smallest of all layers first. Symbolic \
      extents count as 64.
      """)
  var targetMacs: Double?

  @Option(parsing: .unconditional, help: "Keep channels in multiples of this, where there are as many.")
  var multiple = 1

  @Option(help: "The operator set to save for. [default: that of the model, or the lowest that holds it]")
  var opset: Int?

  @Flag(help: "Print JSON.")
  var json = false

  struct Report: Encodable {
    var model, file: String
    var pruning: PruningReport
    var comparison: ModelComparison
  }

  func validate() throws {
    let methods = [magnitude != nil, pattern != nil, structured != nil].count { $0 }
    let isTarget = targetParams != nil || targetMacs != nil
    if methods > 1 { throw ValidationError("expected one of --magnitude, --pattern and --structured") }
    if methods == 0, !isTarget {
      throw ValidationError("expected one of --magnitude, --pattern, --structured, --target-params and --target-macs")
    }
    if pattern != nil, global || isTarget || fractions != nil {
      throw ValidationError("--pattern says itself how many elements go; expected no --global, --fractions or target")
    }
    if structured == nil, magnitude != nil, importance != nil {
      throw ValidationError("--importance is for channels; expected --structured")
    }
    if global, fractions != nil { throw ValidationError("--fractions are for each layer; expected no --global") }
    try OptionValues.check(multiple, "--multiple", 1...Int.max)
    try CompressionOutput.check(output, opset, model)
    _ = try method()
  }

  private func method() throws -> PruningOptions.Method {
    if let pattern {
      let parts = pattern.split(separator: ":", omittingEmptySubsequences: false).map { Int($0) }
      guard parts.count == 2, let kept = parts[0], let group = parts[1], kept > 0, kept < group else {
        throw ValidationError("--pattern \(pattern): expected N:M with 0 < N < M, as in 2:4")
      }
      return .pattern(kept: kept, group: group)
    }
    return magnitude != nil ? .magnitude : .structured
  }

  private func options() throws -> PruningOptions {
    var options = PruningOptions(try method(), fraction: magnitude ?? structured ?? 0)
    options.isGlobal = global
    options.norm = norm
    options.selection = WeightSelection(include: include, exclude: exclude)
    (options.parameterTarget, options.multiplyAddTarget) = (targetParams, targetMacs)
    options.channelMultiple = multiple
    if let fractions { options.fractions = try NumberFiles.object(fractions, "--fractions", as: Double.self) }
    if let importance { options.importance = try NumberFiles.lists(importance, "--importance") }
    return options
  }

  func run() throws {
    let options = try options()
    let source = try CompressionSource(path: model.model, options: model.options())
    let (made, report) = try Pruner(options).prune(source) { Console.progress($0) }
    let comparison = try comparison.comparing(model, source, made, output: output, opset: opset)
    let whole = Report(model: model.name, file: output, pruning: report, comparison: comparison)
    if json { try printJSON(whole) } else { try show(whole) }
  }

  private func show(_ report: Report) throws {
    let pruning = report.pruning
    if !pruning.weights.isEmpty {
      let rows = pruning.weights.map {
        [
          $0.weight.printable(limit: 60), "\(Shape($0.shape))", "\($0.zerosBefore)", "\($0.zerosAfter)",
          percent($0.lostMagnitude), ValueText.format($0.sqnr) + " dB",
        ]
      }
      try Console.print(table([["weight", "shape", "zeros before", "after", "lost magnitude", "SQNR"]] + rows))
    }
    if !pruning.groups.isEmpty {
      let rows = pruning.groups.map {
        [
          $0.producers.joined(separator: ", ").printable(limit: 90), "\($0.channelsBefore)", "\($0.channelsAfter)",
          percent($0.lostNorm),
        ]
      }
      try Console.print(table([["channels of", "before", "after", "lost norm"]] + rows))
    }
    for kept in pruning.kept {
      try Console.print("kept \(kept.channels) channels of \(kept.node.printable()) because \(kept.reason.printable())")
    }
    for note in pruning.notes { Console.note(note) }
    if let fraction = pruning.chosenFraction { try Console.print("fraction for the target: \(percent(fraction))") }
    try Console.print("\n\(report.comparison.text)\n\(report.file.printable()) written")
  }
}

extension PruningOptions.Norm: ExpressibleByArgument {}

/// What the commands that save a compressed model have in common.
enum CompressionOutput {
  static func check(_ output: String, _ opset: Int?, _ model: ModelArguments) throws(ValidationError) {
    try OptionValues.check(ending: output, "--output", ["onnx"])
    if output == "-" || output.isEmpty { throw ValidationError("--output: expected the name of a file") }
    if let opset, !OptimizedModel.writableOpsets.contains(opset) {
      let range = OptimizedModel.writableOpsets
      throw ValidationError("--opset is \(opset); expected \(range.lowerBound) to \(range.upperBound)")
    }
  }
}

extension ComparisonArguments {
  /// Compares, and saves what was made only if all of that went well.
  func comparing(
    _ arguments: ModelArguments, _ source: CompressionSource, _ made: CompressedModel, output: String, opset: Int?
  ) throws -> ModelComparison {
    var comparison = try compare(arguments, source, made)
    try made.save(to: URL(filePath: output), opset: opset)
    comparison.after.fileBytes = FileSizes.bytes(output) + FileSizes.bytes(output + ".data")
    return comparison
  }
}

/// Numbers by name, in files.
enum NumberFiles {
  static func object<Content: Decodable>(
    _ path: String, _ option: String, as type: Content.Type
  ) throws -> [String: Content] {
    let file = try FileBytes.open(path: path)
    let bytes = file.withBytes { (span: Span<UInt8>) in span.indices.map { span[$0] } }
    do {
      return try JSONDecoder().decode([String: Content].self, from: Data(bytes))
    } catch {
      let expected = type == Double.self ? "{\"NAME\": number}" : "{\"NAME\": [numbers]}"
      throw InputError("\(option) \(path): expected JSON of the form \(expected)")
    }
  }

  static func lists(_ path: String, _ option: String) throws -> [String: [Double]] {
    guard FileFormat.ending(of: path) == "npz" else { return try object(path, option, as: [Double].self) }
    var lists: [String: [Double]] = [:]
    for (name, tensor) in try Npz.decode(FileBytes.open(path: path)) {
      let numbers = tensor.elements(as: Double.self) ?? WeightNumbers.read(tensor)?.map { Double($0) }
      guard let numbers, tensor.rank == 1 else {
        throw InputError(
          "\(option) \(path): array '\(name.printable())' is \(tensor.dataType)\(tensor.shape); expected one axis of "
            + "floats"
        )
      }
      lists[name] = numbers
    }
    return lists
  }
}
