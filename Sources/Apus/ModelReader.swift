// Reads a model file into a typed graph.

import ApusFormats
import ApusGraph
import ApusOperators

/// From files and bytes to graphs, with the registry of all operators.
package enum ModelReader {
  /// Reads a file; `-` is standard input.
  package static func read(path: String, options: ModelOptions) throws(LoadError) -> ModelGraph {
    try ONNXReader.load(path: path, registry: .standard, options: importOptions(options)).model
  }

  package static func read(bytes: [UInt8], folder: String?, options: ModelOptions) throws(LoadError) -> ModelGraph {
    var settings = importOptions(options)
    settings.externalFolder = folder
    return try ONNXReader.load(MappedFile(copying: bytes), registry: .standard, options: settings).model
  }

  /// Reads a file and infers all types under the caller's dimensions and shapes, without preparing anything.
  package static func readTyped(path: String, options: ModelOptions) throws -> (graph: Graph, information: ModelInformation) {
    let source = try read(path: path, options: options)
    var graph = source.graph
    try Model.bind(options, in: &graph)
    let errors = InferenceDriver(registry: .standard).infer(&graph)
    if !errors.isEmpty { throw PrepareError(errors) }
    return (graph, ModelInformation(source))
  }

  private static func importOptions(_ options: ModelOptions) -> ImportOptions {
    var settings = ImportOptions()
    settings.limits = options.limits
    settings.overridableInputs = options.overridableInitializers
    return settings
  }
}
