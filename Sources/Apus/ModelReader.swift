// Reads a model file into a typed graph.

import ApusFormats
import ApusGraph
import ApusOperators
import ApusOptimizer
import ApusRuntime
import ApusTensor

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
  /// That of the model in the budget of its engine; nil without one.
  let account: MemoryAccount?
  /// The paths of the files beside the model's own that weights came from.
  let sideFiles: [String]
  /// What the importer of another framework's format found; nil for ONNX.
  var report: ImportReport?
  /// The stack that work on the graph takes.
  let stackBytes: Int

  init(
    model: ModelGraph, files: [FileReader], allowance: Allowance, mapped: [MappedFile] = [],
    compiled: CompiledModel? = nil, account: MemoryAccount? = nil, sideFiles: [String] = []
  ) {
    (self.model, self.files, self.allowance) = (model, files, allowance)
    (self.mapped, self.compiled, self.account, self.sideFiles) = (mapped, compiled, account, sideFiles)
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
    try checkEnvironment()
    return try DeepStack.run(needing: stack(options)) { () throws(LoadError) in
      let account = account(options, name(of: path))
      var settings = importOptions(options, account)
      let file = try ONNXReader.open(path: path, options: &settings)
      return try read(file, settings, account)
    }
  }

  package static func read(bytes: [UInt8], folder: String?, options: ModelOptions) throws(LoadError) -> ModelSource {
    try checkEnvironment()
    return try DeepStack.run(needing: stack(options)) { () throws(LoadError) in
      let account = account(options, "a model from bytes")
      var settings = importOptions(options, account)
      settings.externalFolder = folder
      let file = try FileBytes(copying: bytes, account: settings.allowance.memory)
      return try read(file, settings, account)
    }
  }

  /// Reads a file that was opened. `folder` is where external data is looked for; nil forbids it.
  static func read(_ file: FileBytes, folder: String?, options: ModelOptions) throws(LoadError) -> ModelSource {
    let account = account(options, file.name)
    var settings = importOptions(options, account)
    settings.externalFolder = folder
    return try read(file, settings, account)
  }

  /// Throws if the environment asks for what means nothing, which would count as not asked.
  private static func checkEnvironment() throws(LoadError) {
    guard let fault = MachineLevel.environmentFault ?? WorkerPool.environmentFault else { return }
    throw LoadError(.invalidEnvironment, "the environment variable \(fault)", remedy: "Change it, or take it away")
  }

  /// Reads a file of any format, told by its bytes.
  private static func read(
    _ file: FileBytes, _ settings: ImportOptions, _ account: MemoryAccount?
  ) throws(LoadError) -> ModelSource {
    if CompiledModel.isCompiled(file) { return try compiled(file, settings, account) }
    return source(try imported(file, settings), settings, account)
  }

  /// Reads a file of ONNX or of another framework, told by its bytes.
  private static func imported(_ file: FileBytes, _ settings: ImportOptions) throws(LoadError) -> ImportedModel {
    guard let importer = ModelImporters.importer(of: file) else {
      return try ONNXReader.load(file, registry: .standard, options: settings)
    }
    do throws(LoadError) {
      var imported = try importer.load(file, registry: .standard, options: settings)
      if importer.isTidied { imported.model.graph = try tidied(imported.model.graph, settings) }
      return imported
    } catch {
      throw error.inFile(file.name)
    }
  }

  /// The graph of an importer without the changes of layout that undo each other.
  private static func tidied(_ graph: Graph, _ settings: ImportOptions) throws(LoadError) -> Graph {
    let names = graph.outputs.map { graph[$0].name }
    var graph = graph
    do throws(OperatorError) {
      _ = try Optimizer(registry: .standard, passes: Optimizer.importPasses)
        .optimize(&graph, allowance: settings.allowance)
      graph = try graph.namingOutputs(names)
    } catch {
      throw LoadError(
        error.code == .limit ? .limitExceeded : .malformed, error.message, remedy: error.remedy,
        path: error.path.joined(separator: " › "))
    }
    return graph
  }

  private static func compiled(
    _ file: FileBytes, _ settings: ImportOptions, _ account: MemoryAccount?
  ) throws(LoadError) -> ModelSource {
    let compiled = try CompiledModel.read(file, registry: .standard, environment: .current, options: settings)
    var model = compiled.content.model
    for (input, named) in zip(model.graph.inputs, compiled.content.inputs) { model.graph[input].fact = named.fact }
    return ModelSource(
      model: model, files: [], allowance: settings.allowance, mapped: compiled.mapping.map { [$0] } ?? [],
      compiled: compiled, account: account)
  }

  /// The stack that reading takes with files as deep as the limits allow.
  private static func stack(_ options: ModelOptions) -> Int {
    DeepStack.bytes(forMessages: options.limits.maximumNesting)
  }

  private static func source(
    _ imported: ImportedModel, _ settings: ImportOptions, _ account: MemoryAccount?
  ) -> ModelSource {
    var source = ModelSource(
      model: imported.model, files: imported.files, allowance: settings.allowance, mapped: imported.mapped,
      account: account, sideFiles: imported.sideFiles)
    source.report = imported.report
    return source
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
    /// The files beside the model's own that its weights lie in.
    package var sideFiles: [String] = []
  }

  /// Reads a file and infers the types, as far as its problems let that, under the caller's dimensions and shapes.
  /// Nothing is prepared.
  package static func inspect(path: String, options: ModelOptions) throws -> Inspection {
    try checkEnvironment()
    return try DeepStack.run { try inspection(of: path, options: options) }
  }

  private static func inspection(of path: String, options: ModelOptions) throws -> Inspection {
    let account = account(options, name(of: path))
    var settings = importOptions(options, account)
    let file = try ONNXReader.open(path: path, options: &settings)
    return try inspection(of: file, settings, account, options: options)
  }

  /// The same of a file that was opened; its side files lie in `folder`.
  package static func inspect(_ file: FileBytes, folder: String?, options: ModelOptions) throws -> Inspection {
    try DeepStack.run {
      let account = account(options, file.name)
      var settings = importOptions(options, account)
      settings.externalFolder = folder
      return try inspection(of: file, settings, account, options: options)
    }
  }

  private static func inspection(
    of file: FileBytes, _ settings: ImportOptions, _ account: MemoryAccount?, options: ModelOptions
  ) throws -> Inspection {
    var settings = settings
    settings.keepsFaultyNodes = true
    let (source, faults): (ModelSource, [ModelProblem])
    if CompiledModel.isCompiled(file) {
      (source, faults) = (try compiled(file, settings, account), [])
    } else {
      let imported = try imported(file, settings)
      (source, faults) = (ModelReader.source(imported, settings, account), imported.problems)
    }
    var graph = source.model.graph
    try Model.bind(options, in: &graph)
    let driver = InferenceDriver(
      registry: .standard, allowance: settings.allowance, keepsFaultySubgraphs: source.compiled != nil)
    let errors = driver.infer(&graph)
    // What was wrong while reading is wrong here too; it is told once.
    let problems = faults.isEmpty ? PrepareError(errors).problems : faults
    return Inspection(
      graph: graph, information: ModelInformation(source), problems: problems, sideFiles: source.sideFiles)
  }

  static func importOptions(_ options: ModelOptions, _ account: MemoryAccount? = nil) -> ImportOptions {
    var settings = ImportOptions()
    let limits = options.limits
    settings.limits = limits
    settings.mapsFiles = options.mapsFiles
    settings.allowance = .loading(
      memory: MemoryAccount(limit: limits.maximumLoadMemory, name: "maximumLoadMemory", parent: account),
      cancellation: CancellationFlag(timeout: Model.duration(limits.maximumLoadSeconds)))
    settings.overridableInputs = options.overridableInitializers
    settings.shapes = options.shapes
    return settings
  }
}
