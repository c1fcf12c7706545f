// A model between its file and what compression makes of it.

import ApusCompression
import ApusFormats
import ApusGraph
import ApusOperators
import ApusOptimizer
public import FoundationEssentials

/// A model that was made smaller: to be saved as ONNX, or run at once.
public struct CompressedModel: Sendable {
  package var optimized: OptimizedModel

  private let options: ModelOptions

  /// - Parameter options: what the model was read with, but for sizes, which were bound then.
  package init(_ optimized: OptimizedModel, options: ModelOptions) {
    (self.optimized, self.options) = (optimized, options)
  }

  /// Writes the model as ONNX, for the operator set `opset` or, without one, the lowest that holds it. Weights of more
  /// than 1.5 GB go to a file beside it. The file has its name when it is whole.
  public func save(to url: URL, opset: Int? = nil) throws {
    try optimized.save(to: url.path(percentEncoded: false), opset: opset)
  }

  /// The model, ready to run. `options`: nil for those that the source was read with.
  public func model(options: ModelOptions? = nil) throws -> Model {
    try Model(optimized.model, options: options ?? self.options)
  }
}

extension ModelReader {
  /// Reads the model at `path` to be compressed: typed, with what passes on standard operators make of it where
  /// `options` do not say otherwise, every value of the main graph named.
  package static func readForCompression(path: String, options: ModelOptions) throws -> OptimizedModel {
    var options = options
    options.optimization.isPortable = true
    var read = try optimize(path: path, options: options, for: .saving(opset: nil))
    read.model.graph.nameValues()
    return read
  }
}
