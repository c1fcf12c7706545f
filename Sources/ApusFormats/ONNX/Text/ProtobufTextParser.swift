// Models in protobuf text (textproto) as wire bytes; the grammar is that of
// https://protobuf.dev/reference/protobuf/textformat-spec. ONNX has neither extensions nor Any nor bools.

/// Parses one text.
struct ProtobufTextParser {
  private var cursor: TextCursor
  private var builder: MessageBuilder
  private let limits: LoadLimits

  /// The bytes of the model that `text` describes.
  static func parse(_ text: Span<UInt8>, limits: LoadLimits) throws(LoadError) -> [UInt8] {
    var parser = ProtobufTextParser(
      cursor: TextCursor(text, hasComments: true), builder: MessageBuilder(limits: limits), limits: limits)
    try parser.fields(text, until: nil)
    return parser.builder.finish()
  }

  private typealias Text = Span<UInt8>

  /// The fields of the innermost message up to `end`, or to the end of the text.
  private mutating func fields(_ text: Text, until end: UInt8?) throws(LoadError) {
    let schema = builder.schema
    while true {
      guard let byte = cursor.next(text) else {
        if end == nil { return }
        throw cursor.error(text, expected: "a field of \(schema.name), or the end of the message,")
      }
      if let end, byte == end {
        cursor.position += 1
        return
      }
      try field(text, schema)
      if !cursor.take(UInt8(ascii: ","), text) { _ = cursor.take(UInt8(ascii: ";"), text) }
    }
  }

  private mutating func field(_ text: Text, _ schema: MessageSchema) throws(LoadError) {
    let start = cursor.position
    let name = cursor.identifier(text)
    guard !name.isEmpty else { throw cursor.error(text, expected: "a field of \(schema.name)") }
    guard let index = schema.index(named: name, in: text) else {
      throw cursor.error(
        text, "a field of \(schema.name) was expected; found '\(cursor.quoted(text, name))'", at: start,
        remedy: "Fields are " + schema.fields.map(\.name).joined(separator: ", "))
    }
    let field = schema.fields[index]
    if let other = builder.conflict(index) {
      let reason = other.number == field.number ? "stands twice" : "excludes '\(other.name)', which is there"
      throw cursor.error(text, "the field '\(field.name)' of \(schema.name) \(reason)", at: start)
    }
    let hasColon = cursor.take(UInt8(ascii: ":"), text)
    if !hasColon, !field.isMessage { throw cursor.error(text, expected: "':' after '\(field.name)'") }
    guard field.isRepeated, cursor.take(UInt8(ascii: "["), text) else { return try value(text, index, field) }
    if cursor.take(UInt8(ascii: "]"), text) { return }
    repeat { try value(text, index, field) } while cursor.take(UInt8(ascii: ","), text)
    if !cursor.take(UInt8(ascii: "]"), text) { throw cursor.error(text, expected: "',' or ']' in '\(field.name)'") }
  }

  private mutating func value(_ text: Text, _ index: Int, _ field: FieldSchema) throws(LoadError) {
    switch field.kind {
    case .message:
      let end: UInt8
      if cursor.take(UInt8(ascii: "{"), text) {
        end = UInt8(ascii: "}")
      } else if cursor.take(UInt8(ascii: "<"), text) {
        end = UInt8(ascii: ">")
      } else {
        throw cursor.error(text, expected: "'{' of the message '\(field.name)'")
      }
      if builder.depth >= min(limits.maximumNesting, TextCursor.maximumDepth) { throw cursor.tooDeep(text, limits) }
      try builder.open(index)
      try fields(text, until: end)
      builder.close()
    case .string, .bytes: try strings(text, index, field)
    case .int32, .int64, .uint64: try builder.varint(index, integer(text, field))
    case .enumeration(let names): try builder.varint(index, enumeration(text, field, names))
    case .float:
      let (isNegative, number) = try magnitude(text, field)
      guard let value = special(text, number).map({ Float($0) }) ?? DecimalText.float(text, suffixed(text, number))
      else { throw wrong(text, number, "a number", field) }
      try builder.float(index, isNegative ? -value : value)
    case .double:
      let (isNegative, number) = try magnitude(text, field)
      guard let value = special(text, number) ?? DecimalText.double(text, suffixed(text, number)) else {
        throw wrong(text, number, "a number", field)
      }
      try builder.double(index, isNegative ? -value : value)
    }
  }

