// Cutting tensors into pieces along an axis and putting pieces together, for kernels that work on whole values.

import ApusGraph
import ApusTensor

enum TensorPieces {
  /// The elements of `range` along `axis`. Shares the storage where the piece is contiguous and begins at a byte.
  static func slice(
    _ tensor: Tensor, axis: Int, range: Range<Int>, _ context: any EagerContext
  ) throws(OperatorError) -> Tensor {
    if range == 0..<tensor.shape[axis] { return tensor }
    var shape = tensor.shape
    shape[axis] = range.count
    let outer = shape.count(of: 0..<axis)
    let inner = shape.count(of: axis + 1..<shape.rank)
    let (start, count, stride) = (range.lowerBound * inner, range.count * inner, tensor.shape[axis] * inner)
    if let strings = tensor.strings {
      try context.check(allocating: outer &* count, of: MemoryLayout<String>.stride)
      let rows = (0..<outer).map { strings[$0 * stride + start..<$0 * stride + start + count] }
      return try context.tensor(strings: Array(rows.joined()), shape: shape)
    }
    if tensor.dataType.isPacked {
      return try packed(
        slice(codes(of: tensor, context), axis: axis, range: range, context), as: tensor.dataType, context)
    }
    let width = tensor.dataType.byteWidth
    if outer == 1 {
      return Tensor(
        dataType: tensor.dataType, shape: shape, storage: tensor.storage, byteOffset: tensor.byteOffset + start * width)
    }
    let result = try context.allocate(tensor.dataType, shape)
    for row in 0..<outer where count > 0 {
      (result.storage.base + row * count * width).copyMemory(
        from: tensor.base + (row * stride + start) * width, byteCount: count * width)
    }
    withExtendedLifetime(tensor) {}
    return result
  }

  /// The element at `index` along `axis`, without that axis.
  static func element(
    _ tensor: Tensor, axis: Int, index: Int, _ context: any EagerContext
  ) throws(OperatorError) -> Tensor {
    let piece = try slice(tensor, axis: axis, range: index..<index + 1, context)
    var dims = piece.shape.dims
    dims.remove(at: axis)
    return piece.reshaped(to: Shape(dims))
  }

  /// The tensors, which must agree in type and in all other extents, one after the other along `axis`.
  static func concatenate(
    _ tensors: [Tensor], axis: Int, _ context: any EagerContext
  ) throws(OperatorError) -> Tensor {
    guard let first = tensors.first else { throw .mismatch("there is nothing to concatenate") }
    var shape = first.shape
    for (index, tensor) in tensors.enumerated().dropFirst() {
      var expected = tensor.shape
      if expected.rank == shape.rank { expected[axis] = shape[axis] }
      guard expected == shape, tensor.dataType == first.dataType else {
        throw .mismatch(
          "element \(index) is \(tensor.dataType)\(tensor.shape), which does not fit \(first.dataType)\(first.shape) "
            + "along axis \(axis)")
      }
    }
    if tensors.count == 1 { return first }
    // Tensors without elements may have extents of any size.
    var extent = 0
    for tensor in tensors {
      let (sum, overflow) = extent.addingReportingOverflow(tensor.shape[axis])
      if overflow { throw .mismatch("the extents along axis \(axis) add up to more than 2^63") }
      extent = sum
    }
    shape[axis] = extent
    guard let count = shape.checkedElementCount else { throw .mismatch("the shape \(shape) is not possible") }
    if first.dataType.isPacked {
      var bytes: [Tensor] = []
      for tensor in tensors { bytes.append(try codes(of: tensor, context)) }
      return try packed(concatenate(bytes, axis: axis, context), as: first.dataType, context)
    }
    let outer = shape.count(of: 0..<axis)
    if first.dataType == .string {
      try context.check(allocating: count, of: MemoryLayout<String>.stride)
      var strings: [String] = []
      strings.reserveCapacity(count)
      for row in 0..<outer {
        for tensor in tensors {
          let count = tensor.count / outer
          strings += tensor.storage.strings[row * count..<(row + 1) * count]
        }
      }
      return try context.tensor(strings: strings, shape: shape)
    }
    let result = try context.allocate(first.dataType, shape)
    let rowBytes = outer == 0 ? 0 : result.byteCount / outer
    var offset = 0
    for tensor in tensors where tensor.count > 0 {
      let bytes = tensor.byteCount / outer
      for row in 0..<outer {
        (result.storage.base + row * rowBytes + offset).copyMemory(from: tensor.base + row * bytes, byteCount: bytes)
      }
      offset += bytes
    }
    withExtendedLifetime(tensors) {}
    return result
  }

  /// The tensors, which must agree in type and shape, along a new axis.
  static func stack(_ tensors: [Tensor], axis: Int, _ context: any EagerContext) throws(OperatorError) -> Tensor {
    var rows: [Tensor] = []
    for (index, tensor) in tensors.enumerated() {
      guard tensor.shape == tensors[0].shape else {
        throw .mismatch("element \(index) has the shape \(tensor.shape); expected \(tensors[0].shape), as element 0")
      }
      var dims = tensor.shape.dims
      dims.insert(1, at: axis)
      rows.append(tensor.reshaped(to: Shape(dims)))
    }
    return try concatenate(rows, axis: axis, context)
  }

  /// Packed elements, one a byte.
  private static func codes(of tensor: Tensor, _ context: any EagerContext) throws(OperatorError) -> Tensor {
    let codes = try context.allocate(.uint8, tensor.shape)
    PackedElements.unpack(
      tensor.base, bits: tensor.dataType.bits, from: 0, codes.storage.base.assumingMemoryBound(to: UInt8.self),
      codes.count)
    withExtendedLifetime(tensor) {}
    return codes
  }

  private static func packed(
    _ codes: Tensor, as type: DataType, _ context: any EagerContext
  ) throws(OperatorError) -> Tensor {
    let result = try context.allocate(type, codes.shape)
    PackedElements.pack(
      codes.base.assumingMemoryBound(to: UInt8.self), codes.count, bits: type.bits, result.storage.base, at: 0)
    withExtendedLifetime(codes) {}
    return result
  }
}
