// apus optimize: what the passes do to a model, and the model that they leave.

import Apus
import ArgumentParser
import Foundation

struct OptimizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "optimize",
    abstract: "Shows what each pass of the optimizer does to a model; saves the optimized model as ONNX.",
    discussion: """
      A saved model holds standard operators only and runs on any runtime: of the passes, those that end in operators of \
      Apus alone are left out. Every load optimizes by itself; saving is for other runtimes and for looking at the result.
      """)

  @OptionGroup var model: ModelArguments

  @Option(help: "Where to save the optimized model; weights of more than 1.5 GB go to FILE.data beside it.")
  var output: String?

  @Option(
    help: "The operator set to save for. [default: that of the model, or a lower one down to 21 if it holds the result]")
  var opset: Int?

  @Flag(help: "Print JSON.")
  var json = false

  private struct Report: Encodable {
    struct Pass: Encodable {
      var pass: String
      var changes, nodesBefore, nodesAfter: Int
    }
    var model: String
    var file: String?
    var passes: [Pass]
  }

  func validate() throws {
    if let opset, !OptimizedModel.writableOpsets.contains(opset) {
      throw ValidationError(
        "--opset is \(opset); expected \(OptimizedModel.writableOpsets.lowerBound) to "
          + "\(OptimizedModel.writableOpsets.upperBound)")
    }
    if opset != nil, output == nil { throw ValidationError("--opset is for saving; give --output too") }
  }

  func run() throws {
    do {
      var options = try model.options()
      options.optimization.isPortable = output != nil
      let optimized = try ModelReader.optimize(path: model.model, options: options, opset: opset)
      if let output {
        guard try !isModel(output) else {
          throw ValidationError("--output \(output) is the model itself, whose weights are still read; choose another name")
        }
        try optimized.save(to: output, opset: opset)
      }
      let report = Report(
        model: model.name, file: output,
        passes: optimized.passes.map {
          .init(pass: $0.pass, changes: $0.changes, nodesBefore: $0.nodesBefore, nodesAfter: $0.nodesAfter)
        })
      if json { try printJSON(report) } else { show(report) }
    } catch let error as ValidationError {
      throw error
    } catch {
      throw fail(error)
    }
  }

  private func isModel(_ path: String) throws -> Bool {
    func file(_ path: String) -> NSObject? {
      (try? URL(filePath: path).resourceValues(forKeys: [.fileResourceIdentifierKey]))?.fileResourceIdentifier as? NSObject
    }
    guard model.model != "-", let written = file(path) else { return false }
    return written == file(model.model)
  }

  private func show(_ report: Report) {
    let rows = report.passes.map { [$0.pass, "\($0.changes)", "\($0.nodesBefore)", "\($0.nodesAfter)"] }
    print(table([["pass", "changes", "nodes before", "after"]] + rows))
    if let file = report.file { print("\n\(file) written") }
  }
}
