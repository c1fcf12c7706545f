// Reads a model file into a typed graph.

import ApusFormats
import ApusGraph
import ApusOperators

/// A model that was read, and what its loading may still use.
package struct ModelSource {
  package var model: ModelGraph
  /// The files that large tensors are still in.
  let files: [FileReader]
  let allowance: Allowance
  /// The stack that work on the graph takes.
  let stackBytes: Int

  init(model: ModelGraph, files: [FileReader], allowance: Allowance) {
    (self.model, self.files, self.allowance) = (model, files, allowance)
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
      let settings = importOptions(options)
      return source(try ONNXReader.load(path: path, registry: .standard, options: settings), settings)
    }
  }

  package static func read(bytes: [UInt8], folder: String?, options: ModelOptions) throws(LoadError) -> ModelSource {
    try DeepStack.run(needing: stack(options)) { () throws(LoadError) in
      var settings = importOptions(options)
      settings.externalFolder = folder
      return source(try ONNXReader.load(FileBytes(copying: bytes), registry: .standard, options: settings), settings)
    }
  }

  /// The stack that reading takes with files as deep as the limits allow.
  private static func stack(_ options: ModelOptions) -> Int {
    DeepStack.bytes(forMessages: options.limits.maximumNesting)
  }

  private static func source(_ imported: ImportedModel, _ settings: ImportOptions) -> ModelSource {
    ModelSource(model: imported.model, files: imported.files, allowance: settings.allowance)
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
    var settings = importOptions(options)
    settings.keepsFaultyNodes = true
    let source = try ONNXReader.load(path: path, registry: .standard, options: settings)
    var graph = source.model.graph
    try Model.bind(options, in: &graph)
    let errors = InferenceDriver(registry: .standard, allowance: settings.allowance).infer(&graph)
    // What was wrong while reading is wrong here too; it is told once.
    let problems = source.problems.isEmpty ? PrepareError(errors).problems : source.problems
    return Inspection(graph: graph, information: ModelInformation(source.model), problems: problems)
  }

  private static func importOptions(_ options: ModelOptions) -> ImportOptions {
    var settings = ImportOptions()
    let limits = options.limits
    settings.limits = limits
    settings.mapsFiles = options.mapsFiles
    settings.allowance = .loading(
      memory: MemoryAccount(limit: limits.maximumLoadMemory, name: "maximumLoadMemory"),
      cancellation: CancellationFlag(timeout: Model.duration(limits.maximumLoadSeconds)))
    settings.overridableInputs = options.overridableInitializers
    return settings
  }
}
