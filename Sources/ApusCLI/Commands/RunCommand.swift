// apus run: runs a model once and shows or stores its outputs.

import Apus
import ApusFormats
import ArgumentParser

struct RunCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Runs a model on inputs from files, pictures, sound or random numbers.",
    discussion: """
      apus run digits.onnx --image input=digit-7.png --top 3
      apus run bert.onnx --input input_ids=ids.npy --input attention_mask=mask.npy --output out.npz
      """)

  @OptionGroup var model: ModelArguments
  @OptionGroup var inputs: InputArguments

  @Option(
    name: .shortAndLong,
    help: """
      Store the outputs: FILE.npz, or a folder for one .npy each; one output, or the one of NAME=FILE, in FILE.npy, \
      FILE.pb, FILE.json, or as .npy on standard output (-). May be repeated.
      """, completion: .file(extensions: ["npy", "npz", "pb", "json"]))
  var output: [String] = []

  @Option(
    help: "Store what the inputs were, in the same forms as --output. May be repeated.",
    completion: .file(extensions: ["npy", "npz", "pb", "json"]))
  var saveInputs: [String] = []

  @Option(
    parsing: .unconditional,
    help: "Print the K largest elements along the last axis of each float output. [default: 5 with --labels]")
  var top: Int?

  @Option(
    help: """
      A file with one label a line, for --top; line k, empty or not, is class k. [default: `labels` in the model's \
      metadata]
      """,
    completion: .file(extensions: ["txt"]))
  var labels: String?

  @Flag(help: "Return every value of the main graph; the model runs without passes.")
  var allValues = false

  @Option(help: "Return this intermediate value too. May be repeated.")
  var value: [String] = []

  @Option(parsing: .unconditional, help: "End the run with an error after so many seconds.")
  var timeout: Double?

  @Flag(help: "Print JSON, with all elements of the outputs.")
  var json = false

  /// What there is to say about one output.
  private struct Result {
    var name: String
    var value: Value
    /// Where it was stored.
    var files: [String]
    var summary: ValueSummary?
    var top: [[TopElement]]?
  }

  func validate() throws {
    try OptionValues.check(top, "--top", 1...Int.max)
    try OptionValues.check(seconds: timeout, "--timeout")
    if json, (output + saveInputs).contains(where: { $0 == "-" || $0.hasSuffix("=-") }) {
      throw ValidationError("--json and an output to - exclude each other: both go to standard output")
    }
  }

  func run() throws {
    let loaded = try model.load { options in
      options.extraOutputs = value
      options.returnsAllValues = allValues
      options.overridableInitializers = inputs.givenNames
    }
    let names = loaded.outputs.map(\.name).unique
    let outputFiles = try OutputFiles(output, option: "--output", names: names)
    let inputFiles = try OutputFiles(saveInputs, option: "--save-inputs", names: loaded.inputs.map(\.name))
    try OutputFiles.checkDistinct([outputFiles, inputFiles])
    let top = self.top ?? (labels == nil ? nil : 5)
    let classes = top == nil ? [] : try Labels.read(labels, or: loaded.information.metadata)
    let values = try inputs.values(for: loaded)
    _ = try inputFiles.store(loaded.inputs.compactMap { input in values[input.name].map { (input.name, $0) } })
    var options = RunOptions()
    options.timeout = timeout
    let start = ContinuousClock.now
    let results = try loaded.run(values: values, options: options)
    let milliseconds = (ContinuousClock.now - start) / .milliseconds(1)
    let ordered = names.compactMap { name in results[name].map { (name, $0) } }
    let files = try outputFiles.store(ordered)
    if outputFiles.usesStandardOutput || inputFiles.usesStandardOutput { return }
    let report = ordered.map { name, value in
      Result(
        name: name, value: value, files: files[name] ?? [], summary: value.tensor.map { ValueSummary($0) },
        top: top.flatMap { count in value.tensor.flatMap { TopElement.rows(of: $0, count: count, labels: classes) } })
    }
    noteMissingLabels(classes, report)
    if json { try printJSON(report, milliseconds: milliseconds) } else { for result in report { try show(result) } }
  }

  private func noteMissingLabels(_ classes: [String], _ report: [Result]) {
    let widths = report.filter { $0.top != nil }.compactMap { $0.value.tensor?.shape.last }
    if !classes.isEmpty, !widths.isEmpty, !widths.contains(classes.count) {
      Console.note("there are \(classes.count) labels for \(widths[0]) classes")
    }
  }

  private func show(_ result: Result) throws {
    let text = "\(result.name.printable()): \(result.value.type.description.printable())"
    try Console.print(text + (result.summary.map { "  \($0)" } ?? ""))
    if result.summary == nil { try Console.print("  \(ValueText.describe(result.value))") }
    for (row, elements) in (result.top ?? []).enumerated() {
      if result.top?.count ?? 0 > 1 { try Console.print("  row \(row)") }
      for element in elements { try Console.print("  \(element)") }
    }
    for file in result.files { try Console.print("  stored in \(file.printable())") }
  }

  /// One object as `JSONReport` writes it. The outputs are written element by element, since they may be large.
  private func printJSON(_ report: [Result], milliseconds: Double) throws {
    var writer = JSONWriter { (bytes) throws(LoadError) in try Console.write(bytes) }
    writer.beginObject()
    writer.key("milliseconds")
    writer.number(milliseconds)
    writer.key("model")
    writer.string(model.name)
    writer.key("outputs")
    writer.beginArray()
    for result in report {
      writer.element()
      try write(result, to: &writer)
    }
    try writer.endArray()
    writer.key("version")
    writer.number(JSONReport.version)
    try writer.endObject()
    try writer.finish()
  }

  private func write(_ result: Result, to writer: inout JSONWriter) throws {
    writer.beginObject()
    if let file = result.files.first {
      writer.key("file")
      writer.string(file)
    }
    if result.files.count > 1 {
      writer.key("files")
      writer.beginArray()
      for file in result.files {
        writer.element()
        writer.string(file)
      }
      try writer.endArray()
    }
    writer.key("name")
    writer.string(result.name)
    if let shape = result.value.tensor?.shape {
      writer.key("shape")
      writer.numbers(shape.dims)
    }
    if let summary = result.summary {
      writer.key("summary")
      try summary.write(to: &writer)
    }
    if let top = result.top {
      writer.key("top")
      try TopElement.write(top, to: &writer)
    }
    writer.key("type")
    writer.string(result.value.type.description)
    writer.key("value")
    try writer.value(result.value)
    try writer.endObject()
  }
}

extension [String] {
  /// Without those that came before.
  fileprivate var unique: [String] {
    var seen: Set<String> = []
    return filter { seen.insert($0).inserted }
  }
}
