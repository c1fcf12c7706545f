// From SparseTensorProto to a dense tensor. The elements that the file does not name are zero, or empty strings.

import ApusTensor

extension TensorDecoder {
  /// The dense form of `proto`, bounded by `maximumTensorElements` and an eighth of `maximumDecodedBytes`. The indices
  /// are int64, or narrower as ONNX Runtime packs them; either linear, of the shape [count], or by axis, of the shape
  /// [count, rank], in strictly ascending order.
  package func tensor(_ proto: SparseTensorProto) throws(LoadError) -> Tensor {
    let name = proto.values?.name ?? ""
    do throws(LoadError) {
      return try densify(proto)
    } catch {
      throw name.isEmpty ? error.under("sparse tensor") : error.under("sparse tensor '\(name)'")
    }
  }

  private func densify(_ proto: SparseTensorProto) throws(LoadError) -> Tensor {
    guard let valuesProto = proto.values else { throw LoadError(.malformed, "a sparse tensor without values") }
    let values = try tensor(valuesProto)
    guard values.rank == 1 else {
      throw LoadError(.malformed, "the values of a sparse tensor have one axis; these have the shape \(values.shape)")
    }
    let (shape, byteCount) = try size(proto.dims, values.dataType)
    if shape.rank == 0 { throw LoadError(.malformed, "a sparse tensor needs extents") }
    var positions: [Int] = []
    if values.count > 0 || proto.indices != nil {
      guard let indicesProto = proto.indices else { throw LoadError(.malformed, "a sparse tensor without indices") }
      positions = try linearPositions(try tensor(indicesProto), count: values.count, in: shape)
    }
    if values.dataType == .string {
      let elementCount = shape.elementCount
      let (product, overflow) = elementCount.multipliedReportingOverflow(by: MemoryLayout<String>.stride)
      let bytes = overflow ? Int.max : product
      try checkDenseForm(bytes)
      try charge(bytes)
      do throws(TensorError) {
        try account?.check(bytes)
      } catch {
        throw LoadError(error)
      }
      var strings = [String](repeating: "", count: elementCount)
      for (position, string) in zip(positions, values.strings ?? []) { strings[position] = string }
      let tensor = Tensor(strings: strings, shape: shape)
      do throws(TensorError) {
        if let account { try tensor.storage.charge(to: account) }
      } catch {
        throw LoadError(error)
      }
      return tensor
    }
    try checkDenseForm(byteCount)
    try charge(byteCount)
    return try values.withByteSpan { (bytes) throws(LoadError) in
      try Tensor.building(values.dataType, shape, account: account) { (output) throws(LoadError) in
        output.append(repeating: 0, count: byteCount)
        var dense = output.mutableSpan
        for (index, position) in positions.enumerated() {
          copyElement(bytes, index, to: &dense, position, bits: values.dataType.bits)
        }
      }
    }
  }

  /// Few bytes of a file can stand for any number of zeros, so one dense form may take a share of the limit only.
  private func checkDenseForm(_ bytes: Int) throws(LoadError) {
    if bytes > limits.maximumDecodedBytes / 8 {
      throw .limit(
        "maximumDecodedBytes", limits.maximumDecodedBytes,
        found: "the dense form would take \(bytes) bytes, more than an eighth of it")
    }
  }

  /// The positions in row-major order that `indices` names.
  private func linearPositions(_ indices: Tensor, count: Int, in shape: Shape) throws(LoadError) -> [Int] {
    guard [.int8, .int16, .int32, .int64].contains(indices.dataType), let numbers = indices.integers else {
      throw LoadError(
        .malformed, "the indices of a sparse tensor are int64 or narrower; these are \(indices.dataType)")
    }
    let byAxis = indices.shape == [count, shape.rank]
    guard byAxis || indices.shape == [count] else {
      throw LoadError(
        .malformed,
        "indices of the shape [\(count)] or [\(count), \(shape.rank)] were expected; these have \(indices.shape)")
    }
    let elementCount = shape.elementCount
    let strides = shape.strides
    var positions: [Int] = []
    positions.reserveCapacity(count)
    for index in 0..<count {
      var position = 0
      if byAxis {
        for axis in 0..<shape.rank {
          let coordinate = numbers[index * shape.rank + axis]
          guard coordinate >= 0, coordinate < shape[axis] else {
            throw LoadError(.malformed, "the index \(coordinate) on axis \(axis) lies outside of \(shape)")
          }
          position += coordinate * strides[axis]
        }
      } else {
        position = numbers[index]
        guard position >= 0, position < elementCount else {
          throw LoadError(.malformed, "the index \(position) lies outside of \(elementCount) elements")
        }
      }
      if let last = positions.last, position <= last {
        throw LoadError(.malformed, "the indices of a sparse tensor should ascend; index \(index) does not")
      }
      positions.append(position)
    }
    return positions
  }

  /// Copies one element; elements of less than a byte bit by bit.
  private func copyElement(
    _ source: Span<UInt8>, _ from: Int, to target: inout MutableSpan<UInt8>, _ position: Int, bits: Int
  ) {
    if bits >= 8 {
      let width = bits / 8
      for byte in 0..<width { target[position * width + byte] = source[from * width + byte] }
      return
    }
    for bit in 0..<bits {
      let (sourceBit, targetBit) = (from * bits + bit, position * bits + bit)
      let value = source[sourceBit / 8] >> UInt8(sourceBit % 8) & 1
      target[targetBit / 8] |= value << UInt8(targetBit % 8)
    }
  }
}
