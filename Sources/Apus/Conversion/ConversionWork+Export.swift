// Models in the formats of other frameworks: read, brought to the order of the format by passes, written.

import ApusFormats
import ApusGraph
import ApusOperators
import ApusOptimizer
import ApusTensor

extension ConversionWork {
  /// Writes what `exporter` makes of the model in `file`. The target gets its name when all could be said.
  mutating func export(_ file: FileBytes, with exporter: any ModelExporter) throws {
    try checkOptions(exporter)
    let (folder, options, plain) = (folder, options, plainOptions)
    let export = try DeepStack.run { () throws -> Export in
      let source = try ModelReader.read(file, folder: folder, options: options.model)
      return try Self.written(source, with: exporter, options)
    }
    (summary.report, summary.nodes) = (export.report, export.nodes)
    (summary.notes, summary.operators) = (export.model.notes, export.model.operators)
    try OutputFile.check(output, isNoneOf: export.sideFiles, "weights of the model lie in it")
    let bytes = try FileBytes(copying: export.model.bytes, name: output, account: account)
    let reference = options.verification == nil ? nil : try Model(export.before, options: plain)
    try write(bytes, reference: reference)
  }

  /// Throws for what only ONNX has.
  private func checkOptions(_ exporter: any ModelExporter) throws(LoadError) {
    func refuse(_ what: String, _ option: String) -> LoadError {
      LoadError(.unsupported, "\(exporter.title) has no \(what)", remedy: "Leave out \(option)").inFile(output)
    }
    if options.opset != nil { throw refuse("operator sets", "--opset") }
    if options.header.irVersion != nil { throw refuse("IR version", "--ir-version") }
    if !options.header.isEmpty { throw refuse("place for this header", "the options for the header") }
    if options.halves?.type == .bfloat16 { throw refuse("bfloat16", "--bfloat16") }
    if let halves = options.halves, !halves.keep.isEmpty || !halves.keepsInterface || !halves.keepsSensitive {
      throw LoadError(
        .unsupported, "in \(exporter.title), --float16 stores weights in 16 bits and computes in 32",
        remedy: "Leave out --keep, --keep-io and --no-keep-sensitive"
      ).inFile(output)
    }
  }

  /// What is written, and what was read.
  private struct Export {
    var model: ExportedModel
    /// The model that was read, with the changes that were asked for.
    var before: ModelGraph
    var report: ImportReport?
    var nodes: Int
    var sideFiles: [String]
  }

  private static func written(
    _ source: ModelSource, with exporter: any ModelExporter, _ options: ModelConversion.Options
  ) throws -> Export {
    if source.compiled != nil {
      throw LoadError(
        .unsupported, "a compiled model cannot be written in another format: its weights are packed",
        remedy: "Use the model that it was made of")
    }
    var model = source.model
    var settings = ExportOptions()
    (settings.halvesWeights, settings.allowance) = (options.halves != nil, source.allowance)
    try Model.bind(options.model, in: &model.graph)
    _ = try Model.infer(&model.graph, within: source.allowance)
    try model.change(options.interface)
    let before = model
    // Passes may drop weights; what is compared with needs them all.
    if options.verification != nil { try before.graph.loadWeights() }
    let names = model.graph.outputs.map { model.graph[$0].name }
    let nodes = ModelStatistics(model.graph).nodes
    _ = try Optimizer(registry: .standard, passes: Optimizer.exportPasses)
      .optimize(&model.graph, allowance: source.allowance)
    let registry = exporter.registry(.standard)
    let ledger = ExportLedger(target: exporter.title, options: settings)
    model.graph = try exporter.arranged(model.graph, registry: registry, ledger: ledger)
    _ = try Optimizer(registry: registry, passes: Optimizer.arrangedPasses)
      .optimize(&model.graph, allowance: source.allowance)
    model.graph = try model.graph.namingOutputs(names, registry: registry)
    try model.graph.loadWeights()
    try source.finish()
    return Export(
      model: try exporter.write(model, registry: registry, ledger: ledger), before: before, report: source.report,
      nodes: nodes, sideFiles: source.sideFiles)
  }
}

extension Graph {
  /// Reads the constants that are still in files.
  fileprivate func loadWeights() throws(LoadError) {
    do throws(TensorError) {
      try loadConstants()
    } catch {
      throw LoadError(error)
    }
  }
}
