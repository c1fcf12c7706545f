// A message in wire bytes, seen through its schema: its fields in the order of their numbers, as the printers of the
// textual forms take them.

/// One message. Fields that the schema does not have are left out and counted.
struct MessageView {
  let schema: MessageSchema
  private(set) var fields: [Field] = []

  /// One value, or a run of scalars of the same field.
  struct Field {
    /// The position in the schema.
    let index: Int
    /// True if each value has its tag before it; else the values, or the one, fill `range`.
    let isTagged: Bool
    var range: Range<Int>
  }

  /// Looks through the message in `range` of `bytes`. `unknown` gets the fields that are left out, as
  /// `NodeProto.17`.
  init(
    _ bytes: Span<UInt8>, _ range: Range<Int>, schema index: Int, unknown: inout Set<String>
  ) throws(LoadError) {
    schema = ProtoSchema.messages[index]
    var reader = WireReader(range)
    var isSorted = true
    while !reader.isAtEnd {
      let start = reader.position
      let (number, wire) = try reader.tag(bytes)
      let value = try reader.value(wire, bytes)
      guard let index = schema.index(of: number) else {
        unknown.insert("\(schema.name).\(number)")
        continue
      }
      let field = schema.fields[index]
      let isPacked = wire == .bytes && field.wireType != .bytes
      guard wire == field.wireType || isPacked && field.isRepeated else {
        throw LoadError(
          .malformed, "\(schema.name).\(field.name) should have the wire type \(field.wireType); it has \(wire)",
          remedy: "Is this an ONNX file?", byteOffset: start)
      }
      let isRun = field.isRepeated && field.wireType != .bytes && !isPacked
      if let last = fields.last {
        if isRun, last.index == index, last.isTagged, last.range.upperBound == start {
          fields[fields.count - 1].range = last.range.lowerBound..<value.upperBound
          continue
        }
        if last.index > index { isSorted = false }
      }
      fields.append(Field(index: index, isTagged: isRun, range: isRun ? start..<value.upperBound : value))
    }
    if !isSorted { sort() }
    try checkSingle(at: range.lowerBound)
    keepLast()
  }

  /// By number, and as they come.
  private mutating func sort() {
    fields = fields.enumerated().sorted { ($0.element.index, $0.offset) < ($1.element.index, $1.offset) }
      .map(\.element)
  }

  /// Throws where a message of which there can be one stands twice, or two that exclude each other: readers of protobuf
  /// merge the first and take the last of the second, which no text says.
  private func checkSingle(at offset: Int) throws(LoadError) {
    var alternative: Int?
    var last: Int?
    for field in fields {
      let kind = schema.fields[field.index]
      let isTwice = last == field.index && kind.isMessage && !kind.isRepeated
      if isTwice || kind.isAlternative && alternative != nil && alternative != field.index {
        throw LoadError(
          .unsupported, "\(schema.name).\(kind.name) stands beside another one where only one can be",
          byteOffset: offset)
      }
      if kind.isAlternative { alternative = field.index }
      last = field.index
    }
  }

  /// Of a scalar that is there several times the last counts.
  private mutating func keepLast() {
    func isRepeated(_ position: Int) -> Bool {
      position + 1 < fields.count && fields[position].index == fields[position + 1].index
        && !schema.fields[fields[position].index].isRepeated
    }
    guard fields.indices.contains(where: isRepeated) else { return }
    fields = fields.indices.filter { !isRepeated($0) }.map { fields[$0] }
  }

  // MARK: Values

  /// Calls `body` with a reader that stands before each value of `field`.
  func forEachScalar(
    of field: Field, _ bytes: Span<UInt8>, _ body: (inout WireReader) throws(LoadError) -> Void
  ) throws(LoadError) {
    var reader = WireReader(field.range)
    let kind = schema.fields[field.index]
    // Strings and messages have a field each, which may be empty.
    if kind.wireType == .bytes || !kind.isRepeated { return try body(&reader) }
    while !reader.isAtEnd {
      if field.isTagged { _ = try reader.tag(bytes) }
      try body(&reader)
    }
  }

  /// All fields of that name.
  func all(_ name: String) -> [Field] {
    guard let index = schema.index(of: name) else { preconditionFailure("\(schema.name) has no field \(name)") }
    return fields.filter { $0.index == index }
  }

  func has(_ name: String) -> Bool { !all(name).isEmpty }

  /// The integer of that name; 0 if it is not there.
  func integer(_ name: String, _ bytes: Span<UInt8>) throws(LoadError) -> Int64 {
    guard let field = all(name).last else { return 0 }
    var reader = WireReader(field.range)
    return Int64(bitPattern: try reader.varint(bytes))
  }

  func float(_ name: String, _ bytes: Span<UInt8>) throws(LoadError) -> Float {
    guard let field = all(name).last else { return 0 }
    var reader = WireReader(field.range)
    return try reader.float(bytes)
  }

  /// The string or bytes of that name; empty if they are not there.
  func range(_ name: String) -> Range<Int> { all(name).last?.range ?? 0..<0 }
}

extension WireReader {
  mutating func float(_ bytes: Span<UInt8>) throws(LoadError) -> Float {
    var pattern: UInt32 = 0
    for (shift, index) in try take(4).enumerated() { pattern |= UInt32(bytes[index]) << UInt32(8 * shift) }
    return Float(bitPattern: pattern)
  }

  mutating func double(_ bytes: Span<UInt8>) throws(LoadError) -> Double {
    var pattern: UInt64 = 0
    for (shift, index) in try take(8).enumerated() { pattern |= UInt64(bytes[index]) << UInt64(8 * shift) }
    return Double(bitPattern: pattern)
  }
}
