// apus weights: the tensors of a file as safetensors or .npz, or into a model of the same architecture.

import Apus
import ApusFormats
import ArgumentParser

struct WeightsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "weights",
    abstract: "Takes weights out of a file (PyTorch, safetensors, ONNX, …), or puts them into an ONNX model.",
    discussion: """
      Reads .pth and .pt checkpoints of PyTorch in both forms without running their pickle, exported programs (.pt2), \
      safetensors, .npz and ONNX. With --into, tensors take the place of the model's weights of the same name, shape \
      and type; prefixes that only one side has are found (as module. or model.). What did not match is listed.

      apus weights checkpoint.pth --output weights.safetensors
      apus weights finetuned.safetensors --into model.onnx --output new.onnx
      """)

  @Argument(
    help: "The file with the weights.",
    completion: .file(extensions: ["pth", "pt", "pt2", "safetensors", "npz", "onnx"]))
  var file: String

  @Option(help: "A model whose weights are replaced.", completion: .file(extensions: ["onnx"]))
  var into: String?

  @Option(
    name: .shortAndLong, help: "Where to write: FILE.safetensors or FILE.npz; with --into, FILE.onnx.",
    completion: .file(extensions: ["safetensors", "npz", "onnx"]))
  var output: String

  @Flag(
    help: """
      With --into: write nothing unless every named weight of the model has a counterpart, and every weight of its \
      network in the file.
      """)
  var all = false

  @Flag(help: "Print JSON.")
  var json = false

  private struct Report: Encodable {
    struct Pair: Encodable { var target, source: String }
    struct Rest: Encodable { var name, reason: String }
    var file, format, output: String
    var tensors, bytes: Int
    var skipped: [Rest]
    var matched: [Pair]?
    var unmatched: [Rest]?
    var unused: [String]?
    /// Those of `unused` that belong to the network whose weights were replaced.
    var leftOut: [String]?

    enum CodingKeys: String, CodingKey {
      case file, format, output, tensors, bytes, skipped, matched, unmatched, unused
      case leftOut = "left_out"
    }
  }

  /// Names of a list that are printed.
  private static let shownNames = 20

  func validate() throws {
    if into == nil, ModelWeights.Form(path: output) == nil {
      throw ValidationError("--output \(output): a name that ends in .safetensors or .npz was expected")
    }
    if into != nil, !output.hasSuffix(".onnx") {
      throw ValidationError("--output \(output): a name that ends in .onnx was expected with --into")
    }
    if all, into == nil { throw ValidationError("--all is for --into") }
  }

  func run() throws {
    guard let into else {
      guard let form = ModelWeights.Form(path: output) else { return }
      let summary = try ModelWeights.extract(path: file, to: output, form: form)
      if json { return try printJSON(report(summary, nil)) }
      try Console.print(
        "\(output.printable()) written: \(summary.tensors) tensors, \(summary.bytes) bytes, from \(summary.format)")
      return try show("not read", summary.skipped.map { "\($0.name): \($0.reason)" })
    }
    let (summary, matching) = try ModelWeights.transplant(path: file, into: into, to: output, requiresAll: all)
    if json { return try printJSON(report(summary, matching)) }
    try Console.print(
      "\(output.printable()) written: \(matching.pairs.count) weights of \(into.printable()) replaced, "
        + "\(matching.unmatched.count) kept, \(matching.unused.count) tensors of \(file.printable()) not used")
    let renamed = matching.pairs.filter { $0.target != $0.source }
    try show("under other names", renamed.map { "\($0.target) = \($0.source)" })
    try show("kept", matching.unmatched.map { "\($0.name): \($0.reason)" })
    try show("not used", matching.unused)
    if !matching.leftOut.isEmpty {
      try Console.print(
        "  warning: \(matching.leftOut.count) of the tensors that were not used lie beside ones that were: the model "
          + "has these weights in another form and keeps the old ones, or has none; export it anew if it needs them")
    }
    try show("not read", summary.skipped.map { "\($0.name): \($0.reason)" })
  }

  private func show(_ title: String, _ lines: [String]) throws {
    if lines.isEmpty { return }
    try Console.print("  \(title):")
    for line in lines.prefix(Self.shownNames) { try Console.print("    \(line.printable())") }
    if lines.count > Self.shownNames { try Console.print("    … and \(lines.count - Self.shownNames) more") }
  }

  private func report(_ summary: ModelWeights.Summary, _ matching: WeightMatching?) -> Report {
    Report(
      file: file, format: summary.format, output: output, tensors: summary.tensors, bytes: summary.bytes,
      skipped: summary.skipped.map { Report.Rest(name: $0.name, reason: $0.reason) },
      matched: matching?.pairs.map { Report.Pair(target: $0.target, source: $0.source) },
      unmatched: matching?.unmatched.map { Report.Rest(name: $0.name, reason: $0.reason) }, unused: matching?.unused,
      leftOut: matching?.leftOut)
  }
}
