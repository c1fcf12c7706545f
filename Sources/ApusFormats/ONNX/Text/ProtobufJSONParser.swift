// Models in protobuf JSON as wire bytes (https://protobuf.dev/programming-guides/json, RFC 8259): names of fields in
// either form, integers as numbers or strings, bytes in base64 of both alphabets.

/// Parses one text without making a tree of it.
struct ProtobufJSONParser {
  private var cursor: TextCursor
  private var builder: MessageBuilder
  private let limits: LoadLimits

  private typealias Text = Span<UInt8>

  /// The bytes of the model that `text` describes.
  static func parse(_ text: Span<UInt8>, limits: LoadLimits) throws(LoadError) -> [UInt8] {
    var parser = ProtobufJSONParser(
      cursor: TextCursor(text, hasComments: false), builder: MessageBuilder(limits: limits), limits: limits)
    try parser.object(text)
    if parser.cursor.next(text) != nil { throw parser.cursor.error(text, expected: "the end of the text") }
    return parser.builder.finish()
  }

  /// The members of the innermost message.
  private mutating func object(_ text: Text) throws(LoadError) {
    let schema = builder.schema
    if !cursor.take(UInt8(ascii: "{"), text) { throw cursor.error(text, expected: "'{' of \(schema.name)") }
    if cursor.take(UInt8(ascii: "}"), text) { return }
    repeat {
      _ = cursor.next(text)
      let start = cursor.position
      let name = try rawString(text, "the name of a field of \(schema.name)")
      guard !name.hasEscape, let index = schema.index(named: name.range, in: text, json: true) else {
        throw cursor.error(
          text, "a field of \(schema.name) was expected; found '\(cursor.quoted(text, name.range))'", at: start,
          remedy: "Fields are " + schema.fields.map(\.jsonName).joined(separator: ", "))
      }
      try check(index, schema, text, at: start)
      if !cursor.take(UInt8(ascii: ":"), text) { throw cursor.error(text, expected: "':'") }
      try member(text, index, schema.fields[index])
    } while cursor.take(UInt8(ascii: ","), text)
    if !cursor.take(UInt8(ascii: "}"), text) { throw cursor.error(text, expected: "',' or '}' in \(schema.name)") }
  }

  /// Throws if the field was given, or one that it excludes.
  private func check(_ index: Int, _ schema: MessageSchema, _ text: Text, at start: Int) throws(LoadError) {
    let field = schema.fields[index]
    guard let other = builder.conflict(index) ?? (builder.has(index) ? field : nil) else { return }
    let reason = other.number == field.number ? "stands twice" : "excludes '\(other.jsonName)', which is there"
    throw cursor.error(text, "the field '\(field.jsonName)' of \(schema.name) \(reason)", at: start)
  }

  private mutating func member(_ text: Text, _ index: Int, _ field: FieldSchema) throws(LoadError) {
    if takeWord("null", text) {
      if !field.isAlternative { builder.mark(index) }
      return
    }
    builder.mark(index)
    guard field.isRepeated else { return try value(text, index, field) }
    if !cursor.take(UInt8(ascii: "["), text) { throw cursor.error(text, expected: "'[' of '\(field.jsonName)'") }
    if cursor.take(UInt8(ascii: "]"), text) { return }
    repeat { try value(text, index, field) } while cursor.take(UInt8(ascii: ","), text)
    if !cursor.take(UInt8(ascii: "]"), text) {
      throw cursor.error(text, expected: "',' or ']' in '\(field.jsonName)'")
    }
  }

  private mutating func takeWord(_ word: StaticString, _ text: Text) -> Bool {
    _ = cursor.next(text)
    let end = cursor.position + word.utf8CodeUnitCount
    guard end <= text.count else { return false }
    let matches = word.withUTF8Buffer { letters in
      letters.enumerated().allSatisfy { text[cursor.position + $0.offset] == $0.element }
    }
    if matches { cursor.position = end }
    return matches
  }

