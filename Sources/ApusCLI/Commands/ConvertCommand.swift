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
      apus convert model.onnx --output bytes.onnx --nhwc-inputs --uint8-inputs --mean 0.485,0.456,0.406 --softmax
      apus convert large.onnx --output split.onnx --external-data weights.bin
      apus convert model.keras --output model.onnx --verify random
      apus convert model.onnx --output model.tflite --float16
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
  var to: String?

  @Option(help: "The operator set to write. [default: that of the model; for other frameworks 20, or what it takes]")
  var opset: Int?

  @OptionGroup(title: "Inputs and outputs") var interface: InterfaceArguments
  @OptionGroup(title: "Work that the model does beside its own") var work: AddedWorkArguments
  @OptionGroup(title: "16 bits") var halves: HalfArguments
  @OptionGroup(title: "Weights and what the model says of itself") var storage: StorageArguments
  @OptionGroup(title: "Verification") var verification: VerificationArguments

  @Flag(help: "Write models too that cannot run here.")
  var unchecked = false

  @Flag(help: "Print JSON.")
  var json = false

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
    if halves.float16, halves.bfloat16 { throw ValidationError("--float16 and --bfloat16 exclude each other") }
    for (isGiven, name) in halves.given where isGiven && halves.options == nil {
      throw ValidationError("\(name) is for --float16 and --bfloat16; give one of them too")
    }
    if let to, ConversionTarget(name: to) == nil {
      let names = ConversionTarget.names
      throw ValidationError(
        "--to \(to): " + NearMiss.choices(to, among: names, "formats are \(names.joined(separator: ", "))"))
    }
    if to == nil, ConversionTarget(path: output) == nil {
      let endings = ConversionTarget.endings.joined(separator: ", ")
      throw ValidationError("--output \(output): a name that ends in one of \(endings) was expected, or --to FORMAT")
    }
  }

  func run() throws {
    var options = ModelConversion.Options()
    options.opset = opset
    try interface.apply(to: &options.model, &options.interface)
    try work.apply(to: &options.interface)
    try storage.apply(to: &options)
    options.halves = halves.options
    let opened = Set(options.interface.shapes.flatMap { $0.shape.flatMap(\.symbols) })
    options.verification = verification.check(isHalf: options.halves != nil, opened: opened)
    options.source = from
    options.target = to.flatMap { ConversionTarget(name: $0) }
    options.checks = !unchecked
    let summary = try ModelConversion.convert(path: model, to: output, options: options)
    if json { return try printJSON(ConversionReport(summary, model: model, file: output)) }
    if !summary.lost.isEmpty {
      Console.note("\(summary.target.title) has no place for \(summary.lost.joined(separator: ", "))")
    }
    for note in (summary.report?.notes ?? []) + summary.notes { Console.note(note) }
    if output != "-" { try show(summary) }
  }

  private func show(_ summary: ConversionSummary) throws {
    try summary.halves?.show()
    let written = summary.written
    try Console.print(
      """
      \(output.printable()) written: \(written.bytes) bytes of \(summary.target.title), from \(summary.sourceBytes) \
      bytes of \(summary.report?.source ?? summary.source.title)
      """)
    if let sideFile = written.sideFile {
      let shared = written.sharedBytes > 0 ? "; \(written.sharedBytes) bytes are there once instead of twice" : ""
      try Console.print(
        "\(sideFile.printable()) written: \(written.sideBytes) bytes, \(written.sideTensors) weights\(shared)")
    }
    if let opset = summary.opset {
      let nodes = summary.nodes.map { "\($0) nodes, " } ?? ""
      try Console.print("\(nodes)operator set \(opset)")
    }
    guard let differences = summary.differences else { return }
    let rows = differences.map { found in
      [
        found.output.printable(), "\(found.differing) of \(found.elements)", ValueText.format(found.largestError),
        ValueText.format(found.relativeError),
      ]
    }
    try Console.print(table([["output", "elements that differ", "largest error", "of the largest magnitude"]] + rows))
  }
}
