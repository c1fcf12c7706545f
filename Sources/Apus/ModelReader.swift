// Reads a model file into a typed graph.

import ApusFormats
import ApusGraph
import ApusOperators

/// From files and bytes to graphs, with the registry of all operators.
package enum ModelReader {
  package static func read(path: String, options: ModelOptions) throws(LoadError) -> ModelGraph {
    try ONNXImporter(registry: .standard, limits: options.limits, overridable: options.overridableInitializers)
      .read(path: path)
  }

  package static func read(bytes: [UInt8], folder: String?, options: ModelOptions) throws(LoadError) -> ModelGraph {
    try ONNXImporter(registry: .standard, limits: options.limits, overridable: options.overridableInitializers)
      .read(bytes: bytes, externalDataFolder: folder)
  }
}
