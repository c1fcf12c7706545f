// From one format of models to another: read, changed as callers ask, checked, written beside the target, and renamed
// when all is well.

import ApusCompression
import ApusFormats
import ApusGraph
import ApusOperators
import ApusOptimizer
import ApusTensor

/// What `ModelConversion.convert` did.
package struct ConversionSummary: Sendable {
  /// The names of the formats, as options spell them, and what people call them.
  package var source, target: (name: String, title: String)
  package var sourceBytes = 0
  /// The file, and the one with the weights beside it.
  package var written = WrittenModel()
  /// Nodes of the graphs of the model; nil if it was not checked.
  package var nodes: Int?
  /// The operator set that was written; nil if the model is what it was.
  package var opset: Int?
  /// What the target's format has no place for.
  package var lost: [String] = []
  /// What the importer of another framework's format found.
  package var report: ImportReport?
  /// What the exporter of another framework's format had to round or assume, or where weights stayed; and how often it
  /// wrote each operator.
  package var notes: [String] = []
  package var operators: [String: Int]?
  /// What became of the numbers where they are of 16 bits now.
  package var halves: HalfConversionReport?
  /// What the verification found; nil if there was none.
  package var differences: [OutputDifference]?
}

package enum ModelConversion {
  /// How to convert. What is nil is told from the bytes of the source and the name of the target.
  package struct Options {
    package var source: String?
    package var target: ConversionTarget?
    /// The operator set to write.
    package var opset: Int?
    package var header = HeaderChanges()
    /// Changes of inputs and outputs.
    package var interface = InterfaceChanges()
    /// Floats of 16 bits.
    package var halves: HalfConversionOptions?
    /// Where weights come; nil: where they are, or to a file beside the target if they cannot stay.
    package var placement: WeightPlacement?
    /// Refuses models that cannot run.
    package var checks = true
    package var verification: ConversionCheck?
    /// Its dimensions and shapes are bound in what is written.
    package var model = ModelOptions()

    package init() {}

    /// Whether the graph becomes another, not its form alone.
    var changesGraph: Bool {
      opset != nil || !interface.isEmpty || halves != nil || !model.dimensions.isEmpty || !model.shapes.isEmpty
    }
  }

  /// The names of all formats that are read.
  package static var sourceNames: [String] { ModelForm.allCases.map(\.name) + ModelImporters.all.map(\.name) }

  /// Converts the model at `path` (`-`: standard input) to the file `output` (`-`: standard output). A text that is
  /// written is read again and compared before it gets its name.
  package static func convert(path: String, to output: String, options: Options) throws -> ConversionSummary {
    let target = try target(output, options)
    var settings = ModelReader.importOptions(options.model)
    let file = try ONNXReader.open(path: path, options: &settings)
    let importer = ModelImporters.importer(of: file)
    let form = file.withBytes { (bytes: Span<UInt8>) in ModelForm.text(bytes) } ?? .binary
    let found = importer.map { ($0.name, $0.title) } ?? (form.name, form.title)
    if let wanted = options.source, wanted != found.0 {
      let title = FormatTable().rows.first { $0.name == wanted }?.title ?? wanted
      throw LoadError(
        .wrongFormat, "\(title) was expected; the bytes are those of \(found.1)", remedy: "Leave out --from"
      ).inFile(file.name)
    }
    var work = ConversionWork(
      path: path, output: output, options: options, settings: settings,
      summary: ConversionSummary(source: found, target: (target.name, target.title), sourceBytes: file.count))
    switch target {
    case .exporter(let exporter): try work.export(file, with: exporter)
    case .form(let target) where importer != nil || options.changesGraph: try work.rewrite(file, to: target)
    case .form(let target): try work.copy(file, form, to: target)
    }
    try file.reader?.check()
    if case .external(let layout)? = options.placement, work.summary.written.sideFile == nil {
      work.summary.notes.append("no weight takes \(layout.threshold) bytes or more: all stay in the model")
    }
    return work.summary
  }

  private static func target(_ output: String, _ options: Options) throws(LoadError) -> ConversionTarget {
    guard let target = options.target ?? ConversionTarget(path: output) else {
      let endings = ConversionTarget.endings.joined(separator: ", ")
      throw LoadError(
        .wrongFormat, "the name of the target should end in one of \(endings)", remedy: "Or say --to FORMAT"
      ).inFile(output)
    }
    guard case .external? = options.placement else { return target }
    if case .form(.binary) = target, output != "-" { return target }
    throw LoadError(
      .unsupported, "weights in a file of their own lie beside a binary file of ONNX; the target is none",
      remedy: "Leave out the options for weights"
    ).inFile(output)
  }
}

