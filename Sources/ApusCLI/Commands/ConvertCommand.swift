// apus convert: a model in another format.

import Apus
import ApusFormats
import ArgumentParser

struct ConvertCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert",
    abstract: "Writes a model in another format, for another operator set, or as ONNX if it is none.",
    discussion: """
      The format of the model is told from its bytes, that of the target from its name:

      .onnx                          the binary form
      .textproto .pbtxt .prototxt    protobuf text, as google.protobuf.text_format prints it
      .json .onnxjson                protobuf JSON, as google.protobuf.json_format prints it
      .onnxtxt                       ONNX's own text, as onnx.printer prints it

      Models of other frameworks become ONNX; `apus formats` lists what is read. If something of such a model cannot \
      be said in ONNX, all of that is listed, and nothing is written.

      With --opset, operators that are younger than that are written as older ones where these compute the same. \
      Otherwise nothing of a model of ONNX is lost, but for what ONNX's own text has no place for, which is reported. \
      The target gets its name when the model was checked and, where it is a text, when reading it again gave the \
      same text.

      apus convert model.onnx --output model.textproto
      apus convert model.json --output model.onnx
      apus convert model.onnx --output older.onnx --opset 13 --dim batch=1
      """)

  @Argument(
    help: "The model, or - for standard input.",
    completion: .file(extensions: ["onnx", "textproto", "pbtxt", "prototxt", "json", "onnxjson", "onnxtxt"]))
  var model: String

  @Option(
    name: .shortAndLong, help: "Where to write the model, or - for standard output.",
    completion: .file(extensions: ["onnx", "textproto", "pbtxt", "prototxt", "json", "onnxjson", "onnxtxt"]))
  var output: String

  @Option(help: "Refuse the model unless it has this format, as `apus formats` names it.")
  var from: String?

  @Option(help: "The format of the target. [default: as its name ends]")
  var to: ModelForm?

  @Option(help: "The operator set to write. [default: that of the model; for other frameworks 21, or what it takes]")
  var opset: Int?

  @Option(help: "A number for a symbolic dimension, as in batch=4. May be repeated.")
  var dim: [String] = []

  @Option(help: "The shape of an input, as in x=1x3x224x224. May be repeated.")
  var shape: [String] = []

  @Option(help: "A new name for an input or output, as in OLD=NEW. May be repeated.")
  var rename: [String] = []

  @Flag(help: "Write models too that cannot run here.")
  var unchecked = false

  @Flag(help: "Print JSON.")
  var json = false

  private struct Report: Encodable {
    var model, file, from, to: String
    var modelBytes, fileBytes: Int
    var nodes, opset: Int?
    var leftOut: [String]
    /// What was read of another framework's format.
    var source: String?
    var operators: [String: Int]?
    var notes: [String]?
  }

  func validate() throws {
    if model.isEmpty { throw ValidationError("the name of the model's file is empty") }
    if json, output == "-" {
      throw ValidationError("--json and --output - exclude each other: both go to standard output")
    }
    if let from, !ModelConversion.sourceNames.contains(from) {
      let names = ModelConversion.sourceNames
      throw ValidationError(
        "--from \(from): " + NearMiss.choices(from, among: names, "formats are \(names.joined(separator: ", "))"))
    }
    if let opset, !OptimizedModel.writableOpsets.contains(opset) {
      let range = OptimizedModel.writableOpsets
      throw ValidationError("--opset is \(opset); expected \(range.lowerBound) to \(range.upperBound)")
    }
    _ = try names()
    for text in dim { _ = try Extents.dimension(text) }
    for text in shape { _ = try Extents.shape(text) }
    if to == nil, ModelForm(path: output) == nil {
      let endings = ModelForm.allCases.map { "." + $0.endings[0] }.joined(separator: ", ")
      throw ValidationError("--output \(output): a name that ends in one of \(endings) was expected, or --to FORMAT")
    }
  }

  private func names() throws(ValidationError) -> [(old: String, new: String)] {
    var names: [(old: String, new: String)] = []
    for text in rename {
      let (old, new) = try Pair.split(text, option: "--rename")
      if new.isEmpty { throw ValidationError("--rename \(text): the new name is empty") }
      names.append((old, new))
    }
    return names
  }

  func run() throws {
    var options = ModelConversion.Options()
    (options.opset, options.names) = (opset, try names())
    for text in dim {
      let (name, size) = try Extents.dimension(text)
      options.model.dimensions[name] = size
    }
    for text in shape {
      let (name, shape) = try Extents.shape(text)
      options.model.shapes[name] = shape
    }
    options.source = from
    options.target = to
    options.checks = !unchecked
    let summary = try ModelConversion.convert(path: model, to: output, options: options)
    if json {
      return try printJSON(
        Report(
          model: model, file: output, from: summary.source.name, to: summary.target.name,
          modelBytes: summary.sourceBytes, fileBytes: summary.fileBytes, nodes: summary.nodes, opset: summary.opset,
          leftOut: summary.lost, source: summary.report?.source, operators: summary.report?.operators,
          notes: summary.report?.notes))
    }
    if !summary.lost.isEmpty {
      Console.note("\(summary.target.title) has no place for \(summary.lost.joined(separator: ", "))")
    }
    for note in summary.report?.notes ?? [] { Console.note(note) }
    if output == "-" { return }
    try Console.print(
      """
      \(output.printable()) written: \(summary.fileBytes) bytes of \(summary.target.title), from \
      \(summary.sourceBytes) bytes of \(summary.report?.source ?? summary.source.title)
      """)
    if let opset = summary.opset {
      let nodes = summary.nodes.map { "\($0) nodes, " } ?? ""
      try Console.print("\(nodes)operator set \(opset)")
    }
  }
}

extension ModelForm: ExpressibleByArgument {}
