// apus graph: a picture of a model.

import Apus
import ApusFormats
import ArgumentParser

struct GraphCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "graph", abstract: "Draws a model, subgraphs nested: SVG for a browser, DOT for Graphviz.",
    discussion: """
      In a graph of more than \(GraphFolding.usualLimit) nodes, layers that repeat become boxes of their own, and so \
      do stretches of other nodes; pointing at a box shows what is in it.
      """)

  @OptionGroup var model: ModelArguments

  @Option(
    name: .shortAndLong, help: "The picture: FILE.svg or FILE.dot.", completion: .file(extensions: ["svg", "dot"]))
  var output: String

  @Flag(help: "Draw the graph that runs, after all passes, not that of the file.")
  var optimized = false

  @Flag(help: "Draw every node, however many there are.")
  var all = false

  @Flag(help: "Print JSON: the file and its counts.")
  var json = false

  private struct Report: Encodable {
    var file: String
    var boxes, arrows, foldedNodes: Int
  }

  func validate() throws {
    guard ["svg", "dot"].contains(FileFormat.ending(of: output)) else {
      throw ValidationError("--output \(output): expected a name that ends in .svg or .dot")
    }
  }

  func run() throws {
    let graph = try optimized ? model.load().graph : model.inspect().graph
    let diagram = Diagram(graph, limit: all ? .max : GraphFolding.usualLimit)
    let text =
      FileFormat.ending(of: output) == "svg"
      ? SVGWriter.text(LayeredLayout(diagram), title: model.name) : DOTWriter.text(diagram, title: model.name)
    try OutputFile.write(Array(text.utf8), to: output)
    let report = Report(
      file: output, boxes: diagram.boxes.count, arrows: diagram.arrows.count, foldedNodes: diagram.foldedNodes)
    if json { return try printJSON(report) }
    let folded = report.foldedNodes > 0 ? "; \(report.foldedNodes) nodes are folded, --all draws each" : ""
    try Console.print("\(output.printable()): \(report.boxes) boxes, \(report.arrows) arrows\(folded)")
  }
}
