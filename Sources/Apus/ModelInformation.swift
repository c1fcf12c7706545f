// What a model says about itself, its inputs and outputs.

import ApusGraph

/// An input or output of a model.
public struct ValueDescription: Sendable, Hashable {
  public let name: String
  /// The type in words: `float32[batch, 3, 224, 224]`, `sequence(int64[?])`.
  public let type: String
  /// The element type, if it is a tensor.
  public let dataType: DataType?
  /// The extents; nil if it is no tensor or its rank is unknown.
  public let extents: [Dimension]?
  /// The extents in words: numbers, symbols or expressions, `?` where nothing is known.
  public var dimensions: [String]? { extents?.map(\.description) }
  /// The shape if it is a tensor and every extent is a number.
  public let shape: Shape?

  /// The type with those shapes that are wholly known; nil if nothing is known.
  package let valueType: ValueType?

  package init(name: String, fact: ValueFact) {
    valueType = fact.type
    self.name = name
    type = fact.description
    dataType = fact.tensor?.dataType
    extents = fact.tensor?.shape?.map { Dimension($0) }
    shape = fact.tensor?.concreteShape
  }
}

/// The header of a model file.
public struct ModelInformation: Sendable {
  public let graphName: String
  public let irVersion: Int
  /// The operator sets by domain; the default domain is `ai.onnx`.
  public let opsets: [String: Int]
  public let producer: String
  public let producerVersion: String
  public let domain: String
  public let modelVersion: Int
  public let documentation: String
  public let metadata: [(key: String, value: String)]
  /// What the model was compiled for; nil if it is not compiled.
  public let compilation: CompilationTarget?

  init(_ model: ModelSource) {
    compilation = model.compiled.map { CompilationTarget($0.environment) }
    let source = model.model
    graphName = source.graph.name
    irVersion = source.irVersion
    opsets = source.opsets
    producer = source.producer
    producerVersion = source.producerVersion
    domain = source.domain
    modelVersion = source.modelVersion
    documentation = source.documentation
    metadata = source.metadata
  }
}
