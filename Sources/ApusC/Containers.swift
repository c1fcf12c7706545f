// Making and reading sequences, maps and optionals.

import Apus
import ApusFormats
import CApus

// MARK: - Making

/// The type that the caller spelled, or that of `value`; `what` names the container.
private func elementType(_ spelled: UnsafePointer<CChar>?, of value: Value?, in what: String) throws -> ValueType {
  if let spelled { return try TypeText.type(of: text(spelled, "the type")) }
  guard let value else { throw ArgumentError("an empty \(what) needs the type of what it would hold") }
  return value.type.withoutShapes
}

@c @implementation
public func apus_sequence_create(
  _ elements: UnsafePointer<OpaquePointer?>?, _ count: Int, _ type: UnsafePointer<CChar>?,
  _ sequence: UnsafeMutablePointer<OpaquePointer?>?
) -> OpaquePointer? {
  attempt(sequence) {
    guard count >= 0 else { throw ArgumentError("count is \(UInt(bitPattern: count)), more than memory can hold") }
    guard count == 0 || elements != nil else { throw ArgumentError("elements is NULL") }
    let values = try (0..<count).map { try ValueHandle.at(elements?[$0], "element \($0)").value }
    let elementType = try elementType(type, of: values.first, in: "sequence")
    for (index, value) in values.enumerated() where value.type.withoutShapes != elementType {
      throw ArgumentError("element \(index) of the sequence is \(value.type); expected \(elementType)")
    }
    return ValueHandle(.sequence(values, elementType: elementType))
  }
}

@c @implementation
public func apus_map_create(
  _ keys: OpaquePointer?, _ values: OpaquePointer?, _ map: UnsafeMutablePointer<OpaquePointer?>?
) -> OpaquePointer? {
  attempt(map) {
    let keys = try ValueHandle.at(keys, "keys").tensor("keys")
    guard keys.rank == 1, keys.dataType == .string || keys.dataType.isInteger, !keys.dataType.isPacked else {
      throw ArgumentError("keys is \(keys.dataType)\(keys.shape); expected a tensor of rank 1 of strings or integers")
    }
    let different = keys.strings.map { Set($0).count } ?? Set(keys.integers ?? []).count
    guard different == keys.count else {
      throw ArgumentError("the \(keys.count) keys have \(different) different values")
    }
    let handle = try ValueHandle.at(values, "values")
    let elements: [Value]
    let type: ValueType
    switch handle.value {
    case .sequence(let values, let elementType): (elements, type) = (values, elementType)
    case .tensor(let tensor):
      // Counted before they are made: an empty tensor may have any number of rows.
      guard tensor.rank > 0, tensor.shape[0] == keys.count else {
        throw ArgumentError("\(keys.count) keys for values of shape \(tensor.shape); expected one row for each key")
      }
      elements = try rows(of: tensor).map { .tensor($0) }
      type = .tensor(tensor.dataType, nil)
    default: throw ArgumentError("values is \(handle.value.type); expected a sequence or a tensor")
    }
    guard elements.count == keys.count else { throw ArgumentError("\(keys.count) keys for \(elements.count) values") }
    return ValueHandle(.map(MapValue(keys: keys, values: elements, valueType: type)))
  }
}

@c @implementation
public func apus_optional_create(
  _ content: OpaquePointer?, _ type: UnsafePointer<CChar>?, _ optional: UnsafeMutablePointer<OpaquePointer?>?
) -> OpaquePointer? {
  attempt(optional) {
    let value = ValueHandle.at(content)?.value
    let contentType = try elementType(type, of: value, in: "optional")
    if let value, value.type.withoutShapes != contentType {
      throw ArgumentError("the content of the optional is \(value.type); expected \(contentType)")
    }
    return ValueHandle(.optional(value, elementType: contentType))
  }
}

// MARK: - Reading

@c @implementation
public func apus_sequence_count(_ sequence: OpaquePointer?) -> Int {
  ValueHandle.at(sequence)?.value.sequence?.count ?? 0
}

