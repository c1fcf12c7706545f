// A model ready to run.

import ApusFormats
import ApusGraph
import ApusOperators
import ApusOptimizer
import ApusRuntime
public import Foundation

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
  /// What the file says that cannot be and does not keep it from running, as declared shapes that contradict the operators.
  public let notes: [String]
  /// What each pass of the optimizer did.
  package let passReport: [PassReport]
  /// The graph that runs, after all passes.
  package let graph: Graph
  package let program: Program
  package let pool: WorkerPool
  private let limits: LoadLimits

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

  /// Optimizes and prepares a graph that has been read.
  package init(_ source: ModelGraph, options: ModelOptions) throws {
    var graph = source.graph
    let registry = OperatorRegistry.standard
    try Model.bind(options, in: &graph)
    let declared = graph
    let errors = InferenceDriver(registry: registry).infer(&graph)
    if !errors.isEmpty { throw PrepareError(errors) }
    let named = graph
    graph = SymbolSplitting.split(declared: declared, inferred: named, registry: registry)
    try Model.addOutputs(options, to: &graph)
    notes = Set(graph.notes).sorted()
    information = ModelInformation(source)
    // Users know the symbols by the names of the file.
    inputs = graph.inputs.map { ValueDescription(name: graph[$0].name, fact: named.fact($0)) }
    outputs = graph.outputs.map { ValueDescription(name: graph[$0].name, fact: named.fact($0)) }
    let outputNames = outputs.map(\.name)
    pool = WorkerPool(threads: max(1, options.threads ?? Topology.availableProcessorCount()))
    let flag = CancellationFlag(timeout: Model.duration(options.limits.maximumLoadSeconds))
    do {
      let optimizer = options.returnsAllValues ? nil : Optimizer(registry: registry, options.optimization)
      passReport = try optimizer?.optimize(&graph) { () throws(OperatorError) in
        if flag.isCancelled { throw Program.late }
      } ?? []
    } catch {
      throw PrepareError([error])
    }
    // Passes may rename what they replace; the names that users know are the file's.
    self.outputNames = outputNames
    do {
      program = try Program(graph: graph, registry: registry, pool: pool, cancellation: flag)
    } catch {
      throw PrepareError(error.errors)
    }
    self.graph = graph
    limits = options.limits
  }

  private let outputNames: [String]

  // MARK: - Running

  /// Runs the model on tensors by input name and returns the outputs that are tensors, by name.
  ///
  /// - Throws: `RunError`. An input that is missing, unknown, or of another type or shape is named with what was expected.
  public func run(_ inputs: [String: Tensor], options: RunOptions = RunOptions()) throws(RunError) -> [String: Tensor] {
    try run(values: inputs.mapValues { .tensor($0) }, options: options).compactMapValues(\.tensor)
  }

  /// Runs the model on values of any kind (tensors, sequences, optionals, maps) by input name.
  public func run(values inputs: [String: Value], options: RunOptions = RunOptions()) throws(RunError) -> [String: Value] {
    try run(values: inputs, settings: settings(for: options), wanted: options.outputs)
  }

  /// Runs the model and writes outputs into memory of the caller.
  ///
  /// Each buffer must hold exactly the bytes that the output has for these inputs, and must not be touched before the
  /// call returns. Outputs without a buffer are returned as from `run(_:)`; those with one too, over that memory.
  public func run(
    _ inputs: [String: Tensor], into buffers: [String: UnsafeMutableRawBufferPointer], options: RunOptions = RunOptions()
  ) throws(RunError) -> [String: Tensor] {
    var settings = settings(for: options)
    for (name, buffer) in buffers {
      guard let index = outputNames.firstIndex(of: name), let base = buffer.baseAddress else {
        throw RunError(.invalidInput, "there is no output '\(name)'", remedy: "Outputs are: \(outputNames.joined(separator: ", "))")
      }
      settings.outputBuffers[graph.outputs[index]] = OutputBuffer(base: base, byteCount: buffer.count)
    }
    let results = try run(values: inputs.mapValues { .tensor($0) }, settings: settings, wanted: options.outputs)
      .compactMapValues(\.tensor)
    for (name, buffer) in buffers {
      guard let tensor = results[name] else { continue }
      guard tensor.byteCount == buffer.count else {
        throw RunError(
          .invalidInput, "the buffer for output '\(name)' has \(buffer.count) bytes; \(tensor.dataType)\(tensor.shape) has "
            + "\(tensor.byteCount)")
      }
      tensor.withUnsafeBytes { bytes in
        if let source = bytes.baseAddress, let target = buffer.baseAddress, source != UnsafeRawPointer(target) {
          target.copyMemory(from: source, byteCount: bytes.count)
        }
      }
    }
    return results
  }

  /// Runs the model on a thread of its own; cancelling the task ends the run within one part of one node.
  public func run(_ inputs: [String: Tensor], options: RunOptions = RunOptions()) async throws(RunError) -> [String: Tensor] {
    let flag = CancellationFlag(timeout: Model.duration(options.timeout ?? limits.maximumRunSeconds))
    let result: Result<[String: Tensor], RunError> = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        DispatchQueue.global(qos: .userInitiated).async {
          var settings = RunSettings(maximumBytes: self.limits.maximumRunMemory)
          settings.cancellation = flag
          let ready = settings
          continuation.resume(
            returning: Result { () throws(RunError) in
              try self.run(values: inputs.mapValues { .tensor($0) }, settings: ready, wanted: options.outputs)
                .compactMapValues(\.tensor)
            })
        }
      }
    } onCancel: {
      flag.cancel()
    }
    return try result.get()
  }

  /// Frees the working memory that runs have left; the next run takes new memory. Weights stay.
  public func releaseMemory() { program.releaseMemory() }

  /// The run behind all others. `settings` may carry a profiler and caller-owned buffers.
  package func run(
    values inputs: [String: Value], settings: RunSettings, wanted: [String]? = nil
  ) throws(RunError) -> [String: Value] {
    let ordered = try check(inputs)
    for name in wanted ?? [] where !outputNames.contains(name) {
      throw RunError(.invalidInput, "there is no output '\(name)'", remedy: "Outputs are: \(outputNames.joined(separator: ", "))")
    }
    let results: [Value]
    do {
      results = try program.run(ordered, on: pool, settings: settings)
    } catch {
      throw RunError(error)
    }
    var outputs: [String: Value] = [:]
    for (name, value) in zip(outputNames, results) where wanted?.contains(name) ?? true { outputs[name] = value }
    return outputs
  }

  /// The time limit as a duration; nil for none, or beyond what a clock counts.
  private static func duration(_ seconds: Double) -> Duration? {
    seconds < 1e9 ? .seconds(max(seconds, 0)) : nil
  }

  private func settings(for options: RunOptions) -> RunSettings {
    var settings = RunSettings(maximumBytes: limits.maximumRunMemory)
    let seconds = options.timeout ?? limits.maximumRunSeconds
    if seconds.isFinite { settings.cancellation = CancellationFlag(timeout: Model.duration(seconds)) }
    return settings
  }
}
