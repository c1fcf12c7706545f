// Helpers for programs around a model: loading by path, types of inputs.

import ApusGraph
import ApusOperators

extension Model {
  /// Loads a model from a path; `-` is standard input.
  public convenience init(path: String, options: ModelOptions = ModelOptions()) throws {
    try self.init(try ModelReader.read(path: path, options: options), options: options)
  }
}

extension Model {
  /// Makes the operators that draw random numbers without a seed of their own draw the same ones in each process with
  /// this seed, run by run.
  public static func setSeed(_ seed: Int) { ProcessSeed.set(seed) }
}

extension Tensor {
  /// The same bytes as elements of another type of the same width.
  package func reinterpreted(as dataType: DataType) -> Tensor {
    precondition(dataType.bits == self.dataType.bits, "\(self.dataType) and \(dataType) differ in width")
    return Tensor(dataType: dataType, shape: shape, storage: storage, byteOffset: byteOffset)
  }
}

extension Tensor {
  /// The bytes of a uint8 tensor as elements of another type.
  package func reshapedBytes(as dataType: DataType, shape: Shape) -> Tensor? {
    guard self.dataType == .uint8, dataType.byteCount(elements: shape.elementCount) == count else { return nil }
    return Tensor(dataType: dataType, shape: shape, storage: storage, byteOffset: byteOffset)
  }
}

extension Model {
  /// Threads that one run may use, the caller's included.
  public var threadCount: Int { pool.threadCount }

  /// The inputs that a file declares, without preparing the model.
  package static func describeInputs(path: String) throws(LoadError) -> [ValueDescription] {
    let graph = try ModelReader.read(path: path, options: ModelOptions()).graph
    return graph.inputs.map { ValueDescription(name: graph[$0].name, fact: graph.fact($0)) }
  }
}
