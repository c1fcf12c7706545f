// From the bytes that the scanner let through to Swift values, by way of protobuf-c. The only file that touches its C
// structs. They live for one call; what is read from them is copied.
//
// Why the pointers hold: protobuf-c returns a tree in which `n_x` says how many elements `x` has, strings end in zero,
// and absent messages are null; the tree is freed only after the conversion, and no pointer leaves this file.

import ApusTensor
import COnnxProto

package enum ProtobufUnpack {
  /// The model in `message`, which was scanned as `.model`.
  package static func model(_ message: ScannedMessage) throws(LoadError) -> ModelProto {
    try unpack(message, onnx__model_proto__unpack, onnx__model_proto__free_unpacked) {
      convert($0, message.payloads)
    }
  }

  /// The message scanned as `.tensor`.
  package static func tensor(_ message: ScannedMessage) throws(LoadError) -> TensorProto {
    try unpack(message, onnx__tensor_proto__unpack, onnx__tensor_proto__free_unpacked) {
      convert($0, message.payloads)
    }
  }

  /// The message scanned as `.sequence`.
  package static func sequence(_ message: ScannedMessage) throws(LoadError) -> ValueProto {
    try unpack(message, onnx__sequence_proto__unpack, onnx__sequence_proto__free_unpacked) {
      convert($0, message.payloads)
    }
  }

  /// The message scanned as `.optional`.
  package static func optional(_ message: ScannedMessage) throws(LoadError) -> ValueProto {
    try unpack(message, onnx__optional_proto__unpack, onnx__optional_proto__free_unpacked) {
      convert($0, message.payloads)
    }
  }

  /// The message scanned as `.map`.
  package static func map(_ message: ScannedMessage) throws(LoadError) -> ValueProto {
    try unpack(message, onnx__map_proto__unpack, onnx__map_proto__free_unpacked) {
      convert($0, message.payloads)
    }
  }

  private typealias Allocator = UnsafeMutablePointer<ProtobufCAllocator>

  private static func unpack<Message, Result>(
    _ message: ScannedMessage,
    _ unpack: (Allocator?, Int, UnsafePointer<UInt8>?) -> UnsafeMutablePointer<Message>?,
    _ free: (UnsafeMutablePointer<Message>?, Allocator?) -> Void,
    _ convert: (Message) -> Result
  ) throws(LoadError) -> Result {
    let tree = message.reduced.withUnsafeBufferPointer { unpack(nil, $0.count, $0.baseAddress) }
    guard let tree else {
      // The scanner has checked the form, so what remains is memory.
      throw LoadError(.malformed, "protobuf-c cannot unpack the message of \(message.reduced.count) bytes")
    }
    defer { free(tree, nil) }
    return convert(tree.pointee)
  }

  // MARK: Pieces

  private typealias Messages<Message> = UnsafeMutablePointer<UnsafeMutablePointer<Message>?>
  private typealias Strings = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>

  private static func list<Message, Result>(
    _ count: Int, _ messages: Messages<Message>?, _ convert: (Message) -> Result
  ) -> [Result] {
    guard let messages else { return [] }
    return (0..<count).compactMap { messages[$0].map { convert($0.pointee) } }
  }

  private static func strings(_ count: Int, _ strings: Strings?) -> [String] {
    guard let strings else { return [] }
    return (0..<count).map { text(strings[$0]) }
  }

  private static func text(_ string: UnsafeMutablePointer<CChar>?) -> String {
    string.map { String(cString: $0) } ?? ""
  }

  private static func domain(_ string: UnsafeMutablePointer<CChar>?) -> String {
    let domain = text(string)
    return domain == "ai.onnx" ? "" : domain
  }

  private static func bytes(_ data: ProtobufCBinaryData) -> [UInt8] {
    data.data.map { Array(UnsafeBufferPointer(start: $0, count: data.len)) } ?? []
  }

  private static func byteStrings(_ count: Int, _ data: UnsafeMutablePointer<ProtobufCBinaryData>?) -> [[UInt8]] {
    guard let data else { return [] }
    return (0..<count).map { bytes(data[$0]) }
  }

  private static func integers(_ count: Int, _ values: UnsafeMutablePointer<Int64>?) -> [Int] {
    guard let values else { return [] }
    return (0..<count).map { Int(values[$0]) }
  }

  private static func floats(_ count: Int, _ values: UnsafeMutablePointer<Float>?) -> [Float] {
    values.map { Array(UnsafeBufferPointer(start: $0, count: count)) } ?? []
  }

  // MARK: Models and graphs

  private static func convert(_ proto: Onnx__ModelProto, _ payloads: [TensorPayload]) -> ModelProto {
    var model = ModelProto()
    model.irVersion = Int(proto.ir_version)
    model.producerName = text(proto.producer_name)
    model.producerVersion = text(proto.producer_version)
    model.domain = text(proto.domain)
    model.modelVersion = Int(proto.model_version)
    model.docString = text(proto.doc_string)
    model.graph = proto.graph.map { convert($0.pointee, payloads) }
    model.opsetImport = list(proto.n_opset_import, proto.opset_import, convert)
    model.metadata = list(proto.n_metadata_props, proto.metadata_props, convert)
    model.functions = list(proto.n_functions, proto.functions) { convert($0, payloads) }
    return model
  }

  private static func convert(_ proto: Onnx__OperatorSetIdProto) -> OperatorSetID {
    OperatorSetID(domain: text(proto.domain), version: Int(proto.version))
  }

  private static func convert(_ proto: Onnx__StringStringEntryProto) -> StringEntry {
    StringEntry(key: text(proto.key), value: text(proto.value))
  }

  private static func convert(_ proto: Onnx__GraphProto, _ payloads: [TensorPayload]) -> GraphProto {
    var graph = GraphProto()
    graph.name = text(proto.name)
    graph.docString = text(proto.doc_string)
    graph.nodes = list(proto.n_node, proto.node) { convert($0, payloads) }
    graph.initializers = list(proto.n_initializer, proto.initializer) { convert($0, payloads) }
    graph.sparseInitializers = list(proto.n_sparse_initializer, proto.sparse_initializer) { convert($0, payloads) }
    graph.inputs = list(proto.n_input, proto.input, convert)
    graph.outputs = list(proto.n_output, proto.output, convert)
    graph.valueInfo = list(proto.n_value_info, proto.value_info, convert)
    return graph
  }

  private static func convert(_ proto: Onnx__ValueInfoProto) -> ValueInfoProto {
    ValueInfoProto(name: text(proto.name), type: proto.type.map { convert($0.pointee) })
  }

  private static func convert(_ proto: Onnx__NodeProto, _ payloads: [TensorPayload]) -> NodeProto {
    var node = NodeProto()
    node.inputs = strings(proto.n_input, proto.input)
    node.outputs = strings(proto.n_output, proto.output)
    node.name = text(proto.name)
    node.opType = text(proto.op_type)
    node.domain = domain(proto.domain)
    node.overload = text(proto.overload)
    node.attributes = list(proto.n_attribute, proto.attribute) { convert($0, payloads) }
    return node
  }

  private static func convert(_ proto: Onnx__FunctionProto, _ payloads: [TensorPayload]) -> FunctionProto {
    var function = FunctionProto()
    function.name = text(proto.name)
    function.domain = domain(proto.domain)
    function.overload = text(proto.overload)
    function.inputs = strings(proto.n_input, proto.input)
    function.outputs = strings(proto.n_output, proto.output)
    function.attributes = strings(proto.n_attribute, proto.attribute)
    function.attributeDefaults = list(proto.n_attribute_proto, proto.attribute_proto) { convert($0, payloads) }
    function.nodes = list(proto.n_node, proto.node) { convert($0, payloads) }
    function.opsetImport = list(proto.n_opset_import, proto.opset_import, convert)
    function.valueInfo = list(proto.n_value_info, proto.value_info, convert)
    return function
  }

  // MARK: Attributes

  private static func convert(_ proto: Onnx__AttributeProto, _ payloads: [TensorPayload]) -> AttributeProto {
    let reference = text(proto.ref_attr_name)
    let content = reference.isEmpty ? content(of: proto, payloads) : .reference(reference)
    return AttributeProto(name: text(proto.name), content: content)
  }

  private static func content(of proto: Onnx__AttributeProto, _ payloads: [TensorPayload]) -> AttributeProto.Content {
    switch proto.has_type != 0 ? proto.type : presentType(of: proto) {
    // Writers of proto3 leave out scalars that are zero.
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT: return .float(proto.has_f != 0 ? proto.f : 0)
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT: return .int(proto.has_i != 0 ? Int(proto.i) : 0)
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING: return .string(proto.has_s != 0 ? bytes(proto.s) : [])
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR:
      guard let tensor = proto.t else { return .malformed("its type is TENSOR, but it has no tensor") }
      return .tensor(convert(tensor.pointee, payloads))
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH:
      guard let graph = proto.g else { return .malformed("its type is GRAPH, but it has no graph") }
      return .graph(convert(graph.pointee, payloads))
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__SPARSE_TENSOR:
      guard let tensor = proto.sparse_tensor else { return .malformed("its type is SPARSE_TENSOR, but it has none") }
      return .sparseTensor(convert(tensor.pointee, payloads))
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TYPE_PROTO:
      guard let type = proto.tp else { return .malformed("its type is TYPE_PROTO, but it has none") }
      return .type(convert(type.pointee))
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS: return .floats(floats(proto.n_floats, proto.floats))
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS: return .ints(integers(proto.n_ints, proto.ints))
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRINGS: return .strings(byteStrings(proto.n_strings, proto.strings))
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSORS:
      return .tensors(list(proto.n_tensors, proto.tensors) { convert($0, payloads) })
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPHS:
      return .graphs(list(proto.n_graphs, proto.graphs) { convert($0, payloads) })
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__SPARSE_TENSORS:
      return .sparseTensors(list(proto.n_sparse_tensors, proto.sparse_tensors) { convert($0, payloads) })
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TYPE_PROTOS:
      return .types(list(proto.n_type_protos, proto.type_protos, convert))
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__UNDEFINED: return .malformed("it has neither a type nor a value")
    default: return .malformed("its type is \(proto.type), which ONNX does not define")
    }
  }

  /// The type by the field that is there, for files from before attributes stated their types.
  private static func presentType(of proto: Onnx__AttributeProto) -> Onnx__AttributeProto__AttributeType {
    if proto.has_f != 0 { return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT }
    if proto.has_i != 0 { return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT }
    if proto.has_s != 0 { return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING }
    if proto.t != nil { return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR }
    if proto.g != nil { return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH }
    if proto.sparse_tensor != nil { return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__SPARSE_TENSOR }
    if proto.tp != nil { return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TYPE_PROTO }
    if proto.n_floats > 0 { return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS }
    if proto.n_ints > 0 { return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS }
    if proto.n_strings > 0 { return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRINGS }
    if proto.n_tensors > 0 { return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSORS }
    if proto.n_graphs > 0 { return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPHS }
    if proto.n_sparse_tensors > 0 { return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__SPARSE_TENSORS }
    if proto.n_type_protos > 0 { return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TYPE_PROTOS }
    return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__UNDEFINED
  }

  // MARK: Tensors and types

  private static func convert(_ proto: Onnx__TensorProto, _ payloads: [TensorPayload]) -> TensorProto {
    var tensor = TensorProto(content: .payloads([]))
    tensor.name = text(proto.name)
    tensor.dims = integers(proto.n_dims, proto.dims)
    tensor.dataType = proto.data_type
    if proto.segment != nil {
      tensor.content = .unsupported("a tensor in segments")
    } else if proto.has_data_location != 0 && proto.data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL {
      tensor.content = .external(list(proto.n_external_data, proto.external_data, convert))
    } else if proto.has_data_location != 0 && proto.data_location != ONNX__TENSOR_PROTO__DATA_LOCATION__DEFAULT {
      tensor.content = .unsupported("a tensor with data_location \(proto.data_location.rawValue)")
    } else if let indices = proto.apus_payload {
      // The scanner wrote the indices, and it counts up from 0.
      tensor.content = .payloads((0..<proto.n_apus_payload).map { payloads[Int(indices[$0])] })
    }
    return tensor
  }

  private static func convert(_ proto: Onnx__SparseTensorProto, _ payloads: [TensorPayload]) -> SparseTensorProto {
    var tensor = SparseTensorProto()
    tensor.values = proto.values.map { convert($0.pointee, payloads) }
    tensor.indices = proto.indices.map { convert($0.pointee, payloads) }
    tensor.dims = integers(proto.n_dims, proto.dims)
    return tensor
  }

  private static func convert(_ proto: Onnx__TypeProto) -> TypeProto {
    switch proto.value_case {
    case ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE:
      guard let type = proto.tensor_type?.pointee else { return .absent }
      return .tensor(elementType: type.elem_type, shape: type.shape.map { convert($0.pointee) })
    case ONNX__TYPE_PROTO__VALUE_SPARSE_TENSOR_TYPE:
      guard let type = proto.sparse_tensor_type?.pointee else { return .absent }
      return .sparseTensor(elementType: type.elem_type, shape: type.shape.map { convert($0.pointee) })
    case ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE:
      return .sequence(proto.sequence_type?.pointee.elem_type.map { convert($0.pointee) })
    case ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE:
      return .optional(proto.optional_type?.pointee.elem_type.map { convert($0.pointee) })
    case ONNX__TYPE_PROTO__VALUE_MAP_TYPE:
      guard let type = proto.map_type?.pointee else { return .absent }
      return .map(keyType: type.key_type, value: type.value_type.map { convert($0.pointee) })
    case ONNX__TYPE_PROTO__VALUE_OPAQUE_TYPE:
      guard let type = proto.opaque_type?.pointee else { return .absent }
      return .opaque(domain: text(type.domain), name: text(type.name))
    default: return .absent
    }
  }

  private static func convert(_ proto: Onnx__TensorShapeProto) -> [TypeProto.Dimension] {
    list(proto.n_dim, proto.dim) { (dim: Onnx__TensorShapeProto__Dimension) -> TypeProto.Dimension in
      switch dim.value_case {
      case ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE: .value(Int(dim.dim_value))
      case ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM: .parameter(text(dim.dim_param))
      default: .unknown
      }
    }
  }

  // MARK: Values in files of their own

  private static func convert(_ proto: Onnx__SequenceProto, _ payloads: [TensorPayload]) -> ValueProto {
    var elements: [ValueProto] = list(proto.n_tensor_values, proto.tensor_values) { .tensor(convert($0, payloads)) }
    elements += list(proto.n_sparse_tensor_values, proto.sparse_tensor_values) { .sparseTensor(convert($0, payloads)) }
    elements += list(proto.n_sequence_values, proto.sequence_values) { convert($0, payloads) }
    elements += list(proto.n_map_values, proto.map_values) { convert($0, payloads) }
    elements += list(proto.n_optional_values, proto.optional_values) { convert($0, payloads) }
    return .sequence(name: text(proto.name), elementKind: proto.elem_type, elements: elements)
  }

  private static func convert(_ proto: Onnx__OptionalProto, _ payloads: [TensorPayload]) -> ValueProto {
    var element: ValueProto?
    if let tensor = proto.tensor_value { element = .tensor(convert(tensor.pointee, payloads)) }
    if let tensor = proto.sparse_tensor_value { element = .sparseTensor(convert(tensor.pointee, payloads)) }
    if let sequence = proto.sequence_value { element = convert(sequence.pointee, payloads) }
    if let map = proto.map_value { element = convert(map.pointee, payloads) }
    if let optional = proto.optional_value { element = convert(optional.pointee, payloads) }
    return .optional(name: text(proto.name), elementKind: proto.elem_type, element: element)
  }

  private static func convert(_ proto: Onnx__MapProto, _ payloads: [TensorPayload]) -> ValueProto {
    .map(
      name: text(proto.name), keyType: proto.key_type, keys: integers(proto.n_keys, proto.keys),
      stringKeys: byteStrings(proto.n_string_keys, proto.string_keys),
      values: proto.values.map { convert($0.pointee, payloads) })
  }
}
