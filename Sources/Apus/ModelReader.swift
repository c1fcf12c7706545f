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

  /// A model to look at. It need not be able to run.
  package struct Inspection {
    package var graph: Graph
    package var information: ModelInformation
    /// Why it cannot run.
    package var problems: [ModelProblem]
  }

  /// Reads a file and infers the types, as far as its problems let that, under the caller's dimensions and shapes. Nothing
  /// is prepared.
  package static func inspect(path: String, options: ModelOptions) throws -> Inspection {
    var settings = importOptions(options)
    settings.keepsFaultyNodes = true
    let source = try ONNXReader.load(path: path, registry: .standard, options: settings)
    var graph = source.model.graph
    try Model.bind(options, in: &graph)
    let errors = InferenceDriver(registry: .standard).infer(&graph)
    // What was wrong while reading is wrong here too; it is told once.
    let problems = source.problems.isEmpty ? PrepareError(errors).problems : source.problems
    return Inspection(graph: graph, information: ModelInformation(source.model), problems: problems)
  }

  private static func importOptions(_ options: ModelOptions) -> ImportOptions {
    var settings = ImportOptions()
    settings.limits = options.limits
    settings.overridableInputs = options.overridableInitializers
    return settings
  }
}
