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

  /// The model as the bytes of an ONNX file. Throws `LoadError` for more than 1.5 GB of weights, which one file cannot
  /// hold.
  package func encoded(opset: Int? = nil) throws -> [UInt8] {
    let bytes = optimized.model.graph.allConstants.reduce(0) { $0 + $1.byteCount }
    if bytes > ModelProto.maximumInlineBytes {
      throw LoadError(
        .limitExceeded, "\(bytes) bytes of weights do not fit one file of ONNX", remedy: "Save the model to a file")
    }
    return try ONNXWriter.message(optimized.model, registry: .standard, opset: opset).encoded
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
    try readForCompression(options) { options throws(LoadError) in try read(path: path, options: options) }
  }

  /// The same for the bytes of a file. `folder` is where external data is looked for; nil forbids it.
  package static func readForCompression(
    bytes: [UInt8], folder: String?, options: ModelOptions
  ) throws -> OptimizedModel {
    try readForCompression(options) { options throws(LoadError) in
      try read(bytes: bytes, folder: folder, options: options)
    }
  }

  private static func readForCompression(
    _ options: ModelOptions, _ read: (ModelOptions) throws(LoadError) -> ModelSource
  ) throws -> OptimizedModel {
    var options = options
    options.optimization.isPortable = true
    var model = try DeepStack.run { try optimized(try read(options), options: options, for: .saving(opset: nil)) }
    model.model.graph.nameValues()
    return model
  }
}
