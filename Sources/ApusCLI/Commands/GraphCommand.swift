// apus graph: a picture of a model.

import Apus
import ArgumentParser
import Foundation

struct GraphCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "graph", abstract: "Draws a model, subgraphs nested: SVG for a browser, DOT for Graphviz.")

  @OptionGroup var model: ModelArguments

  @Option(help: "The picture: FILE.svg or FILE.dot.")
  var output: String

  @Flag(help: "Draw the graph that runs, after all passes, not that of the file.")
  var optimized = false

  @Flag(help: "Print JSON: the file and its counts.")
  var json = false

  private struct Report: Encodable {
    var file: String
    var boxes, arrows: Int
  }

  func run() throws {
    guard output.hasSuffix(".svg") || output.hasSuffix(".dot") else {
      throw ValidationError("--output \(output): expected a name that ends in .svg or .dot")
    }
    do {
      let graph = try optimized ? model.load().graph : model.inspect().graph
      let diagram = Diagram(graph)
      let text = output.hasSuffix(".svg")
        ? SVGWriter.text(LayeredLayout(diagram), title: model.name) : DOTWriter.text(diagram, title: model.name)
      try text.write(toFile: output, atomically: true, encoding: .utf8)
      let report = Report(file: output, boxes: diagram.boxes.count, arrows: diagram.arrows.count)
      if json { try printJSON(report) } else { print("\(output): \(report.boxes) boxes, \(report.arrows) arrows") }
    } catch let error as ValidationError {
      throw error
    } catch {
      throw fail(error)
    }
  }
}
