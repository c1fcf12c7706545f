// Reads a model file into a typed graph.

import ApusFormats
import ApusGraph
import ApusOperators
import ApusTensor

/// A model that was read, and what its loading may still use.
package struct ModelSource {
  package var model: ModelGraph
  /// The files that large tensors are still in.
  let files: [FileReader]
  let allowance: Allowance
  /// That of the model in the budget of its engine; nil without one.
  let account: MemoryAccount?
  /// The stack that work on the graph takes.
  let stackBytes: Int

  init(model: ModelGraph, files: [FileReader], allowance: Allowance, account: MemoryAccount? = nil) {
    (self.model, self.files, self.allowance, self.account) = (model, files, allowance, account)
    stackBytes = DeepStack.bytes(forMessages: 3 * model.graph.nesting)
  }

  package var graph: Graph { model.graph }

  /// Tells that nothing is read any more. Throws if a file was not what it was when it was opened, or could not be
  /// read.
  func finish() throws(LoadError) {
    for file in files {
      try file.check()
      file.close()
    }
  }
}

/// From files and bytes to graphs, with the registry of all operators.
package enum ModelReader {
  /// Reads a file; `-` is standard input.
  package static func read(path: String, options: ModelOptions) throws(LoadError) -> ModelSource {
    try DeepStack.run(needing: stack(options)) { () throws(LoadError) in
      let account = account(options, name(of: path))
      let settings = importOptions(options, account)
      return source(try ONNXReader.load(path: path, registry: .standard, options: settings), settings, account)
    }
  }

  package static func read(bytes: [UInt8], folder: String?, options: ModelOptions) throws(LoadError) -> ModelSource {
    try DeepStack.run(needing: stack(options)) { () throws(LoadError) in
      let account = account(options, "a model from bytes")
      var settings = importOptions(options, account)
      settings.externalFolder = folder
      let file = try FileBytes(copying: bytes, account: settings.allowance.memory)
      return source(try ONNXReader.load(file, registry: .standard, options: settings), settings, account)
    }
  }

  /// The stack that reading takes with files as deep as the limits allow.
  private static func stack(_ options: ModelOptions) -> Int {
    DeepStack.bytes(forMessages: options.limits.maximumNesting)
  }

  private static func source(
    _ imported: ImportedModel, _ settings: ImportOptions, _ account: MemoryAccount?
  ) -> ModelSource {
    ModelSource(model: imported.model, files: imported.files, allowance: settings.allowance, account: account)
  }

  /// The account of a model in the budget of its engine.
  private static func account(_ options: ModelOptions, _ name: String) -> MemoryAccount? {
    options.engine?.account(named: name)
  }

  /// What errors of the engine call a model.
  private static func name(of path: String) -> String {
    path == "-" ? "standard input" : "'\(path.split(separator: "/").last ?? "")'"
  }

  /// A model to look at. It need not be able to run.
  package struct Inspection {
    package var graph: Graph
    package var information: ModelInformation
    /// Why it cannot run.
    package var problems: [ModelProblem]
  }

  /// Reads a file and infers the types, as far as its problems let that, under the caller's dimensions and shapes.
  /// Nothing is prepared.
  package static func inspect(path: String, options: ModelOptions) throws -> Inspection {
    try DeepStack.run { try inspection(of: path, options: options) }
  }

  private static func inspection(of path: String, options: ModelOptions) throws -> Inspection {
    var settings = importOptions(options, account(options, name(of: path)))
    settings.keepsFaultyNodes = true
    let source = try ONNXReader.load(path: path, registry: .standard, options: settings)
    var graph = source.model.graph
    try Model.bind(options, in: &graph)
    let errors = InferenceDriver(registry: .standard, allowance: settings.allowance).infer(&graph)
    // What was wrong while reading is wrong here too; it is told once.
    let problems = source.problems.isEmpty ? PrepareError(errors).problems : source.problems
    return Inspection(graph: graph, information: ModelInformation(source.model), problems: problems)
  }

  private static func importOptions(_ options: ModelOptions, _ account: MemoryAccount?) -> ImportOptions {
    var settings = ImportOptions()
    let limits = options.limits
    settings.limits = limits
    settings.mapsFiles = options.mapsFiles
    settings.allowance = .loading(
      memory: MemoryAccount(limit: limits.maximumLoadMemory, name: "maximumLoadMemory", parent: account),
      cancellation: CancellationFlag(timeout: Model.duration(limits.maximumLoadSeconds)))
    settings.overridableInputs = options.overridableInitializers
    return settings
  }
}