@c @implementation
public func apus_sequence_element(
  _ sequence: OpaquePointer?, _ index: Int, _ element: UnsafeMutablePointer<OpaquePointer?>?
) -> OpaquePointer? {
  attempt(element) {
    let value = try ValueHandle.at(sequence, "sequence").value
    guard let elements = value.sequence else { throw ArgumentError("the value is \(value.type), no sequence") }
    guard elements.indices.contains(index) else {
      throw ArgumentError("element \(index) was asked for; there are \(elements.count)")
    }
    return ValueHandle(elements[index])
  }
}

/// The map behind a pointer.
private func mapValue(_ map: OpaquePointer?) throws -> MapValue {
  let value = try ValueHandle.at(map, "map").value
  guard case .map(let map) = value else { throw ArgumentError("the value is \(value.type), no map") }
  return map
}

@c @implementation
public func apus_map_keys(_ map: OpaquePointer?, _ keys: UnsafeMutablePointer<OpaquePointer?>?) -> OpaquePointer? {
  attempt(keys) { ValueHandle(.tensor(try mapValue(map).keys)) }
}

@c @implementation
public func apus_map_values(_ map: OpaquePointer?, _ values: UnsafeMutablePointer<OpaquePointer?>?) -> OpaquePointer? {
  attempt(values) {
    let map = try mapValue(map)
    if let tensor = stack(map.values) { return ValueHandle(.tensor(tensor)) }
    return ValueHandle(.sequence(map.values, elementType: map.valueType))
  }
}

@c @implementation
public func apus_optional_has_value(_ optional: OpaquePointer?) -> Bool {
  if case .optional(_?, _)? = ValueHandle.at(optional)?.value { true } else { false }
}

@c @implementation
public func apus_optional_content(
  _ optional: OpaquePointer?, _ content: UnsafeMutablePointer<OpaquePointer?>?
) -> OpaquePointer? {
  attempt(content) {
    let value = try ValueHandle.at(optional, "optional").value
    guard case .optional(let content, _) = value else { throw ArgumentError("the value is \(value.type), no optional") }
    return content.map { ValueHandle($0) }
  }
}

// MARK: - One tensor for many

/// Tensors of equal type and shape as one with a further axis in front; nil if they differ, are none, share bytes, or
/// are too many for a shape or for the memory.
private func stack(_ values: [Value]) -> Tensor? {
  let tensors = values.compactMap(\.tensor)
  guard tensors.count == values.count, let first = tensors.first, !first.dataType.isPacked,
    tensors.allSatisfy({ $0.dataType == first.dataType && $0.shape == first.shape })
  else { return nil }
  let shape = Shape([tensors.count] + first.shape.dims)
  guard shape.checkedElementCount != nil else { return nil }
  if first.dataType == .string { return Tensor(strings: tensors.flatMap { $0.strings ?? [] }, shape: shape) }
  guard let result = try? Tensor(uninitialized: first.dataType, shape: shape) else { return nil }
  for (index, tensor) in tensors.enumerated() {
    // In bounds: all rows have as many bytes as the first.
    tensor.withUnsafeBytes { bytes in
      guard let source = bytes.baseAddress else { return }
      (result.storage.base + index * bytes.count).copyMemory(from: source, byteCount: bytes.count)
    }
  }
  return result
}

/// The parts of a tensor of rank 1 or more along its first axis, without copies.
private func rows(of tensor: Tensor) throws -> [Tensor] {
  guard !tensor.dataType.isPacked else {
    throw ArgumentError("values is \(tensor.dataType)\(tensor.shape); expected elements of whole bytes")
  }
  let shape = Shape(Array(tensor.shape.dims.dropFirst()))
  return (0..<tensor.shape[0]).map { row in
    let start = row * shape.elementCount
    if let strings = tensor.strings {
      return Tensor(strings: Array(strings[start..<start + shape.elementCount]), shape: shape)
    }
    return Tensor(
      dataType: tensor.dataType, shape: shape, storage: tensor.storage,
      byteOffset: tensor.byteOffset + start * tensor.dataType.byteWidth)
  }
}
