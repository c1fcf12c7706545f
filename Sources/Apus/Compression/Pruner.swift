// Models with fewer numbers: pruned, clustered, and what of their weights is 0.

@_exported public import struct ApusCompression.ClusteringOptions
@_exported public import struct ApusCompression.ClusteringReport
@_exported public import struct ApusCompression.OutputLoss
@_exported public import struct ApusCompression.PruningOptions
@_exported public import struct ApusCompression.PruningReport
@_exported public import struct ApusCompression.SparsityReport
@_exported public import struct ApusCompression.WeightSelection
import ApusCompression
public import FoundationEssentials

/// Prunes models.
public struct Pruner: Sendable {
  public var options: PruningOptions

  public init(_ options: PruningOptions) { self.options = options }

  /// The model at `url` without what the options take away, and what that was. Throws `LoadError` for a file that
  /// cannot be read, `CompressionError` for options that do not fit the model.
  public func prune(
    contentsOf url: URL, options modelOptions: ModelOptions = ModelOptions()
  ) throws -> (model: CompressedModel, report: PruningReport) {
    try prune(try CompressionSource(url: url, options: modelOptions)) { _ in }
  }

  package func prune(
    _ source: CompressionSource, progress: @escaping @Sendable (String) -> Void
  ) throws -> (model: CompressedModel, report: PruningReport) {
    let pruner = try GraphPruner(options, progress: progress)
    return try source.compressed { try pruner.prune(&$0.model.graph) }
  }
}

/// Lets the elements of weights share a few values.
public struct WeightClusterer: Sendable {
  public var options: ClusteringOptions

  public init(_ options: ClusteringOptions) { self.options = options }

  /// The model at `url` with clustered weights, and what that cost. Throws `LoadError` for a file that cannot be read,
  /// `CompressionError` for options that do not fit the model.
  public func cluster(
    contentsOf url: URL, options modelOptions: ModelOptions = ModelOptions()
  ) throws -> (model: CompressedModel, report: ClusteringReport) {
    try cluster(try CompressionSource(url: url, options: modelOptions)) { _ in }
  }

  package func cluster(
    _ source: CompressionSource, progress: @escaping @Sendable (String) -> Void
  ) throws -> (model: CompressedModel, report: ClusteringReport) {
    let clusterer = try GraphClusterer(options, progress: progress)
    return try source.compressed { try clusterer.cluster(&$0.model.graph) }
  }
}

extension SparsityReport {
  /// The zeros in the weights of the model at `url`, as the file has them but for what is folded.
  public init(contentsOf url: URL, options: ModelOptions = ModelOptions()) throws {
    let read = try ModelReader.readForCompression(path: url.path(percentEncoded: false), options: options)
    self.init(read.model.graph)
  }
}
