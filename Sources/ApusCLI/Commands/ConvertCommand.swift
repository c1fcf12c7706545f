// apus convert: a model in another format.

import Apus
import ApusFormats
import ArgumentParser

struct ConvertCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert",
    abstract: "Writes a model in another format: ONNX as binary, protobuf text, protobuf JSON or ONNX's own text.",
    discussion: """
      The format of the model is told from its bytes, that of the target from its name:

      .onnx                          the binary form
      .textproto .pbtxt .prototxt    protobuf text, as google.protobuf.text_format prints it
      .json .onnxjson                protobuf JSON, as google.protobuf.json_format prints it
      .onnxtxt                       ONNX's own text, as onnx.printer prints it

      Nothing of a model is lost, but for what ONNX's own text has no place for, which is reported. The target gets \
      its name when the model was checked and, where it is a text, when reading it again gave the same text.

      apus convert model.onnx --output model.textproto
      apus convert model.json --output model.onnx
      """)

  @Argument(
    help: "The model, or - for standard input.",
    completion: .file(extensions: ["onnx", "textproto", "pbtxt", "prototxt", "json", "onnxjson", "onnxtxt"]))
  var model: String

  @Option(
    name: .shortAndLong, help: "Where to write the model, or - for standard output.",
    completion: .file(extensions: ["onnx", "textproto", "pbtxt", "prototxt", "json", "onnxjson", "onnxtxt"]))
  var output: String

  @Option(help: "Refuse the model unless it has this format.")
  var from: ModelForm?

  @Option(help: "The format of the target. [default: as its name ends]")
  var to: ModelForm?

  @Flag(help: "Write models too that cannot run here.")
  var unchecked = false

  @Flag(help: "Print JSON.")
  var json = false

  private struct Report: Encodable {
    var model, file, from, to: String
    var modelBytes, fileBytes: Int
    var nodes: Int?
    var leftOut: [String]
  }

  func validate() throws {
    if model.isEmpty { throw ValidationError("the name of the model's file is empty") }
    if json, output == "-" {
      throw ValidationError("--json and --output - exclude each other: both go to standard output")
    }
    if to == nil, ModelForm(path: output) == nil {
      let endings = ModelForm.allCases.map { "." + $0.endings[0] }.joined(separator: ", ")
      throw ValidationError("--output \(output): a name that ends in one of \(endings) was expected, or --to FORMAT")
    }
  }

  func run() throws {
    var options = ModelConversion.Options()
    options.source = from
    options.target = to
    options.checks = !unchecked
    let summary = try ModelConversion.convert(path: model, to: output, options: options)
    if json {
      return try printJSON(
        Report(
          model: model, file: output, from: summary.source.name, to: summary.target.name,
          modelBytes: summary.sourceBytes, fileBytes: summary.fileBytes, nodes: summary.nodes, leftOut: summary.lost))
    }
    if !summary.lost.isEmpty {
      Console.note("\(summary.target.title) has no place for \(summary.lost.joined(separator: ", "))")
    }
    if output == "-" { return }
    try Console.print(
      """
      \(output.printable()) written: \(summary.fileBytes) bytes of \(summary.target.title), from \
      \(summary.sourceBytes) bytes of \(summary.source.title)
      """)
  }
}

extension ModelForm: ExpressibleByArgument {}
