// From one format of models to another: read, checked, written beside the target, and renamed when all is well.

import ApusFormats
import ApusGraph
import ApusOperators
import ApusTensor

/// What `ModelConversion.convert` did.
package struct ConversionSummary: Sendable {
  /// The names of the formats, as options spell them, and what people call them.
  package var source, target: (name: String, title: String)
  package var sourceBytes = 0
  package var fileBytes = 0
  /// Nodes of the graphs of the model; nil if it was not checked.
  package var nodes: Int?
  /// The operator set that was written; nil if the model is what it was.
  package var opset: Int?
  /// What the target's format has no place for.
  package var lost: [String] = []
  /// What the importer of another framework's format found.
  package var report: ImportReport?
}

package enum ModelConversion {
  /// How to convert. What is nil is told from the bytes of the source and the name of the target.
  package struct Options: Sendable {
    package var source: String?
    package var target: ModelForm?
    /// The operator set to write.
    package var opset: Int?
    /// New names of inputs and outputs.
    package var names: [(old: String, new: String)] = []
    /// Refuses models that cannot run.
    package var checks = true
    /// Its dimensions and shapes are bound in what is written.
    package var model = ModelOptions()

    package init() {}

    /// Whether the model itself becomes another, not its form alone.
    var changesModel: Bool {
      opset != nil || !names.isEmpty || !model.dimensions.isEmpty || !model.shapes.isEmpty
    }
  }

  /// The names of all formats that are read.
  package static var sourceNames: [String] { ModelForm.allCases.map(\.name) + ModelImporters.all.map(\.name) }

  /// Converts the model at `path` (`-`: standard input) to the file `output` (`-`: standard output). A text that is
  /// written is read again and compared before it gets its name.
  package static func convert(
    path: String, to output: String, options: Options
  ) throws -> ConversionSummary {
    let target = try target(output, options.target)
    let limits = options.model.limits
    let account = MemoryAccount(limit: limits.maximumLoadMemory, name: "maximumLoadMemory")
    let file =
      path == "-"
      ? try FileBytes.read(descriptor: 0, name: "standard input", limits: limits, account: account)
      : try FileBytes.open(path: path, limits: limits, account: account)
    let importer = ModelImporters.importer(of: file)
    let form = file.withBytes { (bytes: Span<UInt8>) in ModelForm.text(bytes) } ?? .binary
    let found = importer.map { ($0.name, $0.title) } ?? (form.name, form.title)
    if let wanted = options.source, wanted != found.0 {
      let title = FormatTable().rows.first { $0.name == wanted }?.title ?? wanted
      throw LoadError(
        .wrongFormat, "\(title) was expected; the bytes are those of \(found.1)", remedy: "Leave out --from"
      ).inFile(file.name)
    }
    var summary = ConversionSummary(
      source: found, target: (target.name, target.title), sourceBytes: file.count)
    let folder = path == "-" ? nil : ExternalDataFolder.folder(of: path)
    if importer != nil || options.changesModel {
      try rewrite(file, folder, to: output, target, options, &summary)
    } else {
      let binary = try form.read(file, limits: limits, account: account)
      try check(folder, binary, output, options, &summary)
      try write(binary, to: output, target, limits, account, &summary)
    }
    try file.reader?.check()
    return summary
  }

  private static func target(_ output: String, _ wanted: ModelForm?) throws(LoadError) -> ModelForm {
    if let form = wanted ?? ModelForm(path: output) { return form }
    let endings = ModelForm.allCases.map { "." + $0.endings[0] }.joined(separator: ", ")
    throw LoadError(
      .wrongFormat, "the name of the target should end in one of \(endings)", remedy: "Or say --to FORMAT"
    ).inFile(output)
  }

  // MARK: - The same model

  /// Throws if the model cannot run, or if the target would not find its side files.
  private static func check(
    _ folder: String?, _ binary: FileBytes, _ output: String, _ options: Options, _ summary: inout ConversionSummary
  ) throws {
    guard options.checks else { return }
    let inspection = try ModelReader.inspect(binary, folder: folder, options: options.model)
    if !inspection.problems.isEmpty { throw LoadError(problems: inspection.problems).inFile(binary.name) }
    summary.nodes = ModelStatistics(inspection.graph).nodes
    guard let first = inspection.sideFiles.first else { return }
    try OutputFile.check(output, isNoneOf: inspection.sideFiles, "weights of the model lie in it")
    if output == "-" || ExternalDataFolder.folder(of: output) != folder {
      throw LoadError(
        .externalData, "weights of the model lie in files beside it ('\(first)'), which the target would not find",
        remedy: "Write the target into the folder of the model"
      ).inFile(binary.name)
    }
  }

  private static func write(
    _ binary: FileBytes, to output: String, _ form: ModelForm, _ limits: LoadLimits, _ account: MemoryAccount,
    _ summary: inout ConversionSummary
  ) throws(LoadError) {
    var text: [UInt8] = []
    summary.lost = try form.write(binary) { (piece) throws(LoadError) in
      for index in piece.indices { text.append(piece[index]) }
    }
    if form != .binary {
      try form.check(FileBytes(copying: text, name: output, account: account), limits: limits, account: account)
    }
    summary.fileBytes = text.count
    try OutputFile.write(text, to: output == "-" ? "/dev/stdout" : output)
  }

  // MARK: - Another model

  /// Writes what is made of the model: of another framework, for another operator set, with other names or extents.
  private static func rewrite(
    _ file: FileBytes, _ folder: String?, to output: String, _ form: ModelForm, _ options: Options,
    _ summary: inout ConversionSummary
  ) throws {
    var settings = options.model
    settings.optimization.isEnabled = false
    let (made, report) = try DeepStack.run { () throws in
      let source = try ModelReader.read(file, folder: folder, options: settings)
      let made = try ModelReader.optimized(source, options: settings, for: .saving(opset: options.opset))
      return (made, source.report)
    }
    var model = made.model
    try rename(options.names, in: &model.graph)
    let message = try ONNXWriter.message(model, registry: .standard, opset: options.opset)
    summary.report = report
    summary.opset = message.opsetImport.first { $0.domain.isEmpty }?.version
    summary.nodes = ModelStatistics(model.graph).nodes
    try OutputFile.check(output, isNoneOf: made.sideFiles, "weights of the model lie in it")
    if form == .binary, output != "-", message.hasLargeWeights {
      // Weights go from file to file, into one beside the target.
      try message.write(to: output)
      return
    }
    let account = MemoryAccount(limit: settings.limits.maximumLoadMemory, name: "maximumLoadMemory")
    let binary = try FileBytes(copying: message.encoded, name: output, account: account)
    if options.checks {
      var plain = settings
      (plain.dimensions, plain.shapes) = ([:], [:])
      let inspection = try ModelReader.inspect(binary, folder: nil, options: plain)
      if !inspection.problems.isEmpty { throw LoadError(problems: inspection.problems).inFile(output) }
    }
    try write(binary, to: output, form, settings.limits, account, &summary)
  }

  private static func rename(_ names: [(old: String, new: String)], in graph: inout Graph) throws(LoadError) {
    for (old, new) in names {
      let ends = graph.inputs + graph.outputs
      let found = ends.filter { graph[$0].name == old }
      if found.isEmpty {
        let known = ends.map { "'\(graph[$0].name)'" }.joined(separator: ", ")
        throw LoadError(
          .unsupported, "there is no input or output '\(old)' to give the name '\(new)'", remedy: "There are \(known)")
      }
      if ends.contains(where: { graph[$0].name == new }) {
        throw LoadError(.unsupported, "an input or output has the name '\(new)' already, which '\(old)' should get")
      }
      for index in graph.values.indices where graph.values[index].name == new { graph.values[index].name = "" }
      for value in Set(found) { graph[value].name = new }
    }
  }
}
