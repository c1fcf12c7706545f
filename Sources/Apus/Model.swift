// A model ready to run.

import ApusFormats
import ApusGraph
import ApusOperators
import ApusOptimizer
import ApusRuntime
public import FoundationEssentials

/// An ONNX model, read, typed, optimized and prepared. Immutable: any number of threads may run it at once; they share
/// its weights.
///
///     let model = try Model(contentsOf: URL(filePath: "resnet50.onnx"))
///     let outputs = try model.run(["input": Tensor(pixels, shape: [1, 3, 224, 224])])
///     print(outputs["logits"]!.shape)
public final class Model: Sendable {
  /// What the file says about itself.
  public let information: ModelInformation
  /// The inputs in the order of the file, without initializers.
  public let inputs: [ValueDescription]
  /// The outputs in the order of the file, then those asked for by `ModelOptions`.
  public let outputs: [ValueDescription]
  /// The initializers that the file also lists as inputs: what `ModelOptions.overridableInitializers` accepts, without
  /// those that it names.
  public let overridableInitializers: [ValueDescription]
  /// What the file says that cannot be and does not keep it from running, as declared shapes that contradict the
  /// operators.
  public let notes: [String]
  /// What each pass of the optimizer did.
  package let passReport: [PassReport]
  /// The graph that runs, after all passes.
  package let graph: Graph
  package let program: Program
  /// Whose threads the model runs on.
  public let engine: Engine
  package let pool: WorkerPool
  /// That of the model in the budget of its engine.
  private let account: MemoryAccount?
  private let limits: LoadLimits
  let priority: RunPriority
  let checks: InputChecks
  /// The files that weights lie in.
  private let mapped: [MappedFile]

  /// Loads a model from a file. External data is looked for in the file's folder only.
  ///
  /// - Throws: `LoadError` if the file is no valid model, `PrepareError` if it cannot run; both list every problem.
  public convenience init(contentsOf url: URL, options: ModelOptions = ModelOptions()) throws {
    try self.init(try ModelReader.read(path: url.path(percentEncoded: false), options: options), options: options)
  }

  /// Loads a model from the bytes of a file. `folder` is where external data is looked for; nil forbids external data.
  public convenience init(
    bytes: some Sequence<UInt8>, externalDataFolder folder: URL? = nil, options: ModelOptions = ModelOptions()
  ) throws {
    let folderPath = folder?.path(percentEncoded: false)
    try self.init(try ModelReader.read(bytes: Array(bytes), folder: folderPath, options: options), options: options)
  }

  /// Optimizes and prepares a graph that was made in memory.
  package convenience init(_ model: ModelGraph, options: ModelOptions) throws {
    let account = options.engine?.account(named: "'\(model.graph.name)'")
    let allowance = account.map { Allowance.loading(memory: $0, cancellation: nil) } ?? .unlimited
    try self.init(ModelSource(model: model, files: [], allowance: allowance, account: account), options: options)
  }

  /// Optimizes and prepares a graph that has been read.
  package init(_ source: ModelSource, options: ModelOptions) throws {
    engine = options.engine ?? Engine.common(threads: options.threads)
    let pool = engine.share(threads: options.threads)
    self.pool = pool
    let store = engine.weights
    let scope = KernelScope.current
    let prepared = try DeepStack.run(needing: source.stackBytes) {
      try scope.run { () throws in try Model.prepare(source, options: options, on: pool, store: store) }
    }
    (information, notes, passReport) = (prepared.information, prepared.notes, prepared.passReport)
    (inputs, outputs, program) = (prepared.inputs, prepared.outputs, prepared.program)
    // Passes may rename what they replace; the names that users know are the file's.
    outputNames = outputs.map(\.name)
    let graph = program.graph
    self.graph = graph
    let defaulted = source.compiled == nil ? source.model.defaultedInputs : []
    overridableInitializers = defaulted.map { ValueDescription(name: $0.name, fact: $0.fact) }
    mapped = source.mapped
    checks = InputChecks(inputs, of: graph)
    (limits, priority) = (options.limits, options.priority)
    account = source.account
    engine.add(program, of: account)
  }

  /// What a model is made of.
  private struct Prepared {
    let information: ModelInformation
    let inputs: [ValueDescription]
    let outputs: [ValueDescription]
    let notes: [String]
    let passReport: [PassReport]
    let program: Program
  }

