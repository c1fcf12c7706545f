// Making and reading tensors.

import Apus
import CApus

// MARK: - Making

/// Ranks beyond this are a mistake of the caller; ONNX models stay below ten.
private let maximumRank = 64

/// A shape from C whose extents and number of elements are possible.
func checkedShape(_ dims: UnsafePointer<Int64>?, _ rank: Int) throws(ArgumentError) -> Shape {
  guard (0...maximumRank).contains(rank) else { throw ArgumentError("rank is \(rank); expected 0 to \(maximumRank)") }
  guard rank == 0 || dims != nil else { throw ArgumentError("shape is NULL") }
  let shape = Shape((0..<rank).map { axis in dims.map { Int($0[axis]) } ?? 0 })
  guard shape.checkedElementCount != nil else { throw ArgumentError("\(shape) is no shape") }
  return shape
}

/// The type, shape and bytes of a tensor from C, if `byteCount` holds them.
private func checkedElements(
  _ elementType: Int32, _ dims: UnsafePointer<Int64>?, _ rank: Int, _ data: UnsafeRawPointer?, _ byteCount: Int
) throws(ArgumentError) -> (type: DataType, shape: Shape, byteCount: Int) {
  guard let type = DataType(rawValue: elementType) else { throw ArgumentError("\(elementType) is no element type") }
  guard type != .string else { throw ArgumentError("strings have a function of their own: apus_tensor_create_strings") }
  let shape = try checkedShape(dims, rank)
  guard let needed = type.byteCount(elements: shape.elementCount) else {
    throw ArgumentError("\(type)\(shape) is too large")
  }
  guard byteCount >= needed else {
    throw ArgumentError("\(byteCount) bytes for \(type)\(shape), which takes \(needed)")
  }
  guard needed == 0 || data != nil else { throw ArgumentError("data is NULL") }
  return (type, shape, needed)
}

/// Who lent memory, and how to tell them that it is free again.
///
/// `@unchecked Sendable`: the interface says that any thread may call the function.
private struct Loan: @unchecked Sendable {
  let release: (@convention(c) (UnsafeMutableRawPointer?) -> Void)?
  let context: UnsafeMutableRawPointer?

  func end() { release?(context) }
}

@c @implementation
public func apus_tensor_create_borrowed(
  _ elementType: Int32, _ dims: UnsafePointer<Int64>?, _ rank: Int, _ data: UnsafeRawPointer?, _ byteCount: Int,
  _ release: (@convention(c) (UnsafeMutableRawPointer?) -> Void)?, _ context: UnsafeMutableRawPointer?,
  _ tensor: UnsafeMutablePointer<OpaquePointer?>?
) -> OpaquePointer? {
  attempt(tensor) {
    let (type, shape, needed) = try checkedElements(elementType, dims, rank, data, byteCount)
    let loan = Loan(release: release, context: context)
    guard let data else {
      // Nothing to borrow: the tensor has no elements.
      loan.end()
      return ValueHandle(.tensor(Tensor(zeros: type, shape: shape)))
    }
    // Tensors are never written through, so the missing `const` does no harm.
    let base = UnsafeMutableRawPointer(mutating: data)
    let storage = TensorStorage(base: base, byteCount: needed, release: { _, _ in loan.end() })
    return ValueHandle(.tensor(Tensor(dataType: type, shape: shape, storage: storage)))
  }
}

@c @implementation
public func apus_tensor_create(
  _ elementType: Int32, _ dims: UnsafePointer<Int64>?, _ rank: Int, _ data: UnsafeRawPointer?, _ byteCount: Int,
  _ tensor: UnsafeMutablePointer<OpaquePointer?>?
) -> OpaquePointer? {
  attempt(tensor) {
    let (type, shape, needed) = try checkedElements(elementType, dims, rank, data, byteCount)
    guard needed <= LoadLimits().maximumRunMemory else {
      throw ArgumentError("no memory for a copy of \(needed) bytes")
    }
    let storage = try TensorStorage(byteCount: needed)
    if let data { storage.base.copyMemory(from: data, byteCount: needed) }
    return ValueHandle(.tensor(Tensor(dataType: type, shape: shape, storage: storage)))
  }
}

