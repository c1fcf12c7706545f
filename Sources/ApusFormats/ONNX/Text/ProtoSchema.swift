// The messages of onnx.proto by the names of their fields, which the textual forms are written in. Read once from the
// descriptors that protoc-c made of the file, so there is no second table of them.
//
// Why the pointers hold: descriptors are constants of the program, with as many fields and values as they say.

import COnnxProto

/// The names of an enumeration.
struct EnumSchema: Sendable {
  let name: String
  let values: [(name: String, number: Int32)]

  func name(of number: Int32) -> String? { values.first { $0.number == number }?.name }

  func number(of name: String) -> Int32? { values.first { $0.name == name }?.number }
}

/// One field of a message.
struct FieldSchema: Sendable {
  enum Kind: Sendable {
    case int32, int64, uint64, float, double, string, bytes
    case enumeration(EnumSchema)
    /// The position of the message in `ProtoSchema.messages`.
    case message(Int)
  }

  let name: String
  /// The name in JSON: `opset_import` is `opsetImport`.
  let jsonName: String
  let number: UInt32
  let kind: Kind
  let isRepeated: Bool
  /// True if the elements are written behind one tag.
  let isPacked: Bool
  /// True if only one of the message's fields of this kind may be there.
  let isAlternative: Bool
  let nameBytes: [UInt8]
  let jsonNameBytes: [UInt8]

  /// The wire type of one value.
  var wireType: WireType {
    switch kind {
    case .int32, .int64, .uint64, .enumeration: .varint
    case .float: .fixed32
    case .double: .fixed64
    case .string, .bytes, .message: .bytes
    }
  }

  var isMessage: Bool {
    if case .message = kind { return true }
    return false
  }
}

/// One message.
struct MessageSchema: Sendable {
  let name: String
  /// By number.
  let fields: [FieldSchema]

  func index(of number: UInt32) -> Int? { fields.firstIndex { $0.number == number } }

  func index(of name: String) -> Int? { fields.firstIndex { $0.name == name } }

  /// The field of that name; in JSON the name may be of either form.
  func index(named name: Range<Int>, in text: Span<UInt8>, json: Bool = false) -> Int? {
    for index in fields.indices {
      if Self.isEqual(fields[index].nameBytes, name, text) { return index }
      if json, Self.isEqual(fields[index].jsonNameBytes, name, text) { return index }
    }
    return nil
  }

  private static func isEqual(_ name: [UInt8], _ range: Range<Int>, _ text: Span<UInt8>) -> Bool {
    guard name.count == range.count else { return false }
    for (offset, byte) in name.enumerated() where text[range.lowerBound + offset] != byte { return false }
    return true
  }
}

enum ProtoSchema {
  /// ModelProto and all messages in it, ModelProto first.
  static let messages: [MessageSchema] = read()
  static let model = 0

  private typealias Descriptor = UnsafePointer<ProtobufCMessageDescriptor>

  private static func read() -> [MessageSchema] {
    var proto = Onnx__ModelProto()
    onnx__model_proto__init(&proto)
    guard let root = proto.base.descriptor else { preconditionFailure("protoc-c wrote no descriptor") }
    var descriptors: [Descriptor] = [root]
    var messages: [MessageSchema] = []
    while messages.count < descriptors.count {
      let descriptor = descriptors[messages.count].pointee
      var fields: [FieldSchema] = []
      for position in 0..<Int(descriptor.n_fields) {
        let field = descriptor.fields[position]
        if field.id == WireScanner.payloadField { continue }
        fields.append(self.field(field, &descriptors))
      }
      messages.append(MessageSchema(name: String(cString: descriptor.short_name), fields: fields))
    }
    return messages
  }

  private static func field(_ field: ProtobufCFieldDescriptor, _ descriptors: inout [Descriptor]) -> FieldSchema {
    let name = String(cString: field.name)
    let json = jsonName(name)
    return FieldSchema(
      name: name, jsonName: json, number: field.id, kind: kind(field, &descriptors),
      isRepeated: field.label == PROTOBUF_C_LABEL_REPEATED,
      isPacked: field.flags & UInt32(PROTOBUF_C_FIELD_FLAG_PACKED.rawValue) != 0,
      isAlternative: field.flags & UInt32(PROTOBUF_C_FIELD_FLAG_ONEOF.rawValue) != 0,
      nameBytes: Array(name.utf8), jsonNameBytes: Array(json.utf8))
  }

  private static func kind(
    _ field: ProtobufCFieldDescriptor, _ descriptors: inout [Descriptor]
  ) -> FieldSchema.Kind {
    switch field.type {
    case PROTOBUF_C_TYPE_INT32: return .int32
    case PROTOBUF_C_TYPE_INT64: return .int64
    case PROTOBUF_C_TYPE_UINT64: return .uint64
    case PROTOBUF_C_TYPE_FLOAT: return .float
    case PROTOBUF_C_TYPE_DOUBLE: return .double
    case PROTOBUF_C_TYPE_STRING: return .string
    case PROTOBUF_C_TYPE_BYTES: return .bytes
    case PROTOBUF_C_TYPE_ENUM:
      guard let values = field.descriptor?.assumingMemoryBound(to: ProtobufCEnumDescriptor.self) else { break }
      return .enumeration(
        EnumSchema(
          name: String(cString: values.pointee.short_name),
          values: (0..<Int(values.pointee.n_values)).map {
            (String(cString: values.pointee.values[$0].name), values.pointee.values[$0].value)
          }))
    case PROTOBUF_C_TYPE_MESSAGE:
      guard let message = field.descriptor?.assumingMemoryBound(to: ProtobufCMessageDescriptor.self) else { break }
      if let known = descriptors.firstIndex(of: message) { return .message(known) }
      descriptors.append(message)
      return .message(descriptors.count - 1)
    default: break
    }
    preconditionFailure("onnx.proto has a field of a type that the textual forms do not know: \(field.type)")
  }

  /// `opset_import` as `opsetImport`.
  private static func jsonName(_ name: String) -> String {
    let parts = name.split(separator: "_")
    return parts.dropFirst().reduce(String(parts[0])) { $0 + $1.prefix(1).uppercased() + $1.dropFirst() }
  }
}
