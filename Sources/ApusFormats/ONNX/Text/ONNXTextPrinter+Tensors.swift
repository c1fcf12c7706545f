// Types and tensors in ONNX's text syntax.

import ApusTensor

extension ONNXTextPrinter {
  // MARK: Types

  /// Writes a type. False, and nothing is written, if it says nothing.
  mutating func type(_ type: MessageView, _ bytes: Bytes, depth: Int) throws(LoadError) -> Bool {
    if depth > TextCursor.maximumDepth { throw MessageView.tooDeep(at: 0) }
    lose(type, ["denotation"])
    guard let field = type.fields.first(where: { type.schema.fields[$0.index].isAlternative }) else { return false }
    let value = try view(bytes, field.range, schema: schemaIndex(type, field))
    switch type.schema.fields[field.index].name {
    case "tensor_type": try tensorType(value, bytes)
    case "sparse_tensor_type":
      sink.append("sparse_tensor(")
      try tensorType(value, bytes)
      sink.append(byte: UInt8(ascii: ")"))
    case "sequence_type":
      sink.append("seq(")
      try inner(value, "elem_type", bytes, depth)
    case "optional_type":
      sink.append("optional(")
      try inner(value, "elem_type", bytes, depth)
    case "map_type":
      sink.append("map(")
      try elementType(value.integer("key_type", bytes))
      sink.append(", ")
      try inner(value, "value_type", bytes, depth)
    default:
      sink.append("opaque(")
      sink.append(bytes, value.range("domain"))
      if !value.range("domain").isEmpty { sink.append(byte: UInt8(ascii: ",")) }
      sink.append(bytes, value.range("name"))
      sink.append(byte: UInt8(ascii: ")"))
    }
    return true
  }

  private mutating func inner(_ view: MessageView, _ name: String, _ bytes: Bytes, _ depth: Int) throws(LoadError) {
    if let element = try views(view, name, bytes).first { _ = try type(element, bytes, depth: depth + 1) }
    sink.append(byte: UInt8(ascii: ")"))
  }

  private mutating func elementType(_ number: Int64) throws(LoadError) {
    if number == 0 { return sink.append("undefined") }
    guard let name = Int32(exactly: number).flatMap({ ONNXTextNames.name(ofElementType: $0) }) else {
      throw LoadError(.unsupported, "the element type \(number) has no name in the text syntax")
    }
    sink.append(name)
  }

  private mutating func tensorType(_ type: MessageView, _ bytes: Bytes) throws(LoadError) {
    try elementType(type.integer("elem_type", bytes))
    guard let shape = try views(type, "shape", bytes).first else { return sink.append("[]") }
    let dims = try views(shape, "dim", bytes)
    if dims.isEmpty { return }
    sink.append(byte: UInt8(ascii: "["))
    for (position, dim) in dims.enumerated() {
      if position > 0 { sink.append(byte: UInt8(ascii: ",")) }
      lose(dim, ["denotation"])
      if dim.has("dim_value") {
        sink.append(try dim.integer("dim_value", bytes))
      } else if dim.has("dim_param") {
        name(bytes, dim.range("dim_param"))
      } else {
        sink.append(byte: UInt8(ascii: "?"))
      }
    }
    sink.append(byte: UInt8(ascii: "]"))
  }

  // MARK: Tensors

  mutating func tensor(_ tensor: MessageView, _ bytes: Bytes, isInitializer: Bool) throws(LoadError) {
    do throws(LoadError) {
      try content(of: tensor, bytes, isInitializer: isInitializer)
    } catch {
      throw tensor.range("name").isEmpty ? error : error.under("the tensor '\(String(bytes, tensor.range("name")))'")
    }
  }

  private mutating func content(of tensor: MessageView, _ bytes: Bytes, isInitializer: Bool) throws(LoadError) {
    lose(tensor, ["doc_string", "metadata_props"])
    if tensor.has("segment") { throw LoadError(.unsupported, "a tensor in segments has no text") }
    let number = try tensor.integer("data_type", bytes)
    guard let type = Int32(exactly: number).flatMap({ DataType(rawValue: $0) }) else {
      throw LoadError(.unsupported, "a tensor of the element type \(number) has no text")
    }
    try elementType(number)
    var dims: [Int64] = []
    for field in tensor.all("dims") {
      try tensor.forEachScalar(of: field, bytes) { (reader) throws(LoadError) in
        dims.append(Int64(bitPattern: try reader.varint(bytes)))
      }
    }
    for (position, dim) in dims.enumerated() {
      sink.append(byte: UInt8(ascii: position == 0 ? "[" : ","))
      sink.append(dim)
    }
    if !dims.isEmpty { sink.append(byte: UInt8(ascii: "]")) }
    if isInitializer || !tensor.range("name").isEmpty {
      sink.append(byte: 0x20)
      name(bytes, tensor.range("name"))
    }
    if isInitializer { sink.append(" =") }
    sink.append(byte: 0x20)
    if try tensor.integer("data_location", bytes) == 1 { return try entries(tensor, "external_data", bytes) }
    let elements = TextElements(type)
    sink.append(byte: UInt8(ascii: "{"))
    if tensor.has("raw_data") {
      try raw(tensor.range("raw_data"), elements, Shape(dims.map { Int($0) }), bytes)
    } else {
      try typed(tensor, elements, bytes)
    }
    sink.append(byte: UInt8(ascii: "}"))
  }

