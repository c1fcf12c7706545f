// Reads a model file into a typed graph.

import ApusFormats
import ApusGraph
import ApusOperators

/// From files and bytes to graphs, with the registry of all operators.
package enum ModelReader {
  /// Reads a file; `-` is standard input.
  package static func read(path: String, options: ModelOptions) throws(LoadError) -> ModelGraph {
    try ONNXReader.load(path: path == "-" ? "/dev/stdin" : path, registry: .standard, options: importOptions(options)).model
  }

  package static func read(bytes: [UInt8], folder: String?, options: ModelOptions) throws(LoadError) -> ModelGraph {
    var settings = importOptions(options)
    settings.externalFolder = folder
    return try ONNXReader.load(MappedFile(copying: bytes), registry: .standard, options: settings).model
  }

  private static func importOptions(_ options: ModelOptions) -> ImportOptions {
    var settings = ImportOptions()
    settings.limits = options.limits
    settings.overridableInputs = options.overridableInitializers
    return settings
  }
}