  private static func prepare(
    _ source: ModelSource, options: ModelOptions, on pool: WorkerPool, store: WeightStore
  ) throws -> Prepared {
    let compiled = source.compiled
    let optimized =
      if let compiled {
        try Model.optimized(compiled, options: options, within: source.allowance)
      } else {
        try Model.optimized(source, options: options)
      }
    let packedWeights = PackedWeights(
      allowance: source.allowance, releasesSources: compiled != nil || !options.keepsConstants, store: store,
      forms: compiled?.forms,
      precision: compiled == nil && options.precision == .bfloat16 ? .bfloat16 : .full)
    defer { packedWeights.finish() }
    let program: Program
    do {
      program = try Program(
        graph: optimized.graph, registry: .standard, pool: pool, packedWeights: packedWeights, account: source.account)
    } catch {
      try source.finish()
      throw PrepareError(error.errors)
    }
    try source.finish()
    func described(_ value: NamedFact) -> ValueDescription { ValueDescription(name: value.name, fact: value.fact) }
    return Prepared(
      information: ModelInformation(source), inputs: optimized.inputs.map(described),
      outputs: optimized.outputs.map(described), notes: optimized.notes, passReport: optimized.passReport,
      program: program)
  }

  /// A graph after all passes, and what users know of it.
  struct OptimizedGraph {
    let graph: Graph
    /// Under the symbols of the file.
    let inputs: [NamedFact]
    let outputs: [NamedFact]
    let notes: [String]
    let passReport: [PassReport]
  }

  /// Binds, types and optimizes the graph of a model that was read.
  static func optimized(_ source: ModelSource, options: ModelOptions) throws -> OptimizedGraph {
    var graph = source.graph
    let allowance = source.allowance
    try Model.bind(options, in: &graph)
    let named = try Model.infer(&graph, within: allowance)
    try Model.addOutputs(options, to: &graph)
    let notes = Set(graph.notes).sorted()
    // Users know the symbols by the names of the file.
    let inputs = graph.inputs.map { NamedFact(name: graph[$0].name, fact: named.fact($0)) }
    let outputs = graph.outputs.indices.map { position in
      let value = graph.outputs[position]
      let fact = position < named.outputs.count ? named.describedOutput(position) : named.fact(value)
      return NamedFact(name: graph[value].name, fact: fact)
    }
    do {
      let optimizer = options.returnsAllValues ? nil : Optimizer(registry: .standard, options.optimization)
      let report = try optimizer?.optimize(&graph, allowance: allowance) ?? []
      return OptimizedGraph(graph: graph, inputs: inputs, outputs: outputs, notes: notes, passReport: report)
    } catch {
      throw PrepareError([error])
    }
  }

  /// Infers all types and shapes under symbols that are equal only where the graph needs it, and returns the graph
  /// under the names of the file.
  static func infer(_ graph: inout Graph, within allowance: Allowance) throws -> Graph {
    let declared = graph
    let errors = InferenceDriver(registry: .standard, allowance: allowance).infer(&graph)
    if !errors.isEmpty { throw PrepareError(errors) }
    let named = graph
    do throws(OperatorError) {
      graph = try SymbolSplitting.split(declared: declared, inferred: named, registry: .standard, within: allowance)
    } catch {
      throw PrepareError([error])
    }
    graph.settleSubgraphs()
    return named
  }

  let outputNames: [String]

  // MARK: - Running

  /// Runs the model on tensors by input name and returns the outputs that are tensors, by name. They share no memory
  /// that others may write to with the inputs: the present of a cache may lie where its past does, and neither changes.
  ///
  /// - Throws: `RunError`. An input that is missing, unknown, or of another type or shape is named with what was
  ///   expected.
  public func run(_ inputs: [String: Tensor], options: RunOptions = RunOptions()) throws(RunError) -> [String: Tensor] {
    try run(values: inputs.mapValues { .tensor($0) }, options: options).compactMapValues(\.tensor)
  }

  /// Runs the model on values of any kind (tensors, sequences, optionals, maps) by input name.
  public func run(
    values inputs: [String: Value], options: RunOptions = RunOptions()
  ) throws(RunError) -> [String: Value] {
    try run(values: inputs, settings: settings(for: options), wanted: options.outputs)
  }

  /// Frees the working memory that runs have left; the next run takes new memory. Weights stay.
  public func releaseMemory() { program.releaseMemory() }

  /// Runs the model by name. `settings` may carry a profiler and caller-owned buffers.
  package func run(
    values inputs: [String: Value], settings: RunSettings, wanted: [String]? = nil
  ) throws(RunError) -> [String: Value] {
    var ordered = try checks.ordered(inputs)
    return try run(&ordered, donating: [], settings: settings, wanted: wanted)
  }

