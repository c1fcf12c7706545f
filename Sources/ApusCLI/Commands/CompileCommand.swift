// apus compile: a model as a file that is ready to run.

import Apus
import ArgumentParser

struct CompileCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compile",
    abstract: "Writes a model as a file that loads in milliseconds: optimized graph and packed weights.",
    discussion: """
      Every command that takes a model takes the file too. It is for this version of Apus and for machines with the \
      same instructions; others refuse it. Its weights stay in it, and processes that run it share them: it must not \
      be changed meanwhile. To replace it, write a new one, as this command does.

      apus compile bert.onnx --output bert.apus
      apus run bert.apus --random --dim batch=1 --dim sequence=128
      """)

  @OptionGroup var model: ModelArguments

  @Option(name: .shortAndLong, help: "Where to write the compiled model.", completion: .file(extensions: ["apus"]))
  var output: String

  @Option(help: "Make this intermediate value an output too. May be repeated.")
  var value: [String] = []

  @Flag(help: "Print JSON.")
  var json = false

  private struct Report: Encodable {
    var model, file, apusVersion, level, features: String
    var fileBytes, nodes, packedWeights, packedBytes, constantBytes: Int
  }

  func validate() throws {
    if json, output == "-" {
      throw ValidationError("--json and --output - exclude each other: both go to standard output")
    }
  }

  func run() throws {
    var options = try model.options()
    options.extraOutputs = value
    let summary = try ModelReader.compile(
      path: model.model, options: options, to: output == "-" ? "/dev/stdout" : output
    ) { stage, share in
      Console.progress(share > 0 ? "\(stage) \(Int(share * 100)) %" : stage)
    }
    Console.progress("")
    if output == "-" { return }
    let target = summary.target
    let report = Report(
      model: model.name, file: output, apusVersion: target.version, level: target.level, features: target.features,
      fileBytes: summary.fileBytes, nodes: summary.nodes, packedWeights: summary.packedWeights,
      packedBytes: summary.packedBytes, constantBytes: summary.constantBytes)
    if json { return try printJSON(report) }
    let machine = report.level + (report.features.isEmpty ? "" : " with \(report.features)")
    try Console.print(
      """
      \(output.printable()) written: \(report.fileBytes) bytes, for Apus \(report.apusVersion) and \(machine)
      \(report.nodes) nodes, \(report.packedWeights) packed weights of \(report.packedBytes) bytes, other constants of \
      \(report.constantBytes) bytes
      """)
  }
}
