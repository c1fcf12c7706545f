// Files of named tensors: https://huggingface.co/docs/safetensors (a length, a JSON text, the elements).

import ApusTensor

/// A safetensors file whose header was read and checked.
package struct SafeTensors: Sendable {
  /// One tensor of the file.
  package struct Entry: Sendable {
    package let name: String
    package let dataType: DataType
    package let shape: Shape
    /// The bytes of its elements in the file.
    package let range: Range<Int>
  }

  package let file: FileBytes
  /// In the order of the header.
  package let entries: [Entry]
  /// What the file says of itself, in the order of the header.
  package let metadata: [(key: String, value: String)]
  private let indexes: [String: Int]

  /// The longest header that the format allows.
  static let maximumHeaderBytes = 100_000_000
  /// Bytes of the length before the header.
  static let lengthBytes = 8
  static let metadataKey = "__metadata__"

  /// Reads the header of `file`. The elements must take all bytes behind it, each byte once.
  ///
  /// Throws `wrongFormat` for what does not begin as such a file, `malformed`, `unsupported` for element types that
  /// ONNX does not have, `limitExceeded`.
  package init(_ file: FileBytes, limits: LoadLimits = LoadLimits()) throws(LoadError) {
    do throws(LoadError) {
      let headerEnd = try Self.headerEnd(file)
      let header = try file.withBytes(in: Self.lengthBytes..<headerEnd) { (bytes) throws(LoadError) in
        guard bytes.count > 0, bytes[0] == UInt8(ascii: "{") else {
          throw LoadError(.wrongFormat, "a safetensors file was expected; its header does not begin with '{'")
        }
        return try JSONReader.parse(bytes, limits: limits, keysAreUnique: true)
      }
      var reader = SafeTensorsHeader(dataStart: headerEnd, dataBytes: file.count - headerEnd, limits: limits)
      try reader.read(header)
      try reader.checkRanges()
      (self.file, entries, metadata) = (file, reader.entries, reader.metadata)
    } catch {
      throw error.inFile(file.name)
    }
    indexes = Dictionary(entries.enumerated().map { ($1.name, $0) }) { first, _ in first }
  }

  /// True if a file of `count` bytes that begins with `bytes` can be of this format.
  package static func isSafeTensors(_ bytes: Span<UInt8>, count: Int) -> Bool {
    guard bytes.count > lengthBytes, bytes[lengthBytes] == UInt8(ascii: "{") else { return false }
    let length = (0..<lengthBytes).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64(bytes[$1]) }
    return length > 1 && length <= UInt64(min(maximumHeaderBytes, count - lengthBytes))
  }

  private static func headerEnd(_ file: FileBytes) throws(LoadError) -> Int {
    guard file.count >= lengthBytes else {
      throw LoadError(.wrongFormat, "a safetensors file was expected; there are \(file.count) bytes")
    }
    let record = try file.withBytes(in: 0..<lengthBytes) { bytes in
      bytes.indices.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64(bytes[$1]) }
    }
    guard record <= UInt64(maximumHeaderBytes) else {
      throw LoadError(
        .wrongFormat,
        "a safetensors file was expected; its header would have \(record) bytes, and at most \(maximumHeaderBytes) "
          + "are allowed")
    }
    guard Int(record) <= file.count - lengthBytes else {
      throw LoadError(
        .malformed, "a header of \(record) bytes was expected; \(file.count - lengthBytes) bytes are there",
        remedy: "The file may be cut off; fetch it again", byteOffset: 0)
    }
    return lengthBytes + Int(record)
  }

  // MARK: - Tensors

  /// The entry of that name.
  package subscript(name: String) -> Entry? { indexes[name].map { entries[$0] } }

  /// The tensor of an entry. Its elements stay where they are in memory, or are read when they are needed.
  package func tensor(_ entry: Entry) throws(LoadError) -> Tensor {
    do throws(LoadError) {
      let tensor = try file.tensor(entry.dataType, entry.shape, in: entry.range)
      guard entry.dataType == .bool else { return tensor }
      let isSound = tensor.withByteSpan { bytes in bytes.indices.allSatisfy { bytes[$0] <= 1 } }
      if isSound { return tensor }
      throw LoadError(
        .malformed, "a BOOL was expected, 0 or 1; found a greater byte", byteOffset: entry.range.lowerBound)
    } catch {
      throw error.under("tensor '\(entry.name)'").inFile(file.name)
    }
  }

  /// All tensors, in the order of the header.
  package func tensors() throws(LoadError) -> [(name: String, tensor: Tensor)] {
    var tensors: [(name: String, tensor: Tensor)] = []
    for entry in entries { tensors.append((entry.name, try tensor(entry))) }
    return tensors
  }
}

/// The element types by their names in the format, those of ONNX that it has no name for left out.
enum SafeTensorsType {
  static let table: [(name: String, type: DataType)] = [
    ("BOOL", .bool), ("U8", .uint8), ("I8", .int8), ("U16", .uint16), ("I16", .int16), ("U32", .uint32),
    ("I32", .int32), ("U64", .uint64), ("I64", .int64), ("F16", .float16), ("BF16", .bfloat16), ("F32", .float32),
    ("F64", .float64), ("C64", .complex64), ("F8_E4M3", .float8e4m3fn), ("F8_E5M2", .float8e5m2),
    ("F8_E4M3FNUZ", .float8e4m3fnuz), ("F8_E5M2FNUZ", .float8e5m2fnuz), ("F8_E8M0", .float8e8m0),
    ("F6_E2M3", .float6e2m3), ("F6_E3M2", .float6e3m2), ("F4", .float4e2m1),
  ]