  /// Runs the model on values in the order of its inputs, which were checked, and returns outputs by name.
  func run(
    _ inputs: inout [Value], donating donated: [Int], settings: RunSettings, wanted: [String]?
  ) throws(RunError) -> [String: Value] {
    for name in wanted ?? [] where !outputNames.contains(name) {
      let near = nearName(name, among: outputNames).map { " (did you mean '\($0)'?)" } ?? ""
      throw RunError(
        .invalidInput, "there is no output '\(name)'\(near)",
        remedy: "Outputs are: \(outputNames.joined(separator: ", "))")
    }
    let positions = wanted.map { names in outputNames.indices.filter { names.contains(outputNames[$0]) } }
    let results = try compute(&inputs, donating: donated, wanted: positions, settings: settings)
    var outputs: [String: Value] = [:]
    for (position, value) in zip(positions ?? Array(outputNames.indices), results) {
      outputs[outputNames[position]] = value
    }
    return outputs
  }

  /// Runs the model on a value for each of its inputs, in their order, and returns the outputs with the numbers
  /// `wanted`, nil for all: without names, for callers to whom a microsecond counts.
  package func run(
    inOrder inputs: [Value], wanted: [Int]? = nil, settings: RunSettings
  ) throws(RunError) -> [Value] {
    try checks.check(inOrder: inputs)
    var inputs = inputs
    return try compute(&inputs, donating: [], wanted: wanted, settings: settings)
  }

  /// The run behind all others, on inputs that were checked. What it returns, the outputs `wanted` or all, shares no
  /// memory with them, but for those with the numbers `given` to which nothing else refers. Nodes that no wanted output
  /// needs are not run.
  private func compute(
    _ inputs: inout [Value], donating given: [Int], wanted: [Int]?, settings: RunSettings
  ) throws(RunError) -> [Value] {
    var donated: [Int] = []
    for input in given where inputs[input].isAlone() { donated.append(input) }
    let lent = LentMemory(inputs: &inputs, without: donated)
    settings.turn?.enter()
    defer { settings.turn?.leave() }
    do throws(OperatorError) {
      let results = try execute(wanted.map { program.part(for: $0) } ?? program, &inputs, donated, settings)
      if mapped.contains(where: \.isDamaged) { throw Model.fileIsDamaged }
      do throws(TensorError) {
        return try lent.detached(results, settings.memory)
      } catch {
        throw OperatorError(error)
      }
    } catch {
      throw RunError(error)
    }
  }

  /// The error of runs whose weights were not there.
  private static var fileIsDamaged: OperatorError {
    OperatorError(
      .inconsistency, "a file that the model has mapped became shorter since it was loaded, or its disk failed",
      remedy: "Load the model again; write a new version beside the old one and rename it when it is whole")
  }

  /// Runs on the thread of the caller, whose stack is enough for graphs that do not lie deep in each other.
  private func execute(
    _ program: Program, _ inputs: inout [Value], _ donated: [Int], _ settings: RunSettings
  ) throws(OperatorError) -> [Value] {
    if program.nesting <= Model.flatNesting {
      return try program.run(&inputs, donating: donated, on: pool, settings: settings)
    }
    return try DeepStack.run { () throws(OperatorError) in
      try program.run(&inputs, donating: donated, on: pool, settings: settings)
    }
  }

  /// Graphs in each other that any thread can run.
  private static let flatNesting = 4

  /// The time limit as a duration; nil for none, or beyond what a clock counts.
  static func duration(_ seconds: Double) -> Duration? {
    seconds < 1e9 ? .seconds(max(seconds, 0)) : nil
  }

  func settings(for options: RunOptions) -> RunSettings {
    let seconds = options.timeout ?? limits.maximumRunSeconds
    let flag = seconds.isFinite ? CancellationFlag(timeout: Model.duration(seconds)) : nil
    return settings(flag, priority: options.priority)
  }

  /// What one run of the model is allowed. `priority`: nil for that of the model's options. `queue`: the one that the
  /// run comes through.
  package func settings(
    _ cancellation: CancellationFlag? = nil, priority: RunPriority? = nil, queue: RunQueue? = nil,
    profiler: Profiler? = nil
  ) -> RunSettings {
    let turn = RunTurn(engine.gate, priority ?? self.priority, threads: pool.threadCount, queue: queue)
    return RunSettings(
      cancellation: cancellation, maximumBytes: limits.maximumRunMemory, account: account, turn: turn,
      profiler: profiler)
  }

  /// The flag of a run that is put in line now.
  func flag(for options: RunOptions) -> CancellationFlag {
    CancellationFlag(timeout: Model.duration(options.timeout ?? limits.maximumRunSeconds))
  }
}