  private mutating func value(_ text: Text, _ index: Int, _ field: FieldSchema) throws(LoadError) {
    _ = cursor.next(text)
    switch field.kind {
    case .message:
      if builder.depth >= min(limits.maximumNesting, TextCursor.maximumDepth) { throw cursor.tooDeep(text, limits) }
      try builder.open(index)
      try object(text)
      builder.close()
    case .string:
      let raw = try rawString(text, "a string for '\(field.jsonName)'")
      let cursor = cursor
      try builder.data(index) { (bytes) throws(LoadError) in
        try Self.unescape(text, raw, cursor, into: &bytes)
      }
    case .bytes: try base64(text, index, field)
    case .int32, .int64, .uint64: try builder.varint(index, integer(text, field))
    case .enumeration(let names):
      guard cursor.next(text) == 0x22 else { return try builder.varint(index, integer(text, field)) }
      let start = cursor.position
      let raw = try rawString(text, "")
      guard let number = names.number(of: cursor.string(text, raw.range.prefix(64))) else {
        throw cursor.error(
          text,
          "one of " + names.values.map(\.name).joined(separator: ", ")
            + " was expected for '\(field.jsonName)'; found '\(cursor.quoted(text, raw.range))'", at: start)
      }
      try builder.varint(index, UInt64(bitPattern: Int64(number)))
    case .float: try builder.float(index, number(text, field, { Float($0) }, DecimalText.float))
    case .double: try builder.double(index, number(text, field, { $0 }, DecimalText.double))
    }
  }

  // MARK: Numbers

  /// The sign and the range of a number, which may stand in a string.
  private mutating func numberText(
    _ text: Text, _ field: FieldSchema
  ) throws(LoadError) -> (isNegative: Bool, range: Range<Int>) {
    let start = cursor.position
    if cursor.next(text) == 0x22 {
      let raw = try rawString(text, "")
      guard let first = raw.range.first else { throw wrong(text, start, raw.range, "a number", field) }
      let isNegative = text[first] == UInt8(ascii: "-")
      return (isNegative, isNegative ? first + 1..<raw.range.upperBound : raw.range)
    }
    let isNegative = cursor.take(UInt8(ascii: "-"), text)
    let range = cursor.number(text)
    if range.isEmpty {
      cursor.position = start
      throw cursor.error(text, expected: "a number for '\(field.jsonName)'")
    }
    return (isNegative, range)
  }

  private func wrong(
    _ text: Text, _ start: Int, _ range: Range<Int>, _ expected: String, _ field: FieldSchema
  ) -> LoadError {
    cursor.error(
      text, "\(expected) was expected for '\(field.jsonName)'; found '\(cursor.quoted(text, range))'", at: start)
  }

  private mutating func integer(_ text: Text, _ field: FieldSchema) throws(LoadError) -> UInt64 {
    let start = cursor.position
    let (isNegative, range) = try numberText(text, field)
    let largest: UInt64
    let type: String
    switch field.kind {
    case .uint64: (largest, type) = (isNegative ? 0 : .max, "an integer from 0 to 2^64 - 1")
    case .int64: (largest, type) = (isNegative ? 1 << 63 : (1 << 63) - 1, "an integer of 64 bits")
    default: (largest, type) = (isNegative ? 1 << 31 : (1 << 31) - 1, "an integer of 32 bits")
    }
    // 1e3 and 2.0 are integers too.
    let whole = DecimalText.unsigned(text, range) ?? DecimalText.double(text, range).flatMap { UInt64(exactly: $0) }
    guard let whole, whole <= largest else { throw wrong(text, start, range, type, field) }
    return isNegative ? 0 &- whole : whole
  }

  private mutating func number<Value: BinaryFloatingPoint>(
    _ text: Text, _ field: FieldSchema, _ convert: (Double) -> Value, _ parse: (Text, Range<Int>) -> Value?
  ) throws(LoadError) -> Value {
    let start = cursor.position
    let (isNegative, range) = try numberText(text, field)
    var value = parse(text, range)
    if value == nil {
      // As Python writes them, quoted or not.
      if cursor.isWord(text, range, "nan") { value = convert(.nan) }
      if cursor.isWord(text, range, "infinity") || cursor.isWord(text, range, "inf") { value = convert(.infinity) }
    }
    guard let value else { throw wrong(text, start, range, "a number", field) }
    return isNegative ? -value : value
  }

  // MARK: Strings

  /// The range of a string between its quotes, and whether there are escapes in it.
  private typealias RawString = (range: Range<Int>, hasEscape: Bool)

  private mutating func rawString(_ text: Text, _ expected: String) throws(LoadError) -> RawString {
    guard cursor.next(text) == 0x22 else { throw cursor.error(text, expected: expected) }
    let start = cursor.position
    var position = start + 1
    var hasEscape = false
    while position < text.count {
      let byte = text[position]
      if byte == 0x22 {
        cursor.position = position + 1
        return (start + 1..<position, hasEscape)
      }
      if byte < 0x20 { throw cursor.error(text, "a control character stands in a string", at: position) }
      if byte == 0x5C {
        hasEscape = true
        position += 1
      }
      position += 1
    }
    throw cursor.error(text, "the string has no end", at: start)
  }

