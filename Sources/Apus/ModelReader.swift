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
  /// The files that weights lie in as long as the model is there.
  let mapped: [MappedFile]
  /// The compiled model that was read; `model` is what people see of it.
  let compiled: CompiledModel?
  /// The stack that work on the graph takes.
  let stackBytes: Int

  init(
    model: ModelGraph, files: [FileReader], allowance: Allowance, mapped: [MappedFile] = [],
    compiled: CompiledModel? = nil
  ) {
    (self.model, self.files, self.allowance) = (model, files, allowance)
    (self.mapped, self.compiled) = (mapped, compiled)
    stackBytes = DeepStack.bytes(forMessages: 3 * model.graph.nesting)
  }

  package var graph: Graph { model.graph }

  /// Tells that nothing is read any more. Throws if a file was not what it was when it was opened, or could not be
  /// read.
  func finish() throws(LoadError) {
    if mapped.contains(where: \.isDamaged) {
      throw LoadError(.cannotRead, "the file became shorter while it was read, or its disk failed")
    }
    try compiled?.checkAbsent()
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
      var settings = importOptions(options)
      let file = try ONNXReader.open(path: path, options: &settings)
      return try read(file, settings)
    }
  }

  package static func read(bytes: [UInt8], folder: String?, options: ModelOptions) throws(LoadError) -> ModelSource {
    try DeepStack.run(needing: stack(options)) { () throws(LoadError) in
      var settings = importOptions(options)
      settings.externalFolder = folder
      return try read(FileBytes(copying: bytes), settings)
    }
  }

  /// Reads a file of any format, told by its bytes.
  private static func read(_ file: FileBytes, _ settings: ImportOptions) throws(LoadError) -> ModelSource {
    if CompiledModel.isCompiled(file) { return try compiled(file, settings) }
    return source(try ONNXReader.load(file, registry: .standard, options: settings), settings)
  }

  private static func compiled(_ file: FileBytes, _ settings: ImportOptions) throws(LoadError) -> ModelSource {
    let compiled = try CompiledModel.read(file, registry: .standard, environment: .current, options: settings)
    var model = compiled.content.model
    for (input, named) in zip(model.graph.inputs, compiled.content.inputs) { model.graph[input].fact = named.fact }
    return ModelSource(
      model: model, files: [], allowance: settings.allowance, mapped: compiled.mapping.map { [$0] } ?? [],
      compiled: compiled)
  }

  /// The stack that reading takes with files as deep as the limits allow.
  private static func stack(_ options: ModelOptions) -> Int {
    DeepStack.bytes(forMessages: options.limits.maximumNesting)
  }

  private static func source(_ imported: ImportedModel, _ settings: ImportOptions) -> ModelSource {
    ModelSource(
      model: imported.model, files: imported.files, allowance: settings.allowance, mapped: imported.mapped)
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
    let file = try ONNXReader.open(path: path, options: &settings)
    let (source, faults): (ModelSource, [ModelProblem])
    if CompiledModel.isCompiled(file) {
      (source, faults) = (try compiled(file, settings), [])
    } else {
      let imported = try ONNXReader.load(file, registry: .standard, options: settings)
      (source, faults) = (ModelReader.source(imported, settings), imported.problems)
    }
    var graph = source.model.graph
    try Model.bind(options, in: &graph)
    let driver = InferenceDriver(
      registry: .standard, allowance: settings.allowance, keepsFaultySubgraphs: source.compiled != nil)
    let errors = driver.infer(&graph)
    // What was wrong while reading is wrong here too; it is told once.
    let problems = faults.isEmpty ? PrepareError(errors).problems : faults
    return Inspection(graph: graph, information: ModelInformation(source), problems: problems)
  }

  static func importOptions(_ options: ModelOptions) -> ImportOptions {
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
