// The words of ONNX's own text syntax: https://github.com/onnx/onnx/blob/main/docs/Syntax.md.

import ApusTensor

enum ONNXTextNames {
  /// The name of an element type, by its number; nil for a number that none has.
  static func name(ofElementType number: Int32) -> String? {
    elementTypes.indices.contains(Int(number) - 1) ? elementTypes[Int(number) - 1] : nil
  }

  /// The number of an element type; nil for other words.
  static func elementType(_ name: String) -> Int32? { elementTypes.firstIndex(of: name).map { Int32($0 + 1) } }

  /// In the order of TensorProto.DataType.
  private static let elementTypes = [
    "float", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool", "float16", "double", "uint32",
    "uint64", "complex64", "complex128", "bfloat16", "float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz",
    "uint4", "int4", "float4e2m1", "float8e8m0", "uint2", "int2", "float6e2m3", "float6e3m2",
  ]

  /// The kinds of types beside tensors.
  static let typeWords: Set<String> = ["seq", "map", "optional", "sparse_tensor", "opaque"]

  /// The name of an attribute's type, by AttributeProto.AttributeType.
  static let attributeTypes = [
    "undefined", "float", "int", "string", "tensor", "graph", "floats", "ints", "strings", "tensors", "graphs",
    "sparse_tensor", "sparse_tensors", "type_proto", "type_protos",
  ]

  /// The words of the header of a model.
  static let headerWords = [
    "ir_version", "opset_import", "producer_name", "producer_version", "domain", "model_version", "doc_string",
    "metadata_props",
  ]
}

/// How the syntax writes the elements of a type: the field of TensorProto that its parser fills.
struct TextElements {
  enum Form {
    /// Numbers of `int32_data`: integers, bit patterns of narrow floats, bytes with several elements.
    case int32
    case int64, uint64, float, double, string
  }

  let form: Form
  /// The bits of raw_data that one number stands for.
  let bits: Int
  /// True if these bits are a number with a sign.
  let isSigned: Bool
  let field: String

  init(_ type: DataType) {
    switch type {
    case .float32, .complex64: (form, bits, isSigned, field) = (.float, 32, true, "float_data")
    case .float64, .complex128: (form, bits, isSigned, field) = (.double, 64, true, "double_data")
    case .int64: (form, bits, isSigned, field) = (.int64, 64, true, "int64_data")
    case .uint32: (form, bits, isSigned, field) = (.uint64, 32, false, "uint64_data")
    case .uint64: (form, bits, isSigned, field) = (.uint64, 64, false, "uint64_data")
    case .string: (form, bits, isSigned, field) = (.string, 0, false, "string_data")
    case .float6e2m3, .float6e3m2: (form, bits, isSigned, field) = (.int32, 6, false, "int32_data")
    default:
      (form, bits, field) = (.int32, max(type.bits, 8), "int32_data")
      isSigned = type == .int8 || type == .int16 || type == .int32
    }
  }

  /// How many numbers stand for `elements` elements of `type`.
  static func count(_ type: DataType, elements: Int) -> Int? {
    switch type {
    case .complex64, .complex128:
      let (count, overflow) = elements.multipliedReportingOverflow(by: 2)
      return overflow ? nil : count
    case .string, .float6e2m3, .float6e3m2: return elements
    default: return type.isPacked ? type.byteCount(elements: elements) : elements
    }
  }
}