  private static func unescape(
    _ text: Text, _ raw: RawString, _ cursor: TextCursor, into bytes: inout [UInt8]
  ) throws(LoadError) {
    var position = raw.range.lowerBound
    while position < raw.range.upperBound {
      let byte = text[position]
      if byte != 0x5C {
        bytes.append(byte)
        position += 1
        continue
      }
      let letter = text[position + 1]
      if letter == UInt8(ascii: "u") {
        guard let (scalar, end) = unicode(text, position, raw.range.upperBound) else {
          throw cursor.error(text, "'\\u' and a character of Unicode in hexadecimal were expected", at: position)
        }
        bytes.append(contentsOf: String(scalar).utf8)
        position = end
      } else if let escaped = escape(letter) {
        bytes.append(escaped)
        position += 2
      } else {
        throw cursor.error(text, "'\(cursor.quoted(text, position..<position + 2))' is no escape of JSON", at: position)
      }
    }
  }

  private static func escape(_ letter: UInt8) -> UInt8? {
    switch letter {
    case 0x22, 0x5C, UInt8(ascii: "/"): letter
    case UInt8(ascii: "b"): 8
    case UInt8(ascii: "f"): 12
    case UInt8(ascii: "n"): 10
    case UInt8(ascii: "r"): 13
    case UInt8(ascii: "t"): 9
    default: nil
    }
  }

  /// The character of `\uXXXX` at `position`, or of two of them that are a surrogate pair.
  private static func unicode(_ text: Text, _ position: Int, _ end: Int) -> (scalar: Unicode.Scalar, end: Int)? {
    func unit(_ position: Int) -> UInt32? {
      guard position + 6 <= end, text[position] == 0x5C, text[position + 1] == UInt8(ascii: "u") else { return nil }
      var value: UInt32 = 0
      for index in position + 2..<position + 6 {
        guard let digit = text[index].hexValue else { return nil }
        value = value << 4 | UInt32(digit)
      }
      return value
    }
    guard let first = unit(position) else { return nil }
    if let scalar = Unicode.Scalar(first) { return (scalar, position + 6) }
    guard first < 0xDC00, let second = unit(position + 6), second >= 0xDC00, second < 0xE000 else { return nil }
    let value = 0x10000 + (first - 0xD800) << 10 + (second - 0xDC00)
    return Unicode.Scalar(value).map { ($0, position + 12) }
  }

  // MARK: Base64

  /// The value of each digit of both alphabets (RFC 4648, sections 4 and 5); 255 for all other bytes.
  private static let base64Values: [UInt8] = {
    var values = [UInt8](repeating: 255, count: 256)
    let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789".utf8)
    for (value, digit) in digits.enumerated() { values[Int(digit)] = UInt8(value) }
    for digit in "+-".utf8 { values[Int(digit)] = 62 }
    for digit in "/_".utf8 { values[Int(digit)] = 63 }
    return values
  }()

  private mutating func base64(_ text: Text, _ index: Int, _ field: FieldSchema) throws(LoadError) {
    let raw = try rawString(text, "a string in base64 for '\(field.jsonName)'")
    let cursor = cursor
    try builder.data(index) { (bytes) throws(LoadError) in
      if !raw.hasEscape { return try Self.decode(text, raw.range, raw.range.lowerBound, cursor, text, into: &bytes) }
      // A '/' may be escaped.
      var plain: [UInt8] = []
      try Self.unescape(text, raw, cursor, into: &plain)
      try Self.decode(plain.span, 0..<plain.count, raw.range.lowerBound, cursor, text, into: &bytes)
    }
  }

  private static func decode(
    _ digits: Text, _ range: Range<Int>, _ start: Int, _ cursor: TextCursor, _ text: Text, into bytes: inout [UInt8]
  ) throws(LoadError) {
    let values = base64Values
    var end = range.upperBound
    while end > range.lowerBound, range.upperBound - end < 2, digits[end - 1] == UInt8(ascii: "=") { end -= 1 }
    var (group, bits) = (UInt32(0), UInt32(0))
    for position in range.lowerBound..<end {
      let value = values[Int(digits[position])]
      if value == 255 { throw cursor.error(text, "a byte stands in the base64 that is no digit of it", at: start) }
      group = group << 6 | UInt32(value)
      bits += 6
      if bits >= 8 {
        bits -= 8
        bytes.append(UInt8(truncatingIfNeeded: group >> bits))
      }
    }
    if bits >= 6 || range.upperBound > end && range.count % 4 != 0 {
      throw cursor.error(text, "the base64 ends within a byte, or its padding is wrong", at: start)
    }
  }
}
