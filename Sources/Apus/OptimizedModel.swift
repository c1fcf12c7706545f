// A model that was optimized but not prepared: to be looked at or saved.

import ApusFormats
import ApusGraph
import ApusOperators
import ApusOptimizer

/// A model after the passes.
package struct OptimizedModel {
  package var model: ModelGraph
  package var passes: [PassReport]

  /// The operator sets that models can be saved for.
  package static var writableOpsets: ClosedRange<Int> { OpsetChoice.oldest...ONNXReader.newestOpset }

  /// Writes the model as ONNX, for the operator set `opset` if that is given, else for the lowest that holds it. `path`
  /// may be that of the file it was read from.
  package func save(to path: String, opset: Int? = nil) throws {
    try ONNXWriter.message(model, registry: .standard, opset: opset).write(to: path)
  }
}

extension ModelReader {
  /// Reads the model at `path` and runs the passes that `options` name. Portable ones keep to operators of the operator
  /// set `opset`, or to that of the model.
  package static func optimize(path: String, options: ModelOptions, opset: Int? = nil) throws -> OptimizedModel {
    try DeepStack.run { try optimized(read(path: path, options: options), options: options, opset: opset) }
  }

  private static func optimized(_ source: ModelSource, options: ModelOptions, opset: Int?) throws -> OptimizedModel {
    if source.compiled != nil {
      throw LoadError(
        .unsupported, "a compiled model cannot be optimized or saved as ONNX: its weights are packed",
        remedy: "Use the model that it was made of")
    }
    var model = source.model
    try Model.bind(options, in: &model.graph)
    _ = try Model.infer(&model.graph, within: source.allowance)
    let names = model.graph.outputs.map { model.graph[$0].name }
    let optimizer = Optimizer(registry: .standard, options.optimization, opset: opset ?? model.opsets[""])
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
  /// nil if no pass is wanted. `opset` bounds what portable passes make.
  init?(registry: OperatorRegistry, _ options: OptimizationOptions, opset: Int? = nil) {
    guard options.isEnabled else { return nil }
    self.init(
      registry: registry,
      passes: options.isPortable ? Optimizer.portablePasses(forOpset: opset ?? .max) : Optimizer.allPasses,
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
