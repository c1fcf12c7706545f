// From TensorProto to Tensor, for every element type of ONNX and every field that may hold the elements.
//
//   float_data    float32, complex64 (real and imaginary parts in turn)      double_data  float64, complex128
//   int64_data    int64                                                       uint64_data  uint32, uint64
//   int32_data    every other number: one entry an element, or one entry a byte for elements of 4 and 2 bits
//   string_data   string
//   raw_data      every type but string: the elements as they lie in memory
//
// Elements that lie in the file as they would in memory are not copied: the tensor is a range of the mapped file.

import ApusTensor

/// Decodes the tensors of one file. Not for several threads at a time.
package final class TensorDecoder {
  private let file: FileBytes
  private let external: ExternalDataFolder
  let limits: LoadLimits
  /// Tensors that take memory beside the file are charged here.
  let account: MemoryAccount?
  private var decodedBytes = 0

  package init(file: FileBytes, external: ExternalDataFolder, limits: LoadLimits, account: MemoryAccount? = nil) {
    (self.file, self.external, self.limits, self.account) = (file, external, limits, account)
  }

  /// The tensor in `proto`. Its payloads must come from the scan of this decoder's file.
  package func tensor(_ proto: TensorProto) throws(LoadError) -> Tensor {
    do throws(LoadError) {
      return try decode(proto)
    } catch {
      throw proto.name.isEmpty ? error : error.under("tensor '\(proto.name)'")
    }
  }

  private func decode(_ proto: TensorProto) throws(LoadError) -> Tensor {
    guard let dataType = DataType(rawValue: proto.dataType) else {
      throw LoadError(
        .unsupported, "an element type from 1 to 28 was expected; this tensor has data_type \(proto.dataType)")
    }
    let (shape, byteCount) = try size(proto.dims, dataType)
    switch proto.content {
    case .tensor(let tensor): return tensor
    case .unsupported(let what): throw LoadError(.unsupported, "\(what) is not supported")
    case .external(let entries):
      if dataType == .string { throw LoadError(.malformed, "strings cannot lie in external data") }
      return try clean(try external.tensor(entries, dataType, shape, byteCount: byteCount))
    case .payloads(let payloads):
      let typed = payloads.filter { $0.field != .rawData }
      if let raw = payloads.last(where: { $0.field == .rawData }), !raw.range.isEmpty || typed.isEmpty {
        return try decodeRaw(raw, dataType, shape, byteCount: byteCount)
      }
      return try decodeTyped(typed, dataType, shape)
    }
  }

  /// The shape and size of a tensor with those extents, within the limits.
  func size(_ dims: [Int], _ dataType: DataType) throws(LoadError) -> (shape: Shape, byteCount: Int) {
    let shape = Shape(dims)
    guard let count = shape.checkedElementCount, let byteCount = dataType.byteCount(elements: count) else {
      throw LoadError(.malformed, "the extents \(shape) are no size of a tensor")
    }
    if count > limits.maximumTensorElements {
      throw .limit("maximumTensorElements", limits.maximumTensorElements, found: "a tensor of the shape \(shape)")
    }
    return (shape, byteCount)
  }

  /// Counts memory that a tensor takes beside the file.
  func charge(_ bytes: Int) throws(LoadError) {
    let (total, overflow) = decodedBytes.addingReportingOverflow(bytes)
    if overflow || total > limits.maximumDecodedBytes {
      throw .limit("maximumDecodedBytes", limits.maximumDecodedBytes, found: "the decoded tensors take more bytes")
    }
    decodedBytes = total
  }

  private func decodeRaw(
    _ raw: TensorPayload, _ dataType: DataType, _ shape: Shape, byteCount: Int
  ) throws(LoadError) -> Tensor {
    if dataType == .string {
      throw LoadError(
        .malformed, "strings belong in string_data; this tensor has raw_data", byteOffset: raw.range.lowerBound)
    }
    if raw.range.count != byteCount {
      throw LoadError(
        .malformed, "\(dataType)\(shape) takes \(byteCount) bytes, but raw_data has \(raw.range.count)",
        byteOffset: raw.range.lowerBound)
    }
    return try clean(file.tensor(dataType, shape, in: raw.range))
  }

  /// The same tensor; for bool with every byte 0 or 1, which kernels rely on.
  private func clean(_ tensor: Tensor) throws(LoadError) -> Tensor {
    guard tensor.dataType == .bool else { return tensor }
    do throws(TensorError) {
      try tensor.storage.load()
    } catch {
      throw LoadError(error)
    }
    return try tensor.withByteSpan { (bytes) throws(LoadError) in
      guard bytes.indices.contains(where: { bytes[$0] > 1 }) else { return tensor }
      try charge(tensor.byteCount)
      return try Tensor.building(.bool, tensor.shape, account: account) { (output) throws(LoadError) in
        for index in bytes.indices { output.append(bytes[index] == 0 ? 0 : 1) }
      }
    }
  }

  // MARK: Typed fields

  private func decodeTyped(_ payloads: [TensorPayload], _ dataType: DataType, _ shape: Shape) throws(LoadError)
    -> Tensor
  {
    let expected = dataType.payloadField
    if let other = payloads.first(where: { $0.field != expected }) {
      throw LoadError(
        .malformed, "\(dataType) elements belong in \(expected) or raw_data; this tensor has \(other.field)",
        byteOffset: other.range.lowerBound)
    }
    switch expected {
    case .stringData: return try decodeStrings(payloads, shape)
    case .floatData: return try decodeFixed(payloads, dataType, shape, width: 4)
    case .doubleData: return try decodeFixed(payloads, dataType, shape, width: 8)
    case .int32Data, .int64Data, .uint64Data, .rawData: return try decodeVarints(payloads, dataType, shape)
    }
  }

  private func mismatch(_ dataType: DataType, _ shape: Shape, expected: Int, found: Int) -> LoadError {
    LoadError(
      .malformed,
      "\(dataType)\(shape) takes \(expected) entries of \(dataType.payloadField), but there are \(found)")
  }

  private func decodeFixed(
    _ payloads: [TensorPayload], _ dataType: DataType, _ shape: Shape, width: Int
  ) throws(LoadError) -> Tensor {
    let byteCount = dataType.byteCount(elements: shape.elementCount) ?? 0
    // Scalars that are not packed have one byte of tag each.
    let found = payloads.reduce(0) { $0 + ($1.form == .packed ? $1.range.count : $1.range.count / (width + 1) * width) }
    if found != byteCount { throw mismatch(dataType, shape, expected: byteCount / width, found: found / width) }
    if payloads.count == 1, payloads[0].form == .packed {
      return try file.tensor(dataType, shape, in: payloads[0].range)
    }
    try charge(byteCount)
    return try file.withBytes { (bytes: Span<UInt8>) throws(LoadError) in
      try Tensor.building(dataType, shape, account: account) { (output: inout OutputSpan<UInt8>) throws(LoadError) in
        for payload in payloads {
          var reader = WireReader(payload.range)
          while !reader.isAtEnd {
            if payload.form == .tagged { _ = try reader.tag(bytes) }
            for index in try reader.take(UInt64(width)) { output.append(bytes[index]) }
          }
        }
      }
    }
  }

  /// Calls `body` with every varint of `payloads`.
  private func forEachVarint(
    _ payloads: [TensorPayload], _ bytes: Span<UInt8>, _ body: (UInt64) throws(LoadError) -> Void
  ) throws(LoadError) {
    for payload in payloads {
      var reader = WireReader(payload.range)
      while !reader.isAtEnd {
        if payload.form == .tagged { _ = try reader.tag(bytes) }
        try body(reader.varint(bytes))
      }
    }
  }

  private func decodeVarints(
    _ payloads: [TensorPayload], _ dataType: DataType, _ shape: Shape
  ) throws(LoadError) -> Tensor {
    let byteCount = dataType.byteCount(elements: shape.elementCount) ?? 0
    // float6 has an entry for each element; the other packed types have one for each byte.
    let isSixBit = dataType.bits == 6
    let expected = dataType.isPacked && !isSixBit ? byteCount : shape.elementCount
    let width = max(dataType.byteWidth, 1)
    return try file.withBytes { (bytes: Span<UInt8>) throws(LoadError) in
      var found = 0
      try forEachVarint(payloads, bytes) { _ in found += 1 }
      if found != expected { throw mismatch(dataType, shape, expected: expected, found: found) }
      try charge(byteCount)
      return try Tensor.building(dataType, shape, account: account) {
        (output: inout OutputSpan<UInt8>) throws(LoadError) in
        var pending: UInt64 = 0
        var pendingBits = 0
        try forEachVarint(payloads, bytes) { (entry) throws(LoadError) in
          var value = dataType == .bool ? (entry == 0 ? 0 : 1) : entry
          try checkRange(value, dataType)
          if isSixBit {
            pending |= value << UInt64(pendingBits)
            pendingBits += 6
            while pendingBits >= 8 {
              output.append(UInt8(truncatingIfNeeded: pending))
              pending >>= 8
              pendingBits -= 8
            }
          } else {
            for _ in 0..<width {
              output.append(UInt8(truncatingIfNeeded: value))
              value >>= 8
            }
          }
        }
        if pendingBits > 0 { output.append(UInt8(truncatingIfNeeded: pending)) }
      }
    }
  }

  /// Throws if `entry` has bits that the element, or the byte of elements, does not have.
  private func checkRange(_ entry: UInt64, _ dataType: DataType) throws(LoadError) {
    let bits = dataType.bits == 6 ? 6 : max(dataType.bits, 8)
    if bits >= 32 { return }  // int32 is cut to 32 bits, as protobuf does; the 64-bit types take everything
    let value = Int64(bitPattern: entry)
    if value >= (1 << Int64(bits)) || value < -(1 << Int64(bits - 1)) || (bits == 6 && value < 0) {
      throw LoadError(.malformed, "the entry \(value) of \(dataType.payloadField) is no \(dataType)")
    }
  }

  private func decodeStrings(_ payloads: [TensorPayload], _ shape: Shape) throws(LoadError) -> Tensor {
    let count = shape.elementCount
    return try file.withBytes { (bytes: Span<UInt8>) throws(LoadError) in
      var ranges: [Range<Int>] = []
      for payload in payloads {
        var reader = WireReader(payload.range)
        while !reader.isAtEnd {
          _ = try reader.tag(bytes)
          let range = try reader.lengthDelimited(bytes)
          try charge(range.count + 2 * MemoryLayout<String>.stride + MemoryLayout<Range<Int>>.stride)
          ranges.append(range)
        }
      }
      if ranges.count != count { throw mismatch(.string, shape, expected: count, found: ranges.count) }
      var strings: [String] = []
      strings.reserveCapacity(count)
      for range in ranges {
        do {
          strings.append(String(copying: try UTF8Span(validating: bytes.extracting(range))))
        } catch {
          throw LoadError(
            .malformed, "string \(strings.count) of the tensor is no valid UTF-8", byteOffset: range.lowerBound)
        }
      }
      let tensor = Tensor(strings: strings, shape: shape)
      do throws(TensorError) {
        if let account { try tensor.storage.charge(to: account) }
      } catch {
        throw LoadError(error)
      }
      return tensor
    }
  }
}

extension DataType {
  /// The field of TensorProto, beside raw_data, that holds elements of this type.
  var payloadField: TensorPayload.Field {
    switch self {
    case .float32, .complex64: .floatData
    case .float64, .complex128: .doubleData
    case .int64: .int64Data
    case .uint32, .uint64: .uint64Data
    case .string: .stringData
    default: .int32Data
    }
  }
}

extension TensorPayload.Field: CustomStringConvertible {
  package var description: String {
    switch self {
    case .floatData: "float_data"
    case .int32Data: "int32_data"
    case .stringData: "string_data"
    case .int64Data: "int64_data"
    case .rawData: "raw_data"
    case .doubleData: "double_data"
    case .uint64Data: "uint64_data"
    }
  }
}
