// What an exported program of PyTorch says: graph, signature, and what is known of each value. As in torch's
// _export/serde/schema.py, version 8; what older versions call otherwise is read too.

import ApusContainers
import ApusGraph
import ApusTensor

/// The type, the extents and the place in its storage of a tensor.
struct TorchMeta: Sendable {
  /// nil for element types that ONNX does not have.
  var dataType: DataType?
  var sizes: [Dim]
  var strides: [Dim]
  var offset: Dim

  /// True if the elements surely lie in order, without gaps.
  var isContiguous: Bool {
    var expected = Dim(1)
    for (size, stride) in zip(sizes, strides).reversed() where size.known != 1 {
      if size.known == 0 { return true }
      if !stride.isSame(as: expected) { return false }
      expected = expected * size
    }
    return sizes.count == strides.count
  }
}

/// A number that is written down, or a value that a symbol or a node gives.
enum TorchSize: Sendable, Hashable {
  case number(Int)
  case name(String)
}

/// An argument of a node.
indirect enum TorchArgument: Sendable {
  case none
  case tensor(String)
  case tensors([String?])
  case size(TorchSize)
  case sizes([TorchSize])
  case float(Double)
  case floats([Double])
  case bool(Bool)
  case bools([Bool])
  /// A truth or a float that a node gives.
  case symbol(String)
  case string(String)
  case dataType(Int)
  case graph(TorchGraph)
  /// Devices, layouts, memory formats, and everything that no rule asks for.
  case other(String)

  var names: [String] {
    switch self {
    case .tensor(let name), .symbol(let name), .size(.name(let name)): [name]
    case .tensors(let names): names.compactMap { $0 }
    case .sizes(let sizes): sizes.compactMap { if case .name(let name) = $0 { name } else { nil } }
    default: []
    }
  }
}

/// A node: a call of an operator.
struct TorchNode: Sendable {
  /// As `aten.conv2d.default`, `_operator.mul`.
  var target: String
  var inputs: [(name: String, value: TorchArgument)]
  var outputs: [TorchArgument]
  /// The name in the program.
  var name: String
  /// The path of the module that called it, as `layer1.0.conv1`, and whether that is one of torch.nn itself.
  var module: String
  var isLeaf: Bool
}

/// A graph, also one inside a node.
struct TorchGraph: Sendable {
  var inputs: [TorchArgument] = []
  var outputs: [TorchArgument] = []
  var nodes: [TorchNode] = []
  var tensors: [String: TorchMeta] = [:]
  /// The values of integers that nodes give, as expressions of symbols.
  var integers: [String: Dim] = [:]
}

/// What an input or an output of the graph is for.
enum TorchRole: Sendable {
  case user(TorchArgument)
  case parameter(String, path: String)
  case buffer(String, path: String)
  case constant(String, path: String)
  /// An input that has one value, which is not read by any node.
  case fixed(String)
  /// What cannot be: custom objects, tokens.
  case object(String, kind: String)
  /// Outputs: the new value of a buffer, parameter or input.
  case changed(String, of: String, isInput: Bool)

  static let kinds = [
    "user_input", "parameter", "buffer", "tensor_constant", "custom_obj", "token", "constant_input", "user_output",
    "loss_output", "buffer_mutation", "parameter_mutation", "user_input_mutation", "gradient_to_parameter",
    "gradient_to_user_input",
  ]
}

/// An exported program without its weights.
struct TorchProgram: Sendable {
  var graph = TorchGraph()
  var inputs: [TorchRole] = []
  var outputs: [TorchRole] = []
  /// As "8.20".
  var schema = ""
  /// As "2.13.0+cpu".
  var version = ""
  /// The path of each user output in the structure that `forward` returns, as `logits` or `past.0`; empty texts where
  /// the structure names nothing.
  var outputNames: [String] = []
}

extension JSONValue {
  var truth: Bool? { if case .bool(let truth) = self { truth } else { nil } }
  /// A number, also one that is written as a text, as "Infinity".
  var real: Double? {
    switch self {
    case .number(let text), .string(let text): Double(text)
    default: nil
    }
  }
  /// The only member of an object that says which of several kinds its value is.
  var variant: (key: String, value: JSONValue)? {
    guard let members else { return nil }
    let set = members.filter { if case .null = $0.value { false } else { true } }
    return set.count == 1 ? (set[0].key, set[0].value) : nil
  }
}

/// The element types of torch's schema by their numbers (ScalarType of schema.py).
enum TorchDataType {
  static func type(_ number: Int) -> DataType? {
    let types: [Int: DataType] = [
      1: .uint8, 2: .int8, 3: .int16, 4: .int32, 5: .int64, 6: .float16, 7: .float32, 8: .float64, 10: .complex64,
      11: .complex128, 12: .bool, 13: .bfloat16, 28: .uint16, 29: .float8e4m3fn, 30: .float8e5m2,
      31: .float8e4m3fnuz, 32: .float8e5m2fnuz, 33: .float8e8m0, 34: .uint32, 35: .uint64,
    ]
    return types[number]
  }

  /// The promotion of two types of the same category, or of one category above the other: torch.promote_types.
  static func promoted(_ a: DataType, _ b: DataType) -> DataType {
    if a == b { return a }
    let (x, y) = (category(a), category(b))
    if x != y { return x > y ? a : b }
    if x == 2 {  // two kinds of 16 bits meet in float32
      return a.bits == b.bits ? .float32 : a.bits > b.bits ? a : b
    }
    if a.isUnsignedInteger != b.isUnsignedInteger, a != .bool, b != .bool {
      let (unsigned, signed) = a.isUnsignedInteger ? (a, b) : (b, a)
      if signed.bits > unsigned.bits { return signed }
      return unsigned.bits == 8 ? .int16 : unsigned.bits == 16 ? .int32 : .int64
    }
    return a.bits > b.bits ? a : b
  }

  /// 0 for bool, 1 for integers, 2 for floats, 3 for complex numbers.
  static func category(_ type: DataType) -> Int {
    type == .bool ? 0 : type.isInteger ? 1 : type.isFloat ? 2 : 3
  }
}

extension DataType {
  /// The type of the real and imaginary parts of complex numbers; that of others itself.
  var ofParts: DataType {
    switch self {
    case .complex64: .float32
    case .complex128: .float64
    default: self
    }
  }
}