  // MARK: Numbers

  private func wrong(_ text: Text, _ range: Range<Int>, _ expected: String, _ field: FieldSchema) -> LoadError {
    let found = range.isEmpty ? "something else" : "'\(cursor.quoted(text, range))'"
    return cursor.error(text, "\(expected) was expected for '\(field.name)'; found \(found)", at: range.lowerBound)
  }

  /// The sign of a number, and the range of the rest.
  private mutating func magnitude(_ text: Text, _ field: FieldSchema) throws(LoadError) -> (Bool, Range<Int>) {
    let isNegative = cursor.take(UInt8(ascii: "-"), text)
    _ = cursor.next(text)
    let start = cursor.position
    let number = cursor.number(text)
    if number.isEmpty {
      cursor.position = start
      throw cursor.error(text, expected: "the value of '\(field.name)'")
    }
    return (isNegative, number)
  }

  /// Infinities and NaN, in any case.
  private func special(_ text: Text, _ range: Range<Int>) -> Double? {
    if cursor.isWord(text, range, "inf") || cursor.isWord(text, range, "infinity") { return .infinity }
    return cursor.isWord(text, range, "nan") ? .nan : nil
  }

  /// The range without the `f` that a number may end with.
  private func suffixed(_ text: Text, _ range: Range<Int>) -> Range<Int> {
    let hasSuffix = range.count > 1 && text[range.upperBound - 1] | 0x20 == UInt8(ascii: "f")
    return hasSuffix ? range.lowerBound..<range.upperBound - 1 : range
  }

  private mutating func integer(_ text: Text, _ field: FieldSchema) throws(LoadError) -> UInt64 {
    let (isNegative, range) = try magnitude(text, field)
    let largest: UInt64
    let type: String
    switch field.kind {
    case .uint64: (largest, type) = (isNegative ? 0 : .max, "an integer from 0 to 2^64 - 1")
    case .int64: (largest, type) = (isNegative ? 1 << 63 : (1 << 63) - 1, "an integer of 64 bits")
    default: (largest, type) = (isNegative ? 1 << 31 : (1 << 31) - 1, "an integer of 32 bits")
    }
    guard let value = unsigned(text, range), value <= largest else { throw wrong(text, range, type, field) }
    return isNegative ? 0 &- value : value
  }

  /// Decimal, hexadecimal (`0x1F`) and octal (`017`) integers.
  private func unsigned(_ text: Text, _ range: Range<Int>) -> UInt64? {
    guard range.count > 1, text[range.lowerBound] == UInt8(ascii: "0") else { return DecimalText.unsigned(text, range) }
    let isHex = text[range.lowerBound + 1] | 0x20 == UInt8(ascii: "x")
    let digits = range.lowerBound + (isHex ? 2 : 1)..<range.upperBound
    let shift: UInt64 = isHex ? 4 : 3
    if digits.isEmpty { return nil }
    var value: UInt64 = 0
    for index in digits {
      guard let digit = text[index].hexValue, digit < 1 << shift, value >> (64 - shift) == 0 else { return nil }
      value = value << shift | UInt64(digit)
    }
    return value
  }

  private mutating func enumeration(
    _ text: Text, _ field: FieldSchema, _ names: EnumSchema
  ) throws(LoadError) -> UInt64 {
    let word = cursor.identifier(text)
    if word.isEmpty {
      let number = try integer(text, field)
      return number
    }
    guard let number = names.number(of: cursor.string(text, word.prefix(64))) else {
      throw wrong(text, word, "one of " + names.values.map(\.name).joined(separator: ", "), field)
    }
    return UInt64(bitPattern: Int64(number))
  }

