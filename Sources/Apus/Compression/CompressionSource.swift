// From a model's file to what a compression makes of it: reading, what its work may use, and deep graphs.

import ApusCompression
import ApusGraph
import ApusRuntime
import ApusTensor
import FoundationEssentials

/// A model that was read to be compressed, and what work on it may use.
package struct CompressionSource: Sendable {
  /// Typed, with what passes on standard operators made of it, every value of the main graph named.
  package let read: OptimizedModel
  /// For models that are made of it.
  let options: ModelOptions
  private(set) var surroundings: RunSurroundings

  /// Reads the model at `path`. With the memory budget of an engine, all that the work on it holds is charged there.
  ///
  /// - Throws: `LoadError` or `PrepareError`.
  package init(path: String, options: ModelOptions) throws {
    self.init(try ModelReader.readForCompression(path: path, options: options), options)
  }

  /// The same for the bytes of a file. `folder` is where external data is looked for; nil forbids it.
  package init(bytes: [UInt8], folder: String?, options: ModelOptions) throws {
    self.init(try ModelReader.readForCompression(bytes: bytes, folder: folder, options: options), options)
  }

  private init(_ read: OptimizedModel, _ options: ModelOptions) {
    self.read = read
    var later = options
    // These were bound when it was read.
    (later.dimensions, later.shapes) = ([:], [:])
    self.options = later
    surroundings = RunSurroundings(options)
  }

  /// The same, for work that ends when `cancellation` is set.
  func cancelled(by cancellation: CancellationFlag?) -> CompressionSource {
    var copy = self
    copy.surroundings.cancellation = cancellation
    return copy
  }

  init(url: URL, options: ModelOptions) throws {
    try self.init(path: url.path(percentEncoded: false), options: options)
  }

  /// The model as it was read, ready to run.
  package func model() throws -> Model { try Model(read.model, options: options) }

  /// What `change` makes of the model, and what it says of that. The change runs where graphs that lie deep in each
  /// other have room.
  func compressed<Report>(
    _ change: (inout OptimizedModel) throws -> Report
  ) throws -> (model: CompressedModel, report: Report) {
    try DeepStack.run { () throws in
      var model = read
      let report = try change(&model)
      return (CompressedModel(model, options: options), report)
    }
  }
}

extension RunSurroundings {
  /// What the options of a model allow, in the budget of its engine if that has one.
  init(_ options: ModelOptions) {
    let engine = options.engine ?? Engine.common(threads: options.threads)
    self.init(pool: engine.share(threads: options.threads))
    maximumRunMemory = options.limits.maximumRunMemory
    memory = engine.account(named: "the compression")
  }
}
