// The messages of onnx.proto as the scanner needs them: which fields there are, and what to do with each.

import ApusContainers
import COnnxProto

/// A message type that the scanner walks.
package enum MessageType: UInt8, Sendable {
  case model, opset, entry, graph, valueInfo, node, attribute, function
  case tensor, segment, sparseTensor
  case type, tensorType, sequenceType, mapType, optionalType, sparseType, opaqueType, shape, dimension
  case sequence, map, optional

  /// Bytes of the C struct that protobuf-c allocates.
  var structBytes: Int {
    switch self {
    case .model: MemoryLayout<Onnx__ModelProto>.size
    case .opset: MemoryLayout<Onnx__OperatorSetIdProto>.size
    case .entry: MemoryLayout<Onnx__StringStringEntryProto>.size
    case .graph: MemoryLayout<Onnx__GraphProto>.size
    case .valueInfo: MemoryLayout<Onnx__ValueInfoProto>.size
    case .node: MemoryLayout<Onnx__NodeProto>.size
    case .attribute: MemoryLayout<Onnx__AttributeProto>.size
    case .function: MemoryLayout<Onnx__FunctionProto>.size
    case .tensor: MemoryLayout<Onnx__TensorProto>.size
    case .segment: MemoryLayout<Onnx__TensorProto__Segment>.size
    case .sparseTensor: MemoryLayout<Onnx__SparseTensorProto>.size
    case .type: MemoryLayout<Onnx__TypeProto>.size
    case .tensorType: MemoryLayout<Onnx__TypeProto__Tensor>.size
    case .sequenceType: MemoryLayout<Onnx__TypeProto__Sequence>.size
    case .mapType: MemoryLayout<Onnx__TypeProto__Map>.size
    case .optionalType: MemoryLayout<Onnx__TypeProto__Optional>.size
    case .sparseType: MemoryLayout<Onnx__TypeProto__SparseTensor>.size
    case .opaqueType: MemoryLayout<Onnx__TypeProto__Opaque>.size
    case .shape: MemoryLayout<Onnx__TensorShapeProto>.size
    case .dimension: MemoryLayout<Onnx__TensorShapeProto__Dimension>.size
    case .sequence: MemoryLayout<Onnx__SequenceProto>.size
    case .map: MemoryLayout<Onnx__MapProto>.size
    case .optional: MemoryLayout<Onnx__OptionalProto>.size
    }
  }

  /// The field with that number, or nil if the message has none that anybody reads.
  func field(_ number: UInt32) -> WireField? {
    let table = MessageType.tables[Int(rawValue)]
    return number < table.count ? table[Int(number)] : nil
  }
}

/// What the scanner does with a field.
enum FieldRule: Sendable {
  /// Checks that it is well formed and leaves it out.
  case drop
  /// Leaves it out and says so.
  case dropWithNote(String)
  case varint
  case fixed32
  /// A name: UTF-8 without a zero byte.
  case name
  /// Text for people: no zero byte; whoever reads it repairs what is no UTF-8.
  case prose
  case bytes
  case message(MessageType)
  /// Repeated, packed or not.
  case varints
  case fixed32s
  /// The elements of a tensor: only their place is kept.
  case payload(TensorPayload.Field)
}

struct WireField: Sendable {
  let name: String
  let rule: FieldRule
}

extension MessageType {
  /// For each message type the fields by number.
  static let tables: [[WireField?]] = {
    var tables = [[WireField?]](repeating: [], count: Int(MessageType.optional.rawValue) + 1)
    for (type, fields) in schema {
      var table = [WireField?](repeating: nil, count: (fields.map(\.0).max() ?? 0) + 1)
      for (number, name, rule) in fields { table[number] = WireField(name: name, rule: rule) }
      tables[Int(type.rawValue)] = table
    }
    return tables
  }()

