// apus sparsity: where the zeros of a model's weights lie.

import Apus
import ApusGraph
import ArgumentParser

struct SparsityCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sparsity", abstract: "Shows the zeros of each weight: in all, by channel, and in the pattern 2:4.",
    discussion: """
      Weights are the constants of floats that matrix products, convolutions and recurrent layers read. --json has the \
      zeros of every channel.
      """)

  @OptionGroup var model: ModelArguments

  @Flag(help: "Print JSON.")
  var json = false

  private struct Report: Encodable {
    var model: String
    var sparsity: SparsityReport
  }

  func run() throws {
    let read = try ModelReader.readForCompression(path: model.model, options: model.options())
    let report = SparsityReport(read.model.graph)
    if json { return try printJSON(Report(model: model.name, sparsity: report)) }
    let header = ["weight", "operator", "shape", "of all", "zeros", "empty outputs", "empty inputs", "2:4"]
    let rows = report.weights.map { weight in
      [
        weight.weight.printable(limit: 60), weight.operator.printable(), "\(Shape(weight.shape))",
        percent(weight.share),
        percent(weight.zeroShare), "\(weight.emptyOutputChannels) of \(weight.zerosByOutputChannel.count)",
        "\(weight.emptyInputChannels) of \(weight.zerosByInputChannel.count)", percent(weight.twoOfFour),
      ]
    }
    try Console.print(table([header] + rows))
    let share = report.weightElements > 0 ? Double(report.zeros) / Double(report.weightElements) : 0
    try Console.print(
      "\n\(report.zeros) of \(report.weightElements) elements of weights are 0 (\(percent(share))); "
        + "the model has \(report.parameters) parameters")
  }
}
