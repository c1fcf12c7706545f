// A model that was optimized but not prepared: to be looked at or saved.

import ApusFormats
import ApusGraph
import ApusOperators
import ApusOptimizer

/// A model after the passes.
package struct OptimizedModel {
  package var model: ModelGraph
  package var passes: [PassReport]
  /// The paths of the files beside the model's own that weights came from.
  package let sideFiles: [String]

  package init(model: ModelGraph, passes: [PassReport], sideFiles: [String] = []) {
    (self.model, self.passes, self.sideFiles) = (model, passes, sideFiles)
  }

  /// The operator sets that models can be saved for.
  package static var writableOpsets: ClosedRange<Int> { OpsetChoice.oldest...ONNXReader.newestOpset }

  /// Writes the model as ONNX, for the operator set `opset` if that is given, else for the lowest that holds it. `path`
  /// may be that of the file it was read from, but not that of a side file, without which that file is no model.
  package func save(to path: String, opset: Int? = nil) throws {
    try OutputFile.check(path, isNoneOf: sideFiles, "it holds weights of the model that is read")
    try ONNXWriter.message(model, registry: .standard, opset: opset).write(to: path)
  }
}

extension ModelReader {
  /// What becomes of a model after the passes.
  package enum Purpose: Sendable {
    /// It is looked at: the graph is that which would run.
    case looking
    /// It is saved: all operators are standard ones, and fusions keep to those of an operator set; nil: to that of the
    /// model.
    case saving(opset: Int?)
  }

  /// Reads the model at `path` and runs the passes that `options` name.
  package static func optimize(
    path: String, options: ModelOptions, for purpose: Purpose = .saving(opset: nil)
  ) throws -> OptimizedModel {
    try DeepStack.run { try optimized(read(path: path, options: options), options: options, for: purpose) }
  }

  static func optimized(
    _ source: ModelSource, options: ModelOptions, for purpose: Purpose
  ) throws -> OptimizedModel {
    if source.compiled != nil {
      throw LoadError(
        .unsupported, "a compiled model cannot be optimized or saved as ONNX: its weights are packed",
        remedy: "Use the model that it was made of")
    }
    var model = source.model
    try Model.bind(options, in: &model.graph)
    _ = try Model.infer(&model.graph, within: source.allowance)
    let names = model.graph.outputs.map { model.graph[$0].name }
    var passes: [PassReport] = []
    switch purpose {
    case .looking:
      let optimizer = Optimizer(registry: .standard, options.optimization)
      passes = try optimizer?.optimize(&model.graph, allowance: source.allowance) ?? []
    case .saving(let opset):
      let optimizer = Optimizer(registry: .standard, options.optimization, opset: opset ?? model.opsets[""])
      passes = try optimizer?.optimize(&model.graph, allowance: source.allowance) ?? []
      if optimizer != nil, !options.optimization.isPortable {
        model.graph = try model.graph.lowered(
          InferenceDriver(registry: .standard, allowance: source.allowance, keepsFaultySubgraphs: true))
        passes += try Optimizer(registry: .standard, passes: Optimizer.loweredPasses)
          .optimize(&model.graph, allowance: source.allowance)
      }
    }
    model.graph = try model.graph.namingOutputs(names)
    do throws(TensorError) {
      try model.graph.loadConstants()
    } catch {
      throw LoadError(error)
    }
    try source.finish()
    return OptimizedModel(model: model, passes: passes, sideFiles: source.sideFiles)
  }
}

extension Optimizer {
  /// nil if no pass is wanted. `opset` bounds the standard operators that passes make.
  init?(registry: OperatorRegistry, _ options: OptimizationOptions, opset: Int? = nil) {
    guard options.isEnabled else { return nil }
    let opset = opset ?? .max
    self.init(
      registry: registry,
      passes: options.isPortable ? Optimizer.portablePasses(forOpset: opset) : Optimizer.allPasses(forOpset: opset),
      disabled: options.disabledPasses, stopAfter: options.stopAfter)
  }
}

extension Graph {
  /// Reads the constants that are still in files.
  func loadConstants() throws(TensorError) {
    for value in values { try value.constant?.storage.load() }
    for node in nodes {
      for (_, subgraph) in node.subgraphs { try subgraph.graph.loadConstants() }
    }
  }

  /// The graph with these names of its outputs, which a pass may have replaced by those of other values.
  func namingOutputs(
    _ names: [String], registry: OperatorRegistry = .standard
  ) throws(OperatorError) -> Graph {
    let builder = GraphBuilder(continuing: self, inference: InferenceDriver(registry: registry))
    for (index, name) in names.enumerated() where builder.graph[outputs[index]].name != name {
      let value = outputs[index]
      if inputs.contains(value) || constant(value) != nil || outputs[..<index].contains(value) {
        let copy = builder.addValue(name, fact: fact(value))
        try builder.appendCopy(of: value, as: copy)
        builder.graph.outputs[index] = copy
      }
      builder.graph[builder.graph.outputs[index]].name = name
    }
    return builder.graph
  }
}