/// One conversion.
struct ConversionWork {
  let path, output: String
  let options: ModelConversion.Options
  let settings: ImportOptions
  var summary: ConversionSummary

  private var limits: LoadLimits { settings.limits }
  var account: MemoryAccount? { settings.allowance.memory }
  var folder: String? { settings.externalFolder }

  // MARK: - The same graph

  /// Writes the model of the ONNX file `file`, which has the form `source`, as it is.
  mutating func copy(_ file: FileBytes, _ source: ModelForm, to form: ModelForm) throws {
    let binary = try source.read(file, limits: limits, account: account)
    let sideFiles = try check(binary)
    var placement = options.placement ?? .asRead
    if placement == .asRead, let first = sideFiles.first, !stayBesideTarget, form == .binary || options.checks {
      guard form == .binary, output != "-" else {
        throw LoadError(
          .externalData, "weights of the model lie in files beside it ('\(first)'), which the target would not find",
          remedy: "Write the target into the folder of the model, or say --embed-data"
        ).inFile(binary.name)
      }
      placement = .external(SideFileLayout())
    }
    try OutputFile.check(output, isNoneOf: sideFiles, "weights of the model lie in it")
    if case .external(let layout) = placement {
      try OutputFile.check(
        layout.path(beside: output), isNoneOf: sideFiles + [path], "the model that is read lies in it")
    }
    let external = ExternalDataFolder(folder, linkedFolder: settings.linkedFolder, limits: limits, account: account)
    let rewriter = ModelRewriter(
      binary, folder: external, placing: placement, header: options.header, limits: limits)
    if form == .binary, output != "-" {
      summary.written = try rewriter.write(to: output)
      if let check = options.verification {
        summary.differences = try check.compare(
          reference(binary), Model(path: output, options: plainOptions), output)
      }
      return
    }
    let isChanged = placement != .asRead || !options.header.isEmpty || !binary.isWhole
    let whole = isChanged ? try FileBytes(copying: rewriter.bytes(), name: file.name, account: account) : binary
    try write(whole, as: form, reference: options.verification == nil ? nil : reference(binary))
  }

  /// The model that was read, ready to run.
  private func reference(_ binary: FileBytes) throws -> Model {
    try Model(ModelReader.read(binary, folder: folder, options: options.model), options: options.model)
  }

  /// Whether the target finds the files that the source finds.
  private var stayBesideTarget: Bool { output != "-" && ExternalDataFolder.folder(of: output) == folder }

  /// Throws if the model cannot run. Returns the files that its weights lie in.
  private mutating func check(_ binary: FileBytes) throws -> [String] {
    let inspection = try ModelReader.inspect(binary, folder: folder, options: options.model)
    if options.checks {
      if !inspection.problems.isEmpty { throw LoadError(problems: inspection.problems).inFile(binary.name) }
      summary.nodes = ModelStatistics(inspection.graph).nodes
    }
    return inspection.sideFiles
  }

  /// Writes a model that is whole in memory, in the form of the target. `reference` computes what it should.
  private mutating func write(_ binary: FileBytes, as form: ModelForm, reference: Model?) throws {
    if form == .binary { return try write(binary, reference: reference) }
    var text: [UInt8] = []
    summary.lost = try form.write(binary) { (piece) throws(LoadError) in
      for index in piece.indices { text.append(piece[index]) }
    }
    let bytes = try FileBytes(copying: text, name: output, account: account)
    text = []
    try form.check(bytes, limits: limits, account: account)
    try write(bytes, reference: reference)
  }

