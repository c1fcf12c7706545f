// Models as protobuf JSON, as google.protobuf.json_format prints them: names in lowerCamelCase, integers of 64 bits as
// strings, bytes in base64; see https://protobuf.dev/programming-guides/json.

/// Prints messages in wire bytes.
struct ProtobufJSONPrinter: ~Copyable {
  private var sink: TextSink
  private var unknown: Set<String> = []

  private init(_ sink: consuming TextSink) { self.sink = sink }

  /// Prints the model in `bytes`. Returns the fields that are none of ONNX and were left out.
  static func print(
    _ bytes: Span<UInt8>, to flush: @escaping (borrowing Span<UInt8>) throws(LoadError) -> Void
  ) throws(LoadError) -> Set<String> {
    var printer = ProtobufJSONPrinter(TextSink(flush))
    try printer.message(bytes, 0..<bytes.count, schema: ProtoSchema.model, depth: 0)
    printer.sink.append(byte: 0x0A)
    try printer.sink.end()
    return printer.unknown
  }

  private mutating func message(
    _ bytes: Span<UInt8>, _ range: Range<Int>, schema: Int, depth: Int
  ) throws(LoadError) {
    if depth > TextCursor.maximumDepth { throw MessageView.tooDeep(at: range.lowerBound) }
    let view = try MessageView(bytes, range, schema: schema, unknown: &unknown)
    let present = view.fields.filter { !$0.range.isEmpty || view.schema.fields[$0.index].wireType == .bytes }
    if present.isEmpty { return sink.append("{}") }
    sink.append(byte: UInt8(ascii: "{"))
    for (position, field) in present.enumerated() {
      let kind = view.schema.fields[field.index]
      let isFirst = position == 0 || present[position - 1].index != field.index
      let isLast = position == present.count - 1 || present[position + 1].index != field.index
      if isFirst {
        if position > 0 { sink.append(byte: UInt8(ascii: ",")) }
        sink.newLine(2 * depth + 2)
        sink.append(byte: 0x22)
        sink.append(kind.jsonName)
        sink.append(kind.isRepeated ? "\": [" as StaticString : "\": ")
      }
      var isNext = !isFirst
      try view.forEachScalar(of: field, bytes) { (reader) throws(LoadError) in
        if isNext { sink.append(byte: UInt8(ascii: ",")) }
        isNext = true
        if kind.isRepeated { sink.newLine(2 * depth + 4) }
        try value(kind, &reader, bytes, field.range, depth: depth + (kind.isRepeated ? 2 : 1))
        try sink.settle()
      }
      if isLast, kind.isRepeated {
        sink.newLine(2 * depth + 2)
        sink.append(byte: UInt8(ascii: "]"))
      }
    }
    sink.newLine(2 * depth)
    sink.append(byte: UInt8(ascii: "}"))
  }

  private mutating func value(
    _ field: FieldSchema, _ reader: inout WireReader, _ bytes: Span<UInt8>, _ range: Range<Int>, depth: Int
  ) throws(LoadError) {
    switch field.kind {
    case .int32: sink.append(Int64(Int32(truncatingIfNeeded: try reader.varint(bytes))))
    case .int64:
      sink.append(byte: 0x22)
      sink.append(Int64(bitPattern: try reader.varint(bytes)))
      sink.append(byte: 0x22)
    case .uint64:
      sink.append(byte: 0x22)
      sink.append(try reader.varint(bytes))
      sink.append(byte: 0x22)
    case .float:
      let number = try reader.float(bytes)
      if !special(Double(number)) { sink.append(number) }
    case .double:
      let number = try reader.double(bytes)
      if !special(number) { sink.append(number) }
    case .enumeration(let names):
      let number = Int32(truncatingIfNeeded: try reader.varint(bytes))
      guard let name = names.name(of: number) else { return sink.append(Int64(number)) }
      sink.append(byte: 0x22)
      sink.append(name)
      sink.append(byte: 0x22)
    case .string:
      guard bytes.isUTF8(range) else {
        throw LoadError(
          .unsupported, "'\(field.name)' is no valid UTF-8, which JSON cannot hold",
          remedy: "Write protobuf text (.textproto) instead", byteOffset: range.lowerBound)
      }
      quote(bytes, range)
      reader.position = range.upperBound
    case .bytes:
      base64(bytes, range)
      reader.position = range.upperBound
    case .message(let schema):
      try message(bytes, range, schema: schema, depth: depth)
      reader.position = range.upperBound
    }
  }

  /// Writes what JSON has no number for.
  private mutating func special(_ value: Double) -> Bool {
    if value.isFinite { return false }
    sink.append(value.isNaN ? "\"NaN\"" as StaticString : value < 0 ? "\"-Infinity\"" : "\"Infinity\"")
    return true
  }

  private static let hexDigits = Array("0123456789abcdef".utf8)

  private mutating func quote(_ bytes: Span<UInt8>, _ range: Range<Int>) {
    sink.append(byte: 0x22)
    for index in range {
      let byte = bytes[index]
      switch byte {
      case 0x22, 0x5C:
        sink.append(byte: 0x5C)
        sink.append(byte: byte)
      case 0x0A: sink.append("\\n")
      case 0x0D: sink.append("\\r")
      case 0x09: sink.append("\\t")
      case 0..<0x20, 0x7F:
        sink.append("\\u00")
        sink.append(byte: Self.hexDigits[Int(byte >> 4)])
        sink.append(byte: Self.hexDigits[Int(byte & 15)])
      default: sink.append(byte: byte)
      }
    }
    sink.append(byte: 0x22)
  }

  private static let base64Digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

  /// RFC 4648, with padding.
  private mutating func base64(_ bytes: Span<UInt8>, _ range: Range<Int>) {
    let digits = Self.base64Digits
    sink.append(byte: 0x22)
    var position = range.lowerBound
    while position < range.upperBound {
      let count = min(3, range.upperBound - position)
      var group: UInt32 = 0
      for offset in 0..<3 { group = group << 8 | (offset < count ? UInt32(bytes[position + offset]) : 0) }
      for digit in 0..<4 {
        sink.append(byte: digit <= count ? digits[Int(group >> UInt32(18 - 6 * digit) & 63)] : UInt8(ascii: "="))
      }
      position += count
    }
    sink.append(byte: 0x22)
  }
}
