// The messages of ONNX as Swift values: what the binary, and later the textual formats are read into and written from.

import ApusTensor

package struct ModelProto: Sendable {
  package var irVersion = 0
  package var producerName = ""
  package var producerVersion = ""
  package var domain = ""
  package var modelVersion = 0
  package var docString = ""
  package var graph: GraphProto?
  package var opsetImport: [OperatorSetID] = []
  package var metadata: [StringEntry] = []
  package var functions: [FunctionProto] = []

  package init() {}
}

package struct OperatorSetID: Sendable, Hashable {
  /// `ai.onnx` is the empty string.
  package var domain: String
  package var version: Int

  package init(domain: String, version: Int) {
    self.domain = domain == "ai.onnx" ? "" : domain
    self.version = version
  }
}

package struct StringEntry: Sendable, Hashable {
  package var key: String
  package var value: String

  package init(key: String, value: String) { (self.key, self.value) = (key, value) }
}

package struct GraphProto: Sendable {
  package var name = ""
  package var docString = ""
  package var nodes: [NodeProto] = []
  package var initializers: [TensorProto] = []
  package var sparseInitializers: [SparseTensorProto] = []
  package var inputs: [ValueInfoProto] = []
  package var outputs: [ValueInfoProto] = []
  package var valueInfo: [ValueInfoProto] = []

  package init() {}
}

package struct ValueInfoProto: Sendable {
  package var name: String
  package var type: TypeProto?

  package init(name: String, type: TypeProto?) { (self.name, self.type) = (name, type) }
}

package struct NodeProto: Sendable {
  package var inputs: [String] = []
  package var outputs: [String] = []
  package var name = ""
  package var opType = ""
  /// `ai.onnx` is the empty string.
  package var domain = ""
  package var overload = ""
  package var attributes: [AttributeProto] = []

  package init() {}
}

package struct AttributeProto: Sendable {
  package var name: String
  package var content: Content

  package init(name: String, content: Content) { (self.name, self.content) = (name, content) }

  package enum Content: Sendable {
    case float(Float)
    case int(Int)
    /// Bytes; UTF-8 by the specification, but files are not always so.
    case string([UInt8])
    case tensor(TensorProto)
    case graph(GraphProto)
    case sparseTensor(SparseTensorProto)
    case type(TypeProto)
    case floats([Float])
    case ints([Int])
    case strings([[UInt8]])
    case tensors([TensorProto])
    case graphs([GraphProto])
    case sparseTensors([SparseTensorProto])
    case types([TypeProto])
    /// In a function: the value of the attribute of that name of the call.
    case reference(String)
    /// No value; the reason why it has none.
    case malformed(String)
  }
}

package struct FunctionProto: Sendable {
  package var name = ""
  package var domain = ""
  package var overload = ""
  package var inputs: [String] = []
  package var outputs: [String] = []
  /// Names of attributes without a default.
  package var attributes: [String] = []
  /// Attributes with a default.
  package var attributeDefaults: [AttributeProto] = []
  package var nodes: [NodeProto] = []
  package var opsetImport: [OperatorSetID] = []
  package var valueInfo: [ValueInfoProto] = []

  package init() {}
}

package struct TensorProto: Sendable {
  package var name = ""
  package var dims: [Int] = []
  /// A raw value of `DataType`, or anything else that the file says.
  package var dataType: Int32 = 0
  package var content: Content

  package init(content: Content) { self.content = content }

  /// A message that holds `tensor`.
  package init(name: String, _ tensor: Tensor) {
    self.name = name
    dims = tensor.shape.dims
    dataType = tensor.dataType.rawValue
    content = .tensor(tensor)
  }

  package enum Content: Sendable {
    /// Elements in the scanned file, in the order of the file.
    case payloads([TensorPayload])
    /// Elements in a side file, as the keys say.
    case external([StringEntry])
    case tensor(Tensor)
    /// A feature that nobody uses, by name.
    case unsupported(String)
  }
}

package struct SparseTensorProto: Sendable {
  package var values: TensorProto?
  package var indices: TensorProto?
  package var dims: [Int] = []

  package init() {}
}

package indirect enum TypeProto: Sendable {
  case tensor(elementType: Int32, shape: [Dimension]?)
  case sparseTensor(elementType: Int32, shape: [Dimension]?)
  case sequence(TypeProto?)
  case optional(TypeProto?)
  case map(keyType: Int32, value: TypeProto?)
  case opaque(domain: String, name: String)
  /// No type at all.
  case absent

  package enum Dimension: Sendable, Hashable {
    case value(Int)
    case parameter(String)
    case unknown
  }
}

/// SequenceProto, OptionalProto and MapProto: values in files of their own.
package indirect enum ValueProto: Sendable {
  case tensor(TensorProto)
  case sparseTensor(SparseTensorProto)
  case sequence(name: String, elementKind: Int32, elements: [ValueProto])
  case optional(name: String, elementKind: Int32, element: ValueProto?)
  case map(name: String, keyType: Int32, keys: [Int], stringKeys: [[UInt8]], values: ValueProto?)
}