@c @implementation
public func apus_tensor_create_strings(
  _ dims: UnsafePointer<Int64>?, _ rank: Int, _ strings: UnsafePointer<UnsafePointer<CChar>?>?,
  _ lengths: UnsafePointer<Int>?, _ tensor: UnsafeMutablePointer<OpaquePointer?>?
) -> OpaquePointer? {
  attempt(tensor) {
    let shape = try checkedShape(dims, rank)
    guard shape.elementCount == 0 || strings != nil else { throw ArgumentError("strings is NULL") }
    let elements = try (0..<shape.elementCount).map { index in
      guard let lengths else { return try text(strings?[index], "string \(index)") }
      guard lengths[index] >= 0, let start = strings?[index] else { throw ArgumentError("string \(index) is NULL") }
      let bytes = UnsafeBufferPointer(start: start, count: lengths[index])
      guard let string = String(validating: bytes.lazy.map { UInt8(bitPattern: $0) }, as: UTF8.self) else {
        throw ArgumentError("string \(index) is no valid UTF-8")
      }
      return string
    }
    return ValueHandle(.tensor(Tensor(strings: elements, shape: shape)))
  }
}

@c @implementation
public func apus_value_release(_ value: OpaquePointer?) { ValueHandle.release(value) }

// MARK: - Reading

@c @implementation
public func apus_value_kind(_ value: OpaquePointer?) -> Int32 { kind(of: ValueHandle.at(value)?.value.type) }

@c @implementation
public func apus_tensor_element_type(_ tensor: OpaquePointer?) -> Int32 {
  ValueHandle.at(tensor)?.tensor?.dataType.rawValue ?? 0
}

@c @implementation
public func apus_tensor_rank(_ tensor: OpaquePointer?) -> Int { ValueHandle.at(tensor)?.tensor?.rank ?? 0 }

@c @implementation
public func apus_tensor_shape(_ tensor: OpaquePointer?) -> UnsafePointer<Int64>? {
  guard let handle = ValueHandle.at(tensor), handle.tensor != nil else { return nil }
  return UnsafePointer(handle.shape.baseAddress)
}

@c @implementation
public func apus_tensor_element_count(_ tensor: OpaquePointer?) -> Int { ValueHandle.at(tensor)?.tensor?.count ?? 0 }

@c @implementation
public func apus_tensor_byte_count(_ tensor: OpaquePointer?) -> Int { ValueHandle.at(tensor)?.tensor?.byteCount ?? 0 }

@c @implementation
public func apus_tensor_data(_ tensor: OpaquePointer?) -> UnsafeRawPointer? {
  guard let tensor = ValueHandle.at(tensor)?.tensor, tensor.dataType != .string else { return nil }
  return tensor.base
}

@c @implementation
public func apus_tensor_data_mutable(
  _ tensor: OpaquePointer?, _ data: UnsafeMutablePointer<UnsafeMutableRawPointer?>?
) -> OpaquePointer? {
  attempt {
    guard let data else { throw ArgumentError("the place for the result is NULL") }
    data.pointee = nil
    data.pointee = try ValueHandle.at(tensor, "tensor").makeUnique()
  }
}

@c @implementation
public func apus_tensor_string(
  _ tensor: OpaquePointer?, _ index: Int, _ text: UnsafeMutablePointer<UnsafePointer<CChar>?>?,
  _ length: UnsafeMutablePointer<Int>?
) -> OpaquePointer? {
  attempt {
    guard let text else { throw ArgumentError("the place for the result is NULL") }
    text.pointee = nil
    length?.pointee = 0
    let block = try ValueHandle.at(tensor, "tensor").stringBlock()
    guard index >= 0, index < block.offsets.count - 1 else {
      throw ArgumentError("string \(index) was asked for; there are \(block.offsets.count - 1)")
    }
    text.pointee = UnsafePointer(block.bytes + block.offsets[index])
    length?.pointee = block.offsets[index + 1] - block.offsets[index] - 1
  }
}

@c @implementation
public func apus_tensor_strings(
  _ tensor: OpaquePointer?, _ bytes: UnsafeMutablePointer<UnsafePointer<CChar>?>?,
  _ offsets: UnsafeMutablePointer<UnsafePointer<Int>?>?
) -> OpaquePointer? {
  attempt {
    guard let bytes, let offsets else { throw ArgumentError("the place for the result is NULL") }
    (bytes.pointee, offsets.pointee) = (nil, nil)
    let block = try ValueHandle.at(tensor, "tensor").stringBlock()
    bytes.pointee = UnsafePointer(block.bytes)
    offsets.pointee = UnsafePointer(block.offsets.baseAddress)
  }
}
