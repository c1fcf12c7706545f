// A model that was optimized but not prepared: to be looked at or saved.

import ApusFormats
import ApusGraph
import ApusOperators
import ApusOptimizer

/// A model after the passes.
package struct OptimizedModel {
  package var model: ModelGraph
  package var passes: [PassReport]

  /// Writes the model as ONNX. Its weights may lie in a mapping of the file it was read from, so `path` must be another.
  package func save(to path: String) throws {
    try ONNXWriter.message(model, registry: .standard).write(to: path)
  }
}

extension ModelReader {
  /// Reads the model at `path` and runs the passes that `options` name.
  package static func optimize(path: String, options: ModelOptions) throws -> OptimizedModel {
    var source = try read(path: path, options: options)
    try Model.bind(options, in: &source.graph)
    let declared = source.graph
    let errors = InferenceDriver(registry: .standard).infer(&source.graph)
    if !errors.isEmpty { throw PrepareError(errors) }
    source.graph = SymbolSplitting.split(declared: declared, inferred: source.graph, registry: .standard)
    let names = source.graph.outputs.map { source.graph[$0].name }
    let passes = try Optimizer(registry: .standard, options.optimization)?.optimize(&source.graph) ?? []
    source.graph.nameOutputs(names)
    return OptimizedModel(model: source, passes: passes)
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