  private static let schema: [(MessageType, [(Int, String, FieldRule)])] = [
    (
      .model,
      [
        (1, "ir_version", .varint), (2, "producer_name", .prose), (3, "producer_version", .prose),
        (4, "domain", .prose),
        (5, "model_version", .varint), (6, "doc_string", .prose), (7, "graph", .message(.graph)),
        (8, "opset_import", .message(.opset)), (14, "metadata_props", .message(.entry)),
        (20, "training_info", .dropWithNote("training_info is left out: Apus does not train")),
        (25, "functions", .message(.function)),
        (26, "configuration", .dropWithNote("configuration (of devices) is left out: Apus runs on one machine")),
      ]
    ),
    (.opset, [(1, "domain", .name), (2, "version", .varint)]),
    (.entry, [(1, "key", .prose), (2, "value", .prose)]),
    (
      .graph,
      [
        (1, "node", .message(.node)), (2, "name", .name), (5, "initializer", .message(.tensor)),
        (10, "doc_string", .prose),
        (11, "input", .message(.valueInfo)), (12, "output", .message(.valueInfo)),
        (13, "value_info", .message(.valueInfo)),
        (14, "quantization_annotation", .drop), (15, "sparse_initializer", .message(.sparseTensor)),
        (16, "metadata_props", .drop),
      ]
    ),
    (
      .valueInfo,
      [(1, "name", .name), (2, "type", .message(.type)), (3, "doc_string", .drop), (4, "metadata_props", .drop)]
    ),
    (
      .node,
      [
        (1, "input", .name), (2, "output", .name), (3, "name", .name), (4, "op_type", .name),
        (5, "attribute", .message(.attribute)), (6, "doc_string", .drop), (7, "domain", .name), (8, "overload", .name),
        (9, "metadata_props", .drop), (10, "device_configurations", .drop),
      ]
    ),
    (
      .attribute,
      [
        (1, "name", .name), (2, "f", .fixed32), (3, "i", .varint), (4, "s", .bytes), (5, "t", .message(.tensor)),
        (6, "g", .message(.graph)), (7, "floats", .fixed32s), (8, "ints", .varints), (9, "strings", .bytes),
        (10, "tensors", .message(.tensor)), (11, "graphs", .message(.graph)), (13, "doc_string", .drop),
        (14, "tp", .message(.type)), (15, "type_protos", .message(.type)), (20, "type", .varint),
        (21, "ref_attr_name", .name), (22, "sparse_tensor", .message(.sparseTensor)),
        (23, "sparse_tensors", .message(.sparseTensor)),
      ]
    ),
    (
      .function,
      [
        (1, "name", .name), (4, "input", .name), (5, "output", .name), (6, "attribute", .name),
        (7, "node", .message(.node)),
        (8, "doc_string", .drop), (9, "opset_import", .message(.opset)), (10, "domain", .name),
        (11, "attribute_proto", .message(.attribute)), (12, "value_info", .message(.valueInfo)),
        (13, "overload", .name),
        (14, "metadata_props", .drop),
      ]
    ),
    (
      .tensor,
      [
        (1, "dims", .varints), (2, "data_type", .varint), (3, "segment", .message(.segment)),
        (4, "float_data", .payload(.floatData)), (5, "int32_data", .payload(.int32Data)),
        (6, "string_data", .payload(.stringData)), (7, "int64_data", .payload(.int64Data)), (8, "name", .name),
        (9, "raw_data", .payload(.rawData)), (10, "double_data", .payload(.doubleData)),
        (11, "uint64_data", .payload(.uint64Data)), (12, "doc_string", .drop), (13, "external_data", .message(.entry)),
        (14, "data_location", .varint), (16, "metadata_props", .drop),
      ]
    ),
    (.segment, [(1, "begin", .varint), (2, "end", .varint)]),
    (.sparseTensor, [(1, "values", .message(.tensor)), (2, "indices", .message(.tensor)), (3, "dims", .varints)]),
    (
      .type,
      [
        (1, "tensor_type", .message(.tensorType)), (4, "sequence_type", .message(.sequenceType)),
        (5, "map_type", .message(.mapType)), (6, "denotation", .drop), (7, "opaque_type", .message(.opaqueType)),
        (8, "sparse_tensor_type", .message(.sparseType)), (9, "optional_type", .message(.optionalType)),
      ]
    ),
    (.tensorType, [(1, "elem_type", .varint), (2, "shape", .message(.shape))]),
    (.sequenceType, [(1, "elem_type", .message(.type))]),
    (.mapType, [(1, "key_type", .varint), (2, "value_type", .message(.type))]),
    (.optionalType, [(1, "elem_type", .message(.type))]),
    (.sparseType, [(1, "elem_type", .varint), (2, "shape", .message(.shape))]),
    (.opaqueType, [(1, "domain", .name), (2, "name", .name)]),
    (.shape, [(1, "dim", .message(.dimension))]),
    (.dimension, [(1, "dim_value", .varint), (2, "dim_param", .name), (3, "denotation", .drop)]),
    (
      .sequence,
      [
        (1, "name", .name), (2, "elem_type", .varint), (3, "tensor_values", .message(.tensor)),
        (4, "sparse_tensor_values", .message(.sparseTensor)), (5, "sequence_values", .message(.sequence)),
        (6, "map_values", .message(.map)), (7, "optional_values", .message(.optional)),
      ]
    ),
    (
      .map,
      [
        (1, "name", .name), (2, "key_type", .varint), (3, "keys", .varints), (4, "string_keys", .bytes),
        (5, "values", .message(.sequence)),
      ]
    ),
    (
      .optional,
      [
        (1, "name", .name), (2, "elem_type", .varint), (3, "tensor_value", .message(.tensor)),
        (4, "sparse_tensor_value", .message(.sparseTensor)), (5, "sequence_value", .message(.sequence)),
        (6, "map_value", .message(.map)), (7, "optional_value", .message(.optional)),
      ]
    ),
  ]
}

extension WireOutline {
  /// A model: `raw_data` of its tensors may stay in the file. Compiled models are mapped instead.
  package static let model = WireOutline(root: MessageType.model.rawValue, mappedSignature: CompiledFormat.magic) {
    message, number in
    switch MessageType(rawValue: message)?.field(number)?.rule {
    case .message(let type): .message(type.rawValue)
    case .payload(.rawData): .elements
    default: .other
    }
  }
}
