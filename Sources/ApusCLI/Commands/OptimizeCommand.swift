// apus optimize: what the passes do to a model, and the model that they leave.

import Apus
import ArgumentParser

struct OptimizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "optimize",
    abstract: "Shows what each pass of the optimizer does to a model; saves the optimized model as ONNX.",
    discussion: """
      A saved model holds standard operators only and runs on any runtime: of the passes, those that end in operators \
      of Apus alone are left out, unless --passes all asks for them; what they made is written as standard operators \
      then. Every load optimizes by itself; saving is for other runtimes and for looking at the result.
      """)

  @OptionGroup var model: ModelArguments

  @Option(
    name: .shortAndLong,
    help: """
      Where to save the optimized model, which may be the model itself; weights of more than 1.5 GB go to FILE.data \
      beside it.
      """, completion: .file(extensions: ["onnx"]))
  var output: String?

  @Option(
    help: "The operator set to save for. [default: that of the model, or a lower one down to 21 if it holds the result]"
  )
  var opset: Int?

  @Option(
    help: """
      Which passes run before saving: those that keep to standard operators, or all, whose operators become standard \
      ones again. Without --output all run.
      """)
  var passes: PassSelection = .portable

  /// The passes of a model that is saved.
  enum PassSelection: String, ExpressibleByArgument, CaseIterable { case portable, all }

  @Flag(help: "Also list the patterns that were there and could not be replaced, and why.")
  var explain = false

  @Option(
    parsing: .unconditional, help: "Stop after that many changes: to find the one that makes a difference.")
  var stopAfter: Int?

  @Flag(help: "Print JSON.")
  var json = false

  private struct Report: Encodable {
    struct Pass: Encodable {
      var pass: String
      var changes, nodesBefore, nodesAfter: Int
      var refused: [Refusal]
    }
    struct Refusal: Encodable {
      var fusion, node, reason: String
    }
    var model: String
    var file: String?
    /// Inputs with a default value, which the saved model has as constants.
    var fixedInputs: [String]
    var passes: [Pass]
  }

  func validate() throws {
    if let opset, !OptimizedModel.writableOpsets.contains(opset) {
      throw ValidationError(
        "--opset is \(opset); expected \(OptimizedModel.writableOpsets.lowerBound) to "
          + "\(OptimizedModel.writableOpsets.upperBound)")
    }
    try OptionValues.check(stopAfter, "--stop-after", 0...Int.max)
    if opset != nil, output == nil { throw ValidationError("--opset is for saving; give --output too") }
    if passes == .all, output == nil { throw ValidationError("--passes is for saving; give --output too") }
    if json, output == "-" {
      throw ValidationError("--json and --output - exclude each other: both go to standard output")
    }
  }

  func run() throws {
    var options = try model.options()
    options.optimization.isPortable = output != nil && passes == .portable
    options.optimization.stopAfter = stopAfter
    let optimized = try ModelReader.optimize(
      path: model.model, options: options, for: output == nil ? .looking : .saving(opset: opset))
    if let output { try optimized.save(to: output == "-" ? "/dev/stdout" : output, opset: opset) }
    if output == "-" { return }
    let report = Report(
      model: model.name, file: output, fixedInputs: optimized.model.defaultedInputs.map(\.name),
      passes: optimized.passes.map {
        .init(
          pass: $0.pass, changes: $0.changes, nodesBefore: $0.nodesBefore, nodesAfter: $0.nodesAfter,
          refused: $0.refusals.map { .init(fusion: $0.fusion, node: $0.node, reason: $0.reason) })
      })
    if json { try printJSON(report) } else { try show(report) }
  }

  /// Names of inputs that are listed; --json has all.
  private static let namesShown = 5

  private func show(_ report: Report) throws {
    let rows = report.passes.map { [$0.pass, "\($0.changes)", "\($0.nodesBefore)", "\($0.nodesAfter)"] }
    try Console.print(table([["pass", "changes", "nodes before", "after"]] + rows))
    if explain {
      for refused in report.passes.flatMap(\.refused) {
        try Console.print("not \(refused.fusion) at \(refused.node.printable()): \(refused.reason.printable())")
      }
    }
    if let file = report.file { try Console.print("\n\(file.printable()) written") }
    if !report.fixedInputs.isEmpty {
      let names = report.fixedInputs.prefix(Self.namesShown).map { "'\($0.printable())'" }.joined(separator: ", ")
      let rest = report.fixedInputs.count - Self.namesShown
      try Console.print(
        "Inputs with a default value are constants now: \(names)" + (rest > 0 ? " and \(rest) more" : ""))
    }
  }
}
