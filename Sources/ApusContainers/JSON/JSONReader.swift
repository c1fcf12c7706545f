// JSON (RFC 8259) as a tree, and the numbers NaN, Infinity and -Infinity that Python writes.

/// A JSON value. Numbers keep their text, so that no digit is lost before the type is known.
package indirect enum JSONValue: Sendable {
  case null
  case bool(Bool)
  case number(String)
  case string(String)
  case array([JSONValue])
  case object([(key: String, value: JSONValue)])

  package var kind: String {
    switch self {
    case .null: "null"
    case .bool: "a bool"
    case .number: "a number"
    case .string: "a string"
    case .array: "an array"
    case .object: "an object"
    }
  }
}

/// Parses JSON within the limits: `maximumNesting` arrays and objects in each other, `maximumDecodedBytes` for the
/// tree.
package struct JSONReader {
  private var position = 0
  private var treeBytes = 0
  private let limits: LoadLimits
  private let keysAreUnique: Bool

  private init(limits: LoadLimits, keysAreUnique: Bool) {
    (self.limits, self.keysAreUnique) = (limits, keysAreUnique)
  }

  /// The value that `bytes` are. `keysAreUnique`: refuses objects in which a key stands twice, as whoever reads a
  /// format must that others read too.
  package static func parse(
    _ bytes: Span<UInt8>, limits: LoadLimits, keysAreUnique: Bool = false
  ) throws(LoadError) -> JSONValue {
    var reader = JSONReader(limits: limits, keysAreUnique: keysAreUnique)
    // The mark of UTF-8, which RFC 8259 lets a reader pass over.
    if bytes.count >= 3, (bytes[0], bytes[1], bytes[2]) == (0xEF, 0xBB, 0xBF) { reader.position = 3 }
    let value = try reader.value(bytes, depth: 0)
    if reader.next(bytes) != nil { throw reader.error("there is more after the end of the value") }
    return value
  }

  private func error(_ message: String) -> LoadError {
    LoadError(.malformed, "this is no valid JSON: \(message)", byteOffset: position)
  }

  /// The next byte that is no white space; nil at the end.
  private mutating func next(_ bytes: Span<UInt8>) -> UInt8? {
    while position < bytes.count, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[position]) { position += 1 }
    return position < bytes.count ? bytes[position] : nil
  }

  private mutating func charge(_ bytes: Int) throws(LoadError) {
    treeBytes += bytes
    if treeBytes > limits.maximumDecodedBytes {
      throw .limit(
        "maximumDecodedBytes", limits.maximumDecodedBytes, found: "the JSON text takes more bytes", at: position)
    }
  }

  private mutating func value(_ bytes: Span<UInt8>, depth: Int) throws(LoadError) -> JSONValue {
    if depth > min(limits.maximumNesting, 1000) {
      throw .limit("maximumNesting", limits.maximumNesting, found: "arrays lie deeper in each other", at: position)
    }
    try charge(64)
    switch next(bytes) {
    case nil: throw error("a value was expected")
    case UInt8(ascii: "["): return try array(bytes, depth)
    case UInt8(ascii: "{"): return try object(bytes, depth)
    case UInt8(ascii: "\""): return .string(try string(bytes))
    default:
      let word = self.word(bytes)
      try charge(word.utf8.count)
      switch word {
      case "null": return .null
      case "true": return .bool(true)
      case "false": return .bool(false)
      default:
        guard Double(word) != nil, !word.hasPrefix("+"), !word.contains("x"), !word.contains("X") else {
          throw error("'\(word.prefix(32))' is no value")
        }
        return .number(word)
      }
    }
  }

  private mutating func word(_ bytes: Span<UInt8>) -> String {
    let start = position
    while position < bytes.count, Self.isWord(bytes[position]) { position += 1 }
    return String(decoding: (start..<position).map { bytes[$0] }, as: UTF8.self)
  }

  private static func isWord(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
      UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."):
      true
    default: false
    }
  }

  private mutating func array(_ bytes: Span<UInt8>, _ depth: Int) throws(LoadError) -> JSONValue {
    position += 1
    var elements: [JSONValue] = []
    if next(bytes) == UInt8(ascii: "]") {
      position += 1
      return .array(elements)
    }
    while true {
      elements.append(try value(bytes, depth: depth + 1))
      switch next(bytes) {
      case UInt8(ascii: ","): position += 1
      case UInt8(ascii: "]"):
        position += 1
        return .array(elements)
      default: throw error("',' or ']' was expected")
      }
    }
  }

  private mutating func object(_ bytes: Span<UInt8>, _ depth: Int) throws(LoadError) -> JSONValue {
    position += 1
    var members: [(key: String, value: JSONValue)] = []
    var keys: Set<String> = []
    if next(bytes) == UInt8(ascii: "}") {
      position += 1
      return .object(members)
    }
    while true {
      guard next(bytes) == UInt8(ascii: "\"") else { throw error("a key was expected") }
      let key = try string(bytes)
      if keysAreUnique, !keys.insert(key).inserted { throw error("the key '\(key.prefix(64))' stands twice") }
      guard next(bytes) == UInt8(ascii: ":") else { throw error("':' was expected") }
      position += 1
      members.append((key, try value(bytes, depth: depth + 1)))
      switch next(bytes) {
      case UInt8(ascii: ","): position += 1
      case UInt8(ascii: "}"):
        position += 1
        return .object(members)
      default: throw error("',' or '}' was expected")
      }
    }
  }

  private mutating func string(_ bytes: Span<UInt8>) throws(LoadError) -> String {
    position += 1
    var text: [UInt8] = []
    while position < bytes.count {
      let byte = bytes[position]
      position += 1
      switch byte {
      case UInt8(ascii: "\""):
        try charge(text.count)
        guard let string = String(validating: text, as: UTF8.self) else { throw error("a string is no valid UTF-8") }
        return string
      case UInt8(ascii: "\\"): text += try escape(bytes)
      case 0..<0x20: throw error("a control character in a string")
      default: text.append(byte)
      }
    }
    throw error("a string without an end")
  }

  /// What follows a backslash.
  private mutating func escape(_ bytes: Span<UInt8>) throws(LoadError) -> [UInt8] {
    guard position < bytes.count else { throw error("a string without an end") }
    let byte = bytes[position]
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return [byte]
    case UInt8(ascii: "b"): return [0x08]
    case UInt8(ascii: "f"): return [0x0C]
    case UInt8(ascii: "n"): return [0x0A]
    case UInt8(ascii: "r"): return [0x0D]
    case UInt8(ascii: "t"): return [0x09]
    case UInt8(ascii: "u"):
      var code = try hexadecimal(bytes)
      if code >> 10 == 0x36 {  // the first half of a pair
        guard position + 1 < bytes.count, bytes[position] == UInt8(ascii: "\\"),
          bytes[position + 1] == UInt8(ascii: "u")
        else { throw error("half of a surrogate pair") }
        position += 2
        let low = try hexadecimal(bytes)
        guard low >> 10 == 0x37 else { throw error("half of a surrogate pair") }
        code = 0x10000 + (code & 0x3FF) << 10 + low & 0x3FF
      }
      guard let scalar = Unicode.Scalar(code) else { throw error("half of a surrogate pair") }
      return Array(String(Character(scalar)).utf8)
    default: throw error("an unknown escape")
    }
  }

  private mutating func hexadecimal(_ bytes: Span<UInt8>) throws(LoadError) -> UInt32 {
    guard position + 4 <= bytes.count else { throw error("a string without an end") }
    let text = String(decoding: (position..<(position + 4)).map { bytes[$0] }, as: UTF8.self)
    position += 4
    guard text.utf8.first != UInt8(ascii: "+"), text.utf8.first != UInt8(ascii: "-"),
      let code = UInt32(text, radix: 16)
    else {
      throw error("four hexadecimal digits were expected")
    }
    return code
  }
}
