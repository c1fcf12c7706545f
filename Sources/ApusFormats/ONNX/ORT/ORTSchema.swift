// What of the schema of ONNX Runtime's own form of models is read: fields of tables by their numbers.
// https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/core/flatbuffers/schema/ort.fbs

/// Numbers of the schema.
enum ORTSchema {
  /// The characters at byte 4 of a file.
  static let identifier = "ORTM"
  /// The versions of the form, which files carry as a text.
  static let versions = 1...6

  /// The version of a model that has none.
  static let noModelVersion = Int64.max

  /// The root table.
  enum Session {
    static let version = 0
    static let model = 1
  }

  enum Model {
    static let irVersion = 0
    static let opsetImport = 1
    static let producerName = 2
    static let producerVersion = 3
    static let domain = 4
    static let modelVersion = 5
    static let docString = 6
    static let graph = 7
    static let graphDocString = 8
    static let metadata = 9
  }

  /// Two texts, or a text and a number.
  enum Pair {
    static let key = 0
    static let value = 1
  }

  enum Graph {
    static let initializers = 0
    static let values = 1
    static let nodes = 2
    static let inputs = 5
    static let outputs = 6
    static let sparseInitializers = 7
  }

  enum Node {
    static let name = 0
    static let domain = 2
    static let opType = 5
    static let type = 6
    static let provider = 7
    static let inputs = 8
    static let outputs = 9
    static let attributes = 10
    /// The type of a node that an execution provider compiled.
    static let fusedType: Int32 = 1
  }

  enum Attribute {
    static let name = 0
    static let type = 2
    static let float = 3
    static let int = 4
    static let string = 5
    static let tensor = 6
    static let graph = 7
    static let floats = 8
    static let ints = 9
    static let strings = 10
    static let tensors = 11
    static let graphs = 12
  }

  enum Tensor {
    static let name = 0
    static let dims = 2
    static let dataType = 3
    static let rawData = 4
    static let stringData = 5
    static let externalOffset = 6
  }

  enum SparseTensor {
    static let values = 0
    static let indices = 1
    static let dims = 2
  }

  enum ValueInfo {
    static let name = 0
    static let type = 2
  }

  /// A union of the types of values; its types are numbers from 1.
  enum TypeInfo {
    static let value = 1
    static let tensor: UInt8 = 1
    static let sequence: UInt8 = 2
    static let map: UInt8 = 3
  }

  /// The table of a tensor's type, of a sequence's, or of a map's.
  enum ValueType {
    /// The type of the elements, or of the keys.
    static let element = 0
    /// The shape, or the type of the values.
    static let second = 1
  }

  enum Shape {
    static let dims = 0
  }

  enum Dimension {
    static let value = 0
  }

  enum DimensionValue {
    static let type = 0
    static let number = 1
    static let symbol = 2
    static let numberType: Int8 = 1
    static let symbolType: Int8 = 2
  }
}