  /// Writes a file that is whole in memory, once it computes what `reference` does.
  mutating func write(_ bytes: FileBytes, reference: Model?) throws {
    if let check = options.verification, let reference {
      let made = try ModelReader.read(bytes, folder: stayBesideTarget ? folder : nil, options: plainOptions)
      summary.differences = try check.compare(reference, Model(made, options: plainOptions), output)
    }
    summary.written.bytes = bytes.count
    var file = try OutputFile(path: output == "-" ? "/dev/stdout" : output)
    try bytes.withBytes { (content: Span<UInt8>) throws(LoadError) in try file.write(content) }
    try file.commit()
  }

  /// Those of the caller, for what was written: sizes are bound in it.
  var plainOptions: ModelOptions {
    var plain = options.model
    (plain.dimensions, plain.shapes) = ([:], [:])
    return plain
  }

  // MARK: - Another graph

  /// Writes what is made of the model: of another framework, for another operator set, with other inputs.
  mutating func rewrite(_ file: FileBytes, to form: ModelForm) throws {
    var settings = options.model
    settings.optimization.isEnabled = false
    let folder = folder
    let options = options
    let plain = plainOptions
    let (made, before) = try DeepStack.run { () throws in
      let source = try ModelReader.read(file, folder: folder, options: settings)
      var made = try ModelReader.optimized(source, options: settings, for: .saving(opset: options.opset))
      summary.report = source.report
      try made.model.change(options.interface)
      made.model.metadata = try options.header.apply(to: made.model.metadata)
      let before = made.model
      summary.halves = try made.halve(options.halves, plain)
      return (made, before)
    }
    try OutputFile.check(output, isNoneOf: made.sideFiles, "weights of the model lie in it")
    var message = try ONNXWriter.message(made.model, registry: .standard, opset: options.opset)
    options.header.apply(to: &message)
    summary.opset = message.opsetImport.first { $0.domain.isEmpty }?.version
    summary.nodes = ModelStatistics(made.model.graph).nodes
    var layout: SideFileLayout?
    if case .external(let wanted)? = options.placement { layout = wanted }
    if form == .binary, output != "-", layout != nil || message.hasLargeWeights && options.placement != .embedded {
      summary.written = try message.write(to: output, layout: layout)
      if let check = options.verification {
        summary.differences = try check.compare(
          Model(before, options: plain), Model(path: output, options: plain), output)
      }
      return
    }
    let binary = try FileBytes(copying: message.encoded, name: output, account: account)
    if options.checks {
      let inspection = try ModelReader.inspect(binary, folder: nil, options: plain)
      if !inspection.problems.isEmpty { throw LoadError(problems: inspection.problems).inFile(output) }
    }
    try write(binary, as: form, reference: options.verification == nil ? nil : Model(before, options: plain))
  }
}

extension ModelGraph {
  /// Changes inputs and outputs; what is put before or behind moves to where it undoes what is there.
  mutating func change(_ changes: InterfaceChanges) throws {
    if changes.isEmpty { return }
    graph = try changes.apply(to: graph)
    let names = graph.outputs.map { graph[$0].name }
    _ = try Optimizer(registry: .standard, passes: Optimizer.importPasses).optimize(&graph, allowance: .unlimited)
    graph = try graph.namingOutputs(names)
  }
}

extension OptimizedModel {
  /// Brings the floats of the model to 16 bits.
  fileprivate mutating func halve(
    _ wanted: HalfConversionOptions?, _ options: ModelOptions
  ) throws -> HalfConversionReport? {
    guard let wanted else { return nil }
    model.graph.nameValues()
    let converter = HalfConverter(wanted, in: RunSurroundings(options)) { _ in }
    let (report, opset) = try converter.convert(&model.graph, samples: nil)
    if let former = model.opsets[""] { model.opsets[""] = max(former, opset) }
    return report
  }
}

extension HeaderChanges {
  /// Those that a graph has no place for.
  fileprivate func apply(to message: inout ModelProto) {
    if let irVersion { message.irVersion = irVersion }
    if let modelVersion { message.modelVersion = modelVersion }
    if let documentation { message.docString = documentation }
  }
}
