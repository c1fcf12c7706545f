// Models as protobuf text (textproto), as google.protobuf.text_format prints them; see
// https://protobuf.dev/reference/protobuf/textformat-spec.

/// Prints messages in wire bytes.
struct ProtobufTextPrinter: ~Copyable {
  private var sink: TextSink
  private var unknown: Set<String> = []

  private init(_ sink: consuming TextSink) { self.sink = sink }

  /// Prints the model in `bytes`. Returns the fields that are none of ONNX and were left out.
  static func print(
    _ bytes: Span<UInt8>, to flush: @escaping (borrowing Span<UInt8>) throws(LoadError) -> Void
  ) throws(LoadError) -> Set<String> {
    var printer = ProtobufTextPrinter(TextSink(flush))
    try printer.message(bytes, 0..<bytes.count, schema: ProtoSchema.model, depth: 0)
    try printer.sink.end()
    return printer.unknown
  }

  private mutating func message(
    _ bytes: Span<UInt8>, _ range: Range<Int>, schema: Int, depth: Int
  ) throws(LoadError) {
    if depth > TextCursor.maximumDepth { throw MessageView.tooDeep(at: range.lowerBound) }
    let view = try MessageView(bytes, range, schema: schema, unknown: &unknown)
    for field in view.fields {
      let kind = view.schema.fields[field.index]
      if case .message(let inner) = kind.kind {
        indent(depth)
        sink.append(kind.name)
        sink.append(" {\n")
        try message(bytes, field.range, schema: inner, depth: depth + 1)
        indent(depth)
        sink.append("}\n")
        try sink.settle()
      } else {
        try view.forEachScalar(of: field, bytes) { (reader) throws(LoadError) in
          indent(depth)
          sink.append(kind.name)
          sink.append(": ")
          try scalar(kind.kind, &reader, bytes, field.range)
          sink.append(byte: 0x0A)
          try sink.settle()
        }
      }
    }
  }

  private mutating func indent(_ depth: Int) {
    for _ in 0..<2 * depth { sink.append(byte: 0x20) }
  }

  private mutating func scalar(
    _ kind: FieldSchema.Kind, _ reader: inout WireReader, _ bytes: Span<UInt8>, _ range: Range<Int>
  ) throws(LoadError) {
    switch kind {
    case .int32: sink.append(Int64(Int32(truncatingIfNeeded: try reader.varint(bytes))))
    case .int64: sink.append(Int64(bitPattern: try reader.varint(bytes)))
    case .uint64: sink.append(try reader.varint(bytes))
    case .float: sink.append(try reader.float(bytes))
    case .double: sink.append(try reader.double(bytes))
    case .enumeration(let names):
      let number = Int32(truncatingIfNeeded: try reader.varint(bytes))
      if let name = names.name(of: number) { sink.append(name) } else { sink.append(Int64(number)) }
    case .string, .bytes:
      // A run of strings has one field each, so `range` is the value.
      quote(bytes, range, keepsUTF8: isText(kind, bytes, range))
      reader.position = range.upperBound
    case .message: break
    }
  }

  private func isText(_ kind: FieldSchema.Kind, _ bytes: Span<UInt8>, _ range: Range<Int>) -> Bool {
    guard case .string = kind else { return false }
    return bytes.isUTF8(range)
  }

  /// The bytes between quotes: printable ASCII as it is, all others escaped but for letters of UTF-8.
  private mutating func quote(_ bytes: Span<UInt8>, _ range: Range<Int>, keepsUTF8: Bool) {
    sink.append(byte: 0x22)
    for index in range {
      let byte = bytes[index]
      switch byte {
      case 0x0A: sink.append("\\n")
      case 0x0D: sink.append("\\r")
      case 0x09: sink.append("\\t")
      case 0x22, 0x27, 0x5C:
        sink.append(byte: 0x5C)
        sink.append(byte: byte)
      case 0x20..<0x7F: sink.append(byte: byte)
      case 0x80... where keepsUTF8: sink.append(byte: byte)
      default:
        sink.append(byte: 0x5C)
        sink.append(byte: 0x30 + byte >> 6)
        sink.append(byte: 0x30 + byte >> 3 & 7)
        sink.append(byte: 0x30 + byte & 7)
      }
    }
    sink.append(byte: 0x22)
  }
}

extension MessageView {
  static func tooDeep(at offset: Int) -> LoadError {
    LoadError(
      .limitExceeded, "messages lie more than \(TextCursor.maximumDepth) deep in each other", byteOffset: offset)
  }
}

extension Span<UInt8> {
  func isUTF8(_ range: Range<Int>) -> Bool {
    do {
      _ = try UTF8Span(validating: extracting(range))
      return true
    } catch {
      return false
    }
  }
}
