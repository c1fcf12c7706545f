// Compiled models: made of a model, and made ready to run under the options of whoever loads them.

import ApusFormats
import ApusGraph
import ApusOperators
import ApusRuntime
public import FoundationEssentials

/// What `ModelFile.compile` wrote.
public struct CompilationSummary: Sendable, Hashable {
  /// Bytes of the file.
  public let fileBytes: Int
  /// Nodes of the graph after all passes, without those of graphs inside nodes.
  public let nodes: Int
  /// Packed forms of weights, and their bytes.
  public let packedWeights: Int
  public let packedBytes: Int
  /// Bytes of the constants that are in the file as they were.
  public let constantBytes: Int
  public let target: CompilationTarget
}

/// What a compiled model was made by and for.
public struct CompilationTarget: Sendable, Hashable {
  /// The version of Apus.
  public let version: String
  /// The level of the machine's instructions: `portable`, `avx2`, `avx512`, `neon`.
  public let level: String
  /// Extensions beyond the level, with a space between them; may be empty.
  public let features: String

  init(_ environment: CompiledEnvironment) {
    (version, level, features) = (environment.version, environment.level, environment.features)
  }
}

extension ModelFile {
  /// Prepares the model under the options that it was read with and writes what comes of it to `target`: the graph
  /// after all passes, and the weights in the forms that kernels read. Loading that file takes milliseconds; its
  /// weights stay in it, and processes that load it share them. It can be loaded by this version of Apus where the
  /// machine has the same instructions, and must stay as it is meanwhile; see docs/compiled-models.md.
  ///
  /// - Throws: `LoadError` if the file cannot be read or written, or is compiled already; `PrepareError` for a model
  ///   that cannot run.
  @discardableResult
  public func compile(to target: URL) throws -> CompilationSummary {
    try ModelReader.compile(path: path, options: options, to: target.path(percentEncoded: false))
  }
}

extension CompiledEnvironment {
  /// That of this process.
  static var current: CompiledEnvironment {
    let machine = MachineLevel.current
    return CompiledEnvironment(
      version: ApusVersion.text, level: machine.name, features: machine.features, tiles: machine.tiles)
  }
}

// MARK: - Compiling

extension ModelReader {
  /// Compiles the model at `path` into the file at `target`. `progress` is called with the name of what is being done
  /// and the share of it that is.
  @discardableResult
  package static func compile(
    path: String, options: ModelOptions, to target: String, progress: (String, Double) -> Void = { _, _ in }
  ) throws -> CompilationSummary {
    progress("reading", 0)
    let source = try read(path: path, options: options)
    if source.compiled != nil {
      throw LoadError(.unsupported, "the model is compiled already", remedy: "Compile the model that it was made of")
        .inFile(path)
    }
    // A compiled model cannot be turned back.
    try OutputFile.check(target, isNoneOf: [path] + source.sideFiles, "the model is read from it")
    return try DeepStack.run(needing: source.stackBytes) {
      try compile(source, options: options, to: target, progress: progress)
    }
  }

  private static func compile(
    _ source: ModelSource, options: ModelOptions, to target: String, progress: (String, Double) -> Void
  ) throws -> CompilationSummary {
    let optimized = try Model.optimized(source, options: options)
    var model = source.model
    model.graph = optimized.graph
    let draft = try CompiledDraft(
      CompiledContent(model: model, inputs: optimized.inputs, outputs: optimized.outputs, notes: optimized.notes),
      account: source.allowance.memory)
    // What is written is prepared as whoever loads it will do, so that the same forms are asked for.
    var settings = importOptions(options)
    settings.allowance = source.allowance
    var graph = try draft.content(options: settings).model.graph
    try Model.inferCompiled(&graph, within: source.allowance)
    progress("packing", 0)
    let weights = PackedWeights(allowance: source.allowance, releasesSources: true, forms: draft.forms)
    let engine = options.engine ?? Engine.common(threads: options.threads)
    do {
      _ = try Program(
        graph: graph, registry: .standard, pool: engine.share(threads: options.threads), packedWeights: weights)
    } catch {
      throw PrepareError(error.errors)
    }
    let environment = CompiledEnvironment.current
    let summary = try draft.write(to: target, environment: environment) { progress("writing", $0) }
    weights.finish()
    try source.finish()
    return CompilationSummary(
      fileBytes: summary.fileBytes, nodes: graph.nodes.count, packedWeights: summary.forms,
      packedBytes: summary.formBytes, constantBytes: summary.constantBytes, target: CompilationTarget(environment))
  }
}