  static func type(_ name: String) -> DataType? { table.first { $0.name == name }?.type }

  static func name(_ type: DataType) -> String? { table.first { $0.type == type }?.name }
}

/// What the header says, member by member.
private struct SafeTensorsHeader {
  private let dataStart: Int
  private let dataBytes: Int
  private let limits: LoadLimits
  private(set) var entries: [SafeTensors.Entry] = []
  private(set) var metadata: [(key: String, value: String)] = []

  init(dataStart: Int, dataBytes: Int, limits: LoadLimits) {
    (self.dataStart, self.dataBytes, self.limits) = (dataStart, dataBytes, limits)
  }

  mutating func read(_ header: JSONValue) throws(LoadError) {
    guard case .object(let members) = header else {
      throw LoadError(.malformed, "the header must be an object; it is \(header.kind)")
    }
    for (name, value) in members {
      if name == SafeTensors.metadataKey {
        try readMetadata(value)
        continue
      }
      do throws(LoadError) {
        entries.append(try entry(name, value))
      } catch {
        throw error.under("tensor '\(name)'")
      }
    }
  }

  private mutating func readMetadata(_ value: JSONValue) throws(LoadError) {
    guard case .object(let members) = value else {
      throw LoadError(.malformed, "\(SafeTensors.metadataKey) must be an object; it is \(value.kind)")
    }
    for (key, value) in members {
      guard case .string(let text) = value else {
        throw LoadError(.malformed, "\(SafeTensors.metadataKey).\(key) must be a string; it is \(value.kind)")
      }
      metadata.append((key, text))
    }
  }

  private func entry(_ name: String, _ value: JSONValue) throws(LoadError) -> SafeTensors.Entry {
    guard case .object(let members) = value else {
      throw LoadError(.malformed, "an object was expected; it is \(value.kind)")
    }
    var typeName: String?
    var extents: [Int]?
    var offsets: [Int]?
    for (key, value) in members {
      switch (key, value) {
      case ("dtype", .string(let text)): typeName = text
      case ("shape", _): extents = try numbers(value, key)
      case ("data_offsets", _): offsets = try numbers(value, key)
      default:
        throw LoadError(
          .malformed, "\(key) with \(value.kind) was found; dtype, shape, data_offsets were expected")
      }
    }
    guard let typeName, let extents, let offsets, offsets.count == 2 else {
      throw LoadError(.malformed, "dtype, shape and two data_offsets were expected; not all are there")
    }
    guard let type = SafeTensorsType.type(typeName) else {
      let known = SafeTensorsType.table.map(\.name).joined(separator: ", ")
      throw LoadError(.unsupported, "elements of type '\(typeName)' are not read; those of \(known) are")
    }
    let shape = Shape(extents)
    guard let count = shape.checkedElementCount, let byteCount = type.byteCount(elements: count),
      count * type.bits % 8 == 0
    else {
      throw LoadError(.malformed, "the extents \(shape) are no size of a tensor of \(typeName)")
    }
    if count > limits.maximumTensorElements {
      throw .limit("maximumTensorElements", limits.maximumTensorElements, found: "a tensor of the shape \(shape)")
    }
    guard offsets[0] <= offsets[1], offsets[1] <= dataBytes, offsets[1] - offsets[0] == byteCount else {
      throw LoadError(
        .malformed,
        "\(byteCount) bytes for \(typeName) of the shape \(shape) were expected among \(dataBytes); the offsets are "
          + "\(offsets[0]) and \(offsets[1])")
    }
    let range = dataStart + offsets[0]..<dataStart + offsets[1]
    return SafeTensors.Entry(name: name, dataType: type, shape: shape, range: range)
  }

  private func numbers(_ value: JSONValue, _ key: String) throws(LoadError) -> [Int] {
    guard case .array(let elements) = value else {
      throw LoadError(.malformed, "\(key) must be an array; it is \(value.kind)")
    }
    var numbers: [Int] = []
    for element in elements {
      guard case .number(let text) = element, let number = Int(text), number >= 0 else {
        throw LoadError(.malformed, "\(key) must hold whole numbers from 0 to \(Int.max)")
      }
      numbers.append(number)
    }
    return numbers
  }

  /// Throws if two tensors share bytes, or if bytes belong to none.
  func checkRanges() throws(LoadError) {
    var end = dataStart
    let ordered = entries.sorted {
      ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound)
    }
    for entry in ordered {
      guard entry.range.lowerBound == end else {
        let what = entry.range.lowerBound < end ? "shares bytes with another" : "follows bytes that belong to none"
        throw LoadError(
          .malformed, "the tensor \(what)", byteOffset: entry.range.lowerBound, path: "tensor '\(entry.name)'")
      }
      end = entry.range.upperBound
    }
    guard end == dataStart + dataBytes else {
      throw LoadError(
        .malformed, "\(dataStart + dataBytes - end) bytes follow the last tensor", byteOffset: end)
    }
  }
}
