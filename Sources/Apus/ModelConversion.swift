// From one format of models to another: read, checked, written beside the target, and renamed when all is well.

import ApusFormats
import ApusTensor

/// What `ModelConversion.convert` did.
package struct ConversionSummary: Sendable {
  package var source, target: ModelForm
  package var sourceBytes = 0
  package var fileBytes = 0
  /// Nodes of the graphs of the model; nil if it was not checked.
  package var nodes: Int?
  /// What the target's format has no place for.
  package var lost: [String] = []
}

package enum ModelConversion {
  /// How to convert. What is nil is told from the bytes of the source and the name of the target.
  package struct Options: Sendable {
    package var source, target: ModelForm?
    /// Refuses models that cannot run.
    package var checks = true
    package var model = ModelOptions()

    package init() {}
  }

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
    let found = file.withBytes { (bytes: Span<UInt8>) in ModelForm.text(bytes) } ?? .binary
    if let wanted = options.source, wanted != found {
      throw LoadError(
        .wrongFormat, "\(wanted.title) was expected; the bytes are \(found == .binary ? "no text" : found.title)",
        remedy: "Leave out --from"
      ).inFile(file.name)
    }
    let binary = try found.read(file, limits: limits, account: account)
    var summary = ConversionSummary(source: found, target: target, sourceBytes: file.count)
    try check(path, binary, output, options, &summary)
    try write(binary, to: output, limits, account, &summary)
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

  /// Throws if the model cannot run, or if the target would not find its side files.
  private static func check(
    _ path: String, _ binary: FileBytes, _ output: String, _ options: Options, _ summary: inout ConversionSummary
  ) throws {
    guard options.checks else { return }
    let folder = path == "-" ? nil : ExternalDataFolder.folder(of: path)
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
    _ binary: FileBytes, to output: String, _ limits: LoadLimits, _ account: MemoryAccount,
    _ summary: inout ConversionSummary
  ) throws(LoadError) {
    let form = summary.target
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
}
