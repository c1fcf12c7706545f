// A model that was optimized but not prepared: to be looked at or saved.

import ApusFormats
import ApusGraph
import ApusOperators
import ApusOptimizer

/// A model after the passes.
package struct OptimizedModel {
  package var model: ModelGraph
  package var passes: [PassReport]

  /// Writes the model as ONNX; `path` may be that of the file it was read from.
  package func save(to path: String) throws {
    try ONNXWriter.message(model, registry: .standard).write(to: path)
  }
}

extension ModelReader {
  /// Reads the model at `path` and runs the passes that `options` name.
  package static func optimize(path: String, options: ModelOptions) throws -> OptimizedModel {
    try DeepStack.run { try optimized(read(path: path, options: options), options: options) }
  }

  private static func optimized(_ source: ModelSource, options: ModelOptions) throws -> OptimizedModel {
    var model = source.model
    try Model.bind(options, in: &model.graph)
    let errors = InferenceDriver(registry: .standard, allowance: source.allowance).infer(&model.graph)
    if !errors.isEmpty { throw PrepareError(errors) }
    let names = model.graph.outputs.map { model.graph[$0].name }
    let optimizer = Optimizer(registry: .standard, options.optimization)
    let passes = try optimizer?.optimize(&model.graph, allowance: source.allowance) ?? []
    model.graph.nameOutputs(names)
    do throws(TensorError) {
      try model.graph.loadConstants()
    } catch {
      throw LoadError(error)
    }
    try source.finish()
    return OptimizedModel(model: model, passes: passes)
  }
}

extension Optimizer {
  /// nil if no pass is wanted.
  init?(registry: OperatorRegistry, _ options: OptimizationOptions) {
    guard options.isEnabled else { return nil }
    self.init(
      registry: registry, passes: options.isPortable ? Optimizer.portablePasses : Optimizer.allPasses,
      disabled: options.disabledPasses, stopAfter: options.stopAfter)
  }
}

extension Graph {
  /// Reads the constants that are still in files.
  fileprivate func loadConstants() throws(TensorError) {
    for value in values { try value.constant?.storage.load() }
    for node in nodes {
      for (_, subgraph) in node.subgraphs { try subgraph.graph.loadConstants() }
    }
  }

  /// Gives the outputs their names again, which a pass may have replaced by those of other values.
  fileprivate mutating func nameOutputs(_ names: [String]) {
    for (index, name) in names.enumerated() where self[outputs[index]].name != name {
      let value = outputs[index]
      if inputs.contains(value) || constant(value) != nil || outputs[..<index].contains(value) {
        let copy = addNode(OperatorID("Identity"), name: name, inputs: [value])[0]
        self[copy].fact = fact(value)
        outputs[index] = copy
      }
      self[outputs[index]].name = name
    }
  }
}