  /// The numbers of a typed field.
  private mutating func typed(_ tensor: MessageView, _ elements: TextElements, _ bytes: Bytes) throws(LoadError) {
    for name in ["float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data"]
    where name != elements.field && tensor.has(name) {
      throw LoadError(.malformed, "the tensor has \(name); its type takes \(elements.field)")
    }
    var isFirst = true
    for field in tensor.all(elements.field) {
      try tensor.forEachScalar(of: field, bytes) { (reader) throws(LoadError) in
        if !isFirst { sink.append(byte: UInt8(ascii: ",")) }
        isFirst = false
        switch elements.form {
        case .int32: sink.append(Int64(Int32(truncatingIfNeeded: try reader.varint(bytes))))
        case .int64: sink.append(Int64(bitPattern: try reader.varint(bytes)))
        case .uint64: sink.append(try reader.varint(bytes))
        case .float: number(try reader.float(bytes))
        case .double: number(try reader.double(bytes))
        case .string:
          quote(bytes, field.range)
          reader.position = field.range.upperBound
        }
        try sink.settle()
      }
    }
  }

  private mutating func number(_ value: Float) {
    if value.isNaN, value.bitPattern & 0x7FFF_FFFF != Float.nan.bitPattern { lost["bits of a NaN", default: 0] += 1 }
    sink.append(value)
  }

  private mutating func number(_ value: Double) {
    if value.isNaN, value.bitPattern & ~(1 << 63) != Double.nan.bitPattern { lost["bits of a NaN", default: 0] += 1 }
    sink.append(value)
  }

  /// The numbers that raw bytes stand for, which are little-endian.
  private mutating func raw(
    _ range: Range<Int>, _ elements: TextElements, _ shape: Shape, _ bytes: Bytes
  ) throws(LoadError) {
    if elements.form == .string { throw LoadError(.malformed, "a tensor of strings has raw_data") }
    if elements.bits == 6 { return try sixBits(range, shape, bytes) }
    let width = elements.bits / 8
    if range.count % width != 0 {
      throw LoadError(
        .malformed, "raw_data has \(range.count) bytes, which is no multiple of \(width)",
        byteOffset: range.lowerBound)
    }
    for start in stride(from: range.lowerBound, to: range.upperBound, by: width) {
      if start > range.lowerBound { sink.append(byte: UInt8(ascii: ",")) }
      var pattern: UInt64 = 0
      for offset in 0..<width { pattern |= UInt64(bytes[start + offset]) << UInt64(8 * offset) }
      switch elements.form {
      case .float: number(Float(bitPattern: UInt32(truncatingIfNeeded: pattern)))
      case .double: number(Double(bitPattern: pattern))
      case .uint64: sink.append(pattern)
      default:
        let unused = Int64(64 - elements.bits)
        let signed = Int64(bitPattern: pattern << UInt64(unused)) >> unused
        if elements.isSigned { sink.append(signed) } else { sink.append(pattern) }
      }
      try sink.settle()
    }
  }

  /// Elements of six bits, the first in the lowest bits of the first byte.
  private mutating func sixBits(_ range: Range<Int>, _ shape: Shape, _ bytes: Bytes) throws(LoadError) {
    guard let count = shape.checkedElementCount, count <= range.count * 8 / 6 else {
      throw LoadError(.malformed, "raw_data has \(range.count) bytes, too few for \(shape) elements of 6 bits")
    }
    for element in 0..<count {
      if element > 0 { sink.append(byte: UInt8(ascii: ",")) }
      let bit = element * 6
      let first = range.lowerBound + bit / 8
      let pair = UInt16(bytes[first]) | (first + 1 < range.upperBound ? UInt16(bytes[first + 1]) << 8 : 0)
      sink.append(UInt64(pair >> UInt16(bit % 8) & 63))
      try sink.settle()
    }
  }

  /// `sparse_tensor [4,5] values, indices`, which is no part of the syntax but stands where it has nothing.
  mutating func sparseTensor(_ tensor: MessageView, _ bytes: Bytes) throws(LoadError) {
    sink.append("sparse_tensor [")
    var isFirst = true
    for field in tensor.all("dims") {
      try tensor.forEachScalar(of: field, bytes) { (reader) throws(LoadError) in
        if !isFirst { sink.append(byte: UInt8(ascii: ",")) }
        isFirst = false
        sink.append(Int64(bitPattern: try reader.varint(bytes)))
      }
    }
    sink.append("] (")
    for (position, name) in ["values", "indices"].enumerated() {
      if position > 0 { sink.append(", ") }
      for part in try views(tensor, name, bytes) { try self.tensor(part, bytes, isInitializer: false) }
    }
    sink.append(byte: UInt8(ascii: ")"))
  }
}