  // MARK: Strings

  /// One string, or several that are one.
  private mutating func strings(_ text: Text, _ index: Int, _ field: FieldSchema) throws(LoadError) {
    guard let first = cursor.next(text), first == 0x22 || first == 0x27 else {
      throw cursor.error(text, expected: "a string for '\(field.name)'")
    }
    var cursor = cursor
    try builder.data(index) { (bytes) throws(LoadError) in
      while let quote = cursor.next(text), quote == 0x22 || quote == 0x27 {
        try Self.string(text, &cursor, quote, into: &bytes)
      }
    }
    self.cursor = cursor
  }

  /// The string that `cursor` stands at, to behind its second quote.
  private static func string(
    _ text: Text, _ cursor: inout TextCursor, _ quote: UInt8, into bytes: inout [UInt8]
  ) throws(LoadError) {
    let start = cursor.position
    var position = start + 1
    while position < text.count {
      let byte = text[position]
      position += 1
      if byte == quote {
        cursor.position = position
        return
      }
      if byte == 0x0A { break }
      if byte == 0x5C {
        cursor.position = position - 1
        try escape(text, &cursor, into: &bytes)
        position = cursor.position
      } else {
        bytes.append(byte)
      }
    }
    throw cursor.error(text, "the string has no end on its line", at: start)
  }

  /// What stands for one byte after a backslash.
  private static func simpleEscape(_ letter: UInt8) -> UInt8? {
    switch letter {
    case UInt8(ascii: "a"): 7
    case UInt8(ascii: "b"): 8
    case UInt8(ascii: "f"): 12
    case UInt8(ascii: "n"): 10
    case UInt8(ascii: "r"): 13
    case UInt8(ascii: "t"): 9
    case UInt8(ascii: "v"): 11
    case 0x22, 0x27, 0x5C, UInt8(ascii: "?"): letter
    default: nil
    }
  }

  /// The escape whose backslash `cursor` stands at.
  private static func escape(
    _ text: Text, _ cursor: inout TextCursor, into bytes: inout [UInt8]
  ) throws(LoadError) {
    let start = cursor.position
    cursor.position += 1
    guard cursor.position < text.count else { return }
    let letter = text[cursor.position]
    if letter >= 0x30, letter <= 0x37 {
      guard let value = number(text, &cursor, digits: 1...3, base: 8), value < 256 else {
        throw cursor.error(text, "an octal escape up to \\377 was expected", at: start)
      }
      return bytes.append(UInt8(value))
    }
    cursor.position += 1
    if let byte = simpleEscape(letter) { return bytes.append(byte) }
    switch letter {
    case UInt8(ascii: "x"), UInt8(ascii: "X"):
      if let value = number(text, &cursor, digits: 1...2, base: 16) { return bytes.append(UInt8(value)) }
    case UInt8(ascii: "u"), UInt8(ascii: "U"):
      let count = letter == UInt8(ascii: "u") ? 4 : 8
      if let value = number(text, &cursor, digits: count...count, base: 16), let scalar = Unicode.Scalar(value) {
        return bytes.append(contentsOf: String(scalar).utf8)
      }
    default: break
    }
    throw cursor.error(
      text, "'\(cursor.quoted(text, start..<min(cursor.position, text.count)))' is no escape of protobuf text",
      at: start)
  }

  private static func number(
    _ text: Text, _ cursor: inout TextCursor, digits: ClosedRange<Int>, base: UInt32
  ) -> UInt32? {
    var (value, count) = (UInt32(0), 0)
    while count < digits.upperBound, cursor.position < text.count, let digit = text[cursor.position].hexValue,
      digit < base
    {
      value = value << (base == 8 ? 3 : 4) | UInt32(digit)
      cursor.position += 1
      count += 1
    }
    return count >= digits.lowerBound ? value : nil
  }
}