// MARK: - Loading

extension Model {
  /// Infers the graph of a compiled model. What a branch that never runs holds may be wrong, as after any pass.
  static func inferCompiled(_ graph: inout Graph, within allowance: Allowance) throws {
    let driver = InferenceDriver(registry: .standard, allowance: allowance, keepsFaultySubgraphs: true)
    let errors = driver.infer(&graph)
    if !errors.isEmpty { throw PrepareError(errors) }
  }

  /// The graph of a compiled model, typed, with the caller's dimensions and shapes.
  static func optimized(
    _ compiled: CompiledModel, options: ModelOptions, within allowance: Allowance
  ) throws -> OptimizedGraph {
    try refuse(options, compiled)
    if options.checksCompiledWeights { try compiled.checkBlocks(within: allowance) }
    var content = compiled.content
    try bind(options, in: &content)
    var graph = content.model.graph
    try inferCompiled(&graph, within: allowance)
    return OptimizedGraph(
      graph: graph, inputs: content.inputs, outputs: content.outputs, notes: content.notes, passReport: [])
  }

  /// Throws for options that come too late for a compiled model.
  private static func refuse(_ options: ModelOptions, _ compiled: CompiledModel) throws(RunError) {
    let defaulted = compiled.content.model.defaultedInputs.map(\.name)
    let reason: String? =
      if options.returnsAllValues || !options.extraOutputs.isEmpty {
        "the intermediate values of a compiled model cannot be returned: passes have changed its graph"
      } else if let name = options.overridableInitializers.sorted().first(where: { defaulted.contains($0) }) {
        "'\(name)' is a constant of the compiled model and no input"
      } else if options.optimization != OptimizationOptions() {
        "which passes run was decided when the model was compiled"
      } else {
        nil
      }
    if let reason {
      throw RunError(
        .unsupported, reason, remedy: "Compile the model with these options, or load the one that it was made of")
    }
  }

  /// Puts the caller's dimensions and shapes into the facts of the inputs. The names are those of the file that was
  /// compiled; the graph may have several symbols for one of them.
  private static func bind(_ options: ModelOptions, in content: inout CompiledContent) throws {
    if options.dimensions.isEmpty && options.shapes.isEmpty { return }
    var named = Graph()
    for input in content.inputs { named.inputs.append(named.addValue(name: input.name, fact: input.fact)) }
    try bind(options, in: &named)
    var sizes: [String: Int] = [:]
    var bindings: [String: Dim] = [:]
    for (position, id) in content.model.graph.inputs.enumerated() {
      guard let shape = named.fact(named.inputs[position]).tensor?.shape,
        let own = content.model.graph.fact(id).tensor
      else { continue }
      let former = content.inputs[position].fact.tensor?.shape
      var extents = own.shape ?? [Dim](repeating: .unknown, count: shape.count)
      for (axis, dim) in shape.enumerated() where extents.indices.contains(axis) {
        guard let size = dim.known else { continue }
        if let symbol = extents[axis].symbol, let other = sizes.updateValue(size, forKey: symbol), other != size {
          throw RunError(
            .invalidInput,
            "axis \(axis) of input '\(content.inputs[position].name)' cannot be \(size): the same size "
              + "is \(other) elsewhere")
        }
        extents[axis] = Dim(size)
        if let name = former?[axis].symbol { bindings[name] = bindings[name].map { $0 == dim ? dim : .unknown } ?? dim }
      }
      content.model.graph[id].fact = .tensor(own.dataType, extents)
      content.inputs[position].fact = named.fact(named.inputs[position])
    }
    let bound = sizes.mapValues { Dim($0) }
    for id in content.model.graph.inputs {
      content.model.graph[id].fact = content.model.graph.fact(id).substituting(bound)
    }
    for index in content.outputs.indices {
      content.outputs[index].fact = content.outputs[index].fact.substituting(bindings)
    }
  }
}
