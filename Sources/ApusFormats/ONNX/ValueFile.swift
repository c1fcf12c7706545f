// Values in files of their own, as the test cases of ONNX have them: TensorProto, SequenceProto, OptionalProto,
// MapProto.

import ApusTensor

/// Reads and writes `.pb` files that hold one value.
package enum ValueFile {
  /// Reads the value in `file`. The message does not say of which type it is, so `type` must: shapes in it do not
  /// matter. nil means a tensor of any type.
  package static func decode(
    _ file: FileBytes, as type: ValueType?, limits: LoadLimits = LoadLimits()
  ) throws(LoadError) -> Value {
    do throws(LoadError) {
      let decoder = TensorDecoder(file: file, external: ExternalDataFolder(nil, limits: limits), limits: limits)
      return try decoder.value(try parse(file, type, limits), type)
    } catch {
      throw error.inFile(file.name)
    }
  }

  private static func parse(_ file: FileBytes, _ type: ValueType?, _ limits: LoadLimits) throws(LoadError) -> ValueProto
  {
    let root: MessageType =
      switch type {
      case nil, .tensor: .tensor
      case .sequence: .sequence
      case .optional: .optional
      case .map: .map
      }
    let scanned = try file.withBytes { (bytes: Span<UInt8>) throws(LoadError) in
      try WireScanner.scan(bytes, as: root, limits: limits)
    }
    switch root {
    case .sequence: return try ProtobufUnpack.sequence(scanned)
    case .optional: return try ProtobufUnpack.optional(scanned)
    case .map: return try ProtobufUnpack.map(scanned)
    default: return .tensor(try ProtobufUnpack.tensor(scanned))
    }
  }

  /// The bytes of the file that holds `value`.
  package static func encode(_ value: Value, name: String = "") -> [UInt8] {
    var writer = WireWriter()
    write(value, name: name, to: &writer)
    return writer.bytes
  }

  /// Numbers of the kinds of values in `elem_type`, and of the fields that hold them.
  private static func kind(of type: ValueType) -> (kind: Int, field: UInt32) {
    switch type {
    case .tensor: (1, 3)
    case .sequence: (3, 5)
    case .map: (4, 6)
    case .optional: (5, 7)
    }
  }

  private static func write(_ value: Value, name: String, to writer: inout WireWriter) {
    switch value {
    case .tensor(let tensor): TensorProto(name: name, tensor).write(to: &writer)
    case .sequence(let elements, let elementType):
      let (kind, field) = kind(of: elementType)
      writer.textUnlessEmpty(1, name)
      writer.varint(2, kind)
      for element in elements { writer.message(field) { write(element, name: "", to: &$0) } }
    case .optional(let element, let elementType):
      let (kind, field) = kind(of: elementType)
      writer.textUnlessEmpty(1, name)
      // An OptionalProto has its fields in the order of a SequenceProto.
      writer.varint(2, element == nil ? 0 : kind)
      if let element { writer.message(field) { write(element, name: "", to: &$0) } }
    case .map(let map):
      writer.textUnlessEmpty(1, name)
      writer.varint(2, Int(map.keys.dataType.rawValue))
      for key in map.keys.integers ?? [] { writer.varint(3, key) }
      for key in map.keys.strings ?? [] { writer.text(4, key) }
      writer.message(5) { write(.sequence(map.values, elementType: map.valueType), name: "", to: &$0) }
    }
  }
}

extension TensorDecoder {
  /// The value in `proto`. Element types come from `type` where it says them, else from the elements.
  package func value(_ proto: ValueProto, _ type: ValueType?) throws(LoadError) -> Value {
    switch proto {
    case .tensor(let tensor): return try checked(.tensor(self.tensor(tensor)), type)
    case .sparseTensor(let tensor): return try checked(.tensor(self.tensor(tensor)), type)
    case .sequence(_, let kind, let protos):
      var elementType: ValueType?
      if case .sequence(let declared)? = type { elementType = declared }
      var elements: [Value] = []
      for proto in protos {
        try charge(MemoryLayout<Value>.stride)
        elements.append(try value(proto, elementType))
      }
      return .sequence(
        elements, elementType: elementType ?? elements.first?.type.withoutShapes ?? Self.type(ofKind: kind))
    case .optional(_, let kind, let inner):
      var elementType: ValueType?
      if case .optional(let declared)? = type { elementType = declared }
      var element: Value?
      if let inner { element = try value(inner, elementType) }
      return .optional(element, elementType: elementType ?? element?.type.withoutShapes ?? Self.type(ofKind: kind))
    case .map(_, let keyType, let keys, let stringKeys, let values):
      return try map(keyType, keys, stringKeys, values, type)
    }
  }

  private func checked(_ value: Value, _ type: ValueType?) throws(LoadError) -> Value {
    if case .tensor(let expected, _)? = type, let found = value.tensor?.dataType, found != expected {
      throw LoadError(.malformed, "a tensor of \(expected) was expected; this is \(found)")
    }
    return value
  }

  private func map(
    _ keyType: Int32, _ keys: [Int], _ stringKeys: [[UInt8]], _ values: ValueProto?, _ type: ValueType?
  ) throws(LoadError) -> Value {
    guard let keyType = DataType(rawValue: keyType) else {
      throw LoadError(.malformed, "the key type of a map is \(keyType)")
    }
    var declared: ValueType?
    if case .map(_, let value)? = type { declared = value }
    let content = try values.map { (proto) throws(LoadError) in try value(proto, declared.map { .sequence($0) }) }
    var elements: [Value] = []
    var valueType = declared ?? .tensor(.float32, nil)
    if case .sequence(let found, let elementType)? = content {
      elements = found
      valueType = elementType
    }
    let keyTensor = try self.keys(keyType, keys, stringKeys)
    guard keyTensor.count == elements.count else {
      throw LoadError(.malformed, "a map has \(keyTensor.count) keys and \(elements.count) values")
    }
    return .map(MapValue(keys: keyTensor, values: elements, valueType: valueType))
  }

  private func keys(_ type: DataType, _ keys: [Int], _ stringKeys: [[UInt8]]) throws(LoadError) -> Tensor {
    if type == .string {
      var strings: [String] = []
      for key in stringKeys {
        guard let string = String(validating: key, as: UTF8.self) else {
          throw LoadError(.malformed, "a key of a map is no valid UTF-8")
        }
        strings.append(string)
      }
      return Tensor(strings: strings, shape: [strings.count])
    }
    guard type.isInteger, !type.isPacked else {
      throw LoadError(.malformed, "the keys of a map are integers or strings; these are \(type)")
    }
    return try Tensor.building(type, [keys.count]) { (output) throws(LoadError) in
      for key in keys {
        for byte in 0..<type.byteWidth { output.append(UInt8(truncatingIfNeeded: key >> (8 * byte))) }
      }
    }
  }

  /// A type for containers that hold nothing and whose type nobody declared.
  private static func type(ofKind kind: Int32) -> ValueType {
    switch kind {
    case 3: .sequence(.tensor(.float32, nil))
    case 5: .optional(.tensor(.float32, nil))
    default: .tensor(.float32, nil)
    }
  }
}

extension ValueType {
  /// The same type without what it says of shapes.
  package var withoutShapes: ValueType {
    switch self {
    case .tensor(let type, _): .tensor(type, nil)
    case .sequence(let element): .sequence(element.withoutShapes)
    case .optional(let element): .optional(element.withoutShapes)
    case .map(let key, let value): .map(key: key, value: value.withoutShapes)
    }
  }
}
