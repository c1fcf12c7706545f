// apus info: what a model is and what it costs.

import Apus
import ApusGraph
import ApusTensor
import ArgumentParser

struct InfoCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "info",
    abstract: "Shows inputs, outputs, operators, parameters, multiply-adds and memory of a model.")

  @OptionGroup var model: ModelArguments

  @Flag(help: "List every value of the main graph with its type.")
  var values = false

  @Flag(help: "Print JSON.")
  var json = false

  private struct Report: Encodable {
    struct Value: Encodable {
      var name, type: String
      /// The node that computes it, for a value without a name.
      var node: String?
    }
    var model, graph, producer, documentation, domain: String
    var irVersion, modelVersion: Int
    var opsets: [String: Int]
    var metadata: [String: String]
    var inputs, outputs: [Value]
    var values: [Value]?
    var operators: [String: Int]
    var nodes, parameters: Int
    var constantBytes: [String: Int]
    var multiplyAdds, peakBytes: String
    var uncounted: [String]
    /// Why it cannot run; `apus check` says more.
    var problems: [String]
    /// What it was compiled for, if it was.
    var compiledFor: String?
  }

  func run() throws {
    let report = try describe()
    if json { try printJSON(report) } else { try show(report) }
  }

  private func describe() throws -> Report {
    let inspection = try model.inspect()
    let (graph, information) = (inspection.graph, inspection.information)
    let statistics = ModelStatistics(graph)
    func list(_ ids: [ValueID]) -> [Report.Value] {
      ids.map { Report.Value(name: graph[$0].name, type: graph.fact($0).description) }
    }
    let produced = graph.nodes.flatMap { node in
      node.outputs.compactMap { $0 }.map { id in
        let isNamed = !graph[id].name.isEmpty
        return Report.Value(
          name: graph[id].name, type: graph.fact(id).description,
          node: isNamed ? nil : "\(node.op)" + (node.name.isEmpty ? "" : " '\(node.name)'"))
      }
    }
    let outputs = graph.outputs.enumerated().map { position, id in
      Report.Value(name: graph[id].name, type: graph.describedOutput(position).description)
    }
    return Report(
      model: model.name, graph: information.graphName,
      producer: [information.producer, information.producerVersion].filter { !$0.isEmpty }.joined(separator: " "),
      documentation: information.documentation, domain: information.domain, irVersion: information.irVersion,
      modelVersion: information.modelVersion,
      opsets: Dictionary(information.opsets.map { ($0.key.isEmpty ? "ai.onnx" : $0.key, $0.value) }) { first, _ in first
      },
      metadata: Dictionary(information.metadata.map { ($0.key, $0.value) }) { first, _ in first },
      inputs: list(graph.inputs), outputs: outputs, values: values || json ? produced : nil,
      operators: statistics.operators, nodes: statistics.nodes, parameters: statistics.parameters,
      constantBytes: Dictionary(statistics.constantBytes.map { ($0.key.description, $0.value) }) { first, _ in first },
      multiplyAdds: statistics.multiplyAdds.description, peakBytes: statistics.peakBytes.description,
      uncounted: statistics.uncounted, problems: inspection.problems.map { "\($0.nodePath): \($0.reason)" },
      compiledFor: information.compilation.map {
        "Apus \($0.version) and \($0.level)" + ($0.features.isEmpty ? "" : " with \($0.features)")
      })
  }

  private func show(_ report: Report) throws {
    try Console.print(
      "\(report.model.printable()): graph '\(report.graph.printable())', IR \(report.irVersion), opsets "
        + report.opsets.sorted { $0.key < $1.key }.map { "\($0.key.printable()) \($0.value)" }.joined(separator: ", "))
    if let target = report.compiledFor { try Console.print("compiled for \(target.printable())") }
    if !report.producer.isEmpty { try Console.print("made by \(report.producer.printable())") }
    if !report.documentation.isEmpty {
      try Console.print(
        report.documentation.split(separator: "\n").map { String($0).printable(limit: 1000) }.joined(separator: "\n"))
    }
    for (key, value) in report.metadata.sorted(by: { $0.key < $1.key }) {
      try Console.print("  \(key.printable()): \(value.printable(limit: 120))")
    }
    try Console.print("\ninputs")
    for value in report.inputs { try Console.print("  \(value.name.printable()): \(value.type.printable(limit: 400))") }
    try Console.print("outputs")
    for value in report.outputs {
      try Console.print("  \(value.name.printable()): \(value.type.printable(limit: 400))")
    }
    if let values = report.values {
      try Console.print("values")
      for value in values {
        let name = value.node.map { "(of \($0.printable()))" } ?? value.name.printable()
        try Console.print("  \(name): \(value.type.printable(limit: 400))")
      }
    }
    try Console.print("\n\(report.nodes) nodes")
    for (name, count) in report.operators.sorted(by: { ($1.value, $0.key) < ($0.value, $1.key) }) {
      try Console.print("  \(name.printable()) \(count)")
    }
    let bytes = report.constantBytes.sorted { $0.key < $1.key }.map { "\($0.key) \(InfoCommand.size($0.value))" }
    try Console.print(
      "\nparameters      \(InfoCommand.grouped("\(report.parameters)"))"
        + (bytes.isEmpty ? "" : " (\(bytes.joined(separator: ", ")))"))
    let isNothingCounted = report.multiplyAdds == "0" && !report.uncounted.isEmpty
    try Console.print(
      "multiply-adds   \(isNothingCounted ? "not known before it runs" : InfoCommand.grouped(report.multiplyAdds))")
    if !report.uncounted.isEmpty {
      try Console.print("  without \(report.uncounted.count) nodes whose shapes or iterations depend on data")
    }
    // An unknown dimension is written as a question mark.
    try Console.print(
      report.peakBytes.contains("?")
        ? "working memory  not known before it runs: shapes depend on data"
        : "working memory  at most \(InfoCommand.grouped(report.peakBytes)) bytes beside the weights")
  }

  private static func size(_ bytes: Int) -> String {
    bytes >= 1_000_000 ? "\(ValueText.format(Double(bytes / 10_000) / 100)) MB" : "\(bytes) bytes"
  }

  /// A number with commas between thousands; anything else as it is.
  private static func grouped(_ text: String) -> String {
    guard text.allSatisfy(\.isNumber) else { return text }
    var result = ""
    for (index, digit) in text.reversed().enumerated() {
      if index > 0, index % 3 == 0 { result.append(",") }
      result.append(digit)
    }
    return String(result.reversed())
  }
}
