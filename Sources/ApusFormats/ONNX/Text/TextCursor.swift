// A position in a text, with what the textual forms have in common: white space, names, numbers, and errors that say
// line and column.

/// Reads tokens of a text. Every read is bounded by the end of the text.
struct TextCursor {
  var position = 0
  /// True where `#` begins a comment that ends with the line.
  let hasComments: Bool

  /// Messages, arrays and graphs in each other at most, whatever the limits allow.
  static let maximumDepth = 128

  init(_ text: Span<UInt8>, hasComments: Bool) {
    self.hasComments = hasComments
    // The mark of UTF-8.
    if text.count >= 3, (text[0], text[1], text[2]) == (0xEF, 0xBB, 0xBF) { position = 3 }
  }

  // MARK: Errors

  /// The error "line 3, column 5: `expected` was expected; found …".
  func error(_ text: Span<UInt8>, expected: String, remedy: String = "") -> LoadError {
    error(text, "\(expected) was expected; found \(found(text))", at: position, remedy: remedy)
  }

  func error(_ text: Span<UInt8>, _ message: String, at offset: Int, remedy: String = "") -> LoadError {
    var (line, start) = (1, 0)
    for index in 0..<min(offset, text.count) where text[index] == 0x0A { (line, start) = (line + 1, index + 1) }
    return LoadError(
      .malformed, "line \(line), column \(offset - start + 1): \(message)", remedy: remedy, byteOffset: offset)
  }

  /// What stands at the position, for a message.
  private func found(_ text: Span<UInt8>) -> String {
    guard position < text.count else { return "the end of the text" }
    var end = position
    while end < text.count, end - position < 24, text[end].isWord { end += 1 }
    if end == position { end += 1 }
    return "'\(quoted(text, position..<end))'"
  }

  /// A piece of the text as people read it: without control characters, at most 60 bytes.
  func quoted(_ text: Span<UInt8>, _ range: Range<Int>) -> String {
    var bytes: [UInt8] = []
    for index in range.prefix(60) { bytes.append(text[index] < 0x20 || text[index] == 0x7F ? 0x3F : text[index]) }
    return String(decoding: bytes, as: UTF8.self) + (range.count > 60 ? "…" : "")
  }

  func tooDeep(_ text: Span<UInt8>, _ limits: LoadLimits) -> LoadError {
    var error = LoadError.limit(
      "maximumNesting", limits.maximumNesting,
      found: "messages or graphs lie more than \(min(limits.maximumNesting, Self.maximumDepth)) deep in each other",
      at: position)
    if limits.maximumNesting > Self.maximumDepth {
      error = LoadError(
        .limitExceeded, "messages or graphs lie more than \(Self.maximumDepth) deep in each other",
        byteOffset: position)
    }
    return error
  }

  // MARK: Tokens

  /// Moves past white space and comments. Returns the next byte, or nil at the end.
  mutating func next(_ text: Span<UInt8>) -> UInt8? {
    while position < text.count {
      let byte = text[position]
      if byte == 0x20 || byte >= 0x09 && byte <= 0x0D {
        position += 1
      } else if hasComments, byte == UInt8(ascii: "#") {
        while position < text.count, text[position] != 0x0A { position += 1 }
      } else {
        return byte
      }
    }
    return nil
  }

  /// Moves past `byte` if it comes next.
  mutating func take(_ byte: UInt8, _ text: Span<UInt8>) -> Bool {
    guard next(text) == byte else { return false }
    position += 1
    return true
  }

  mutating func expect(_ character: Unicode.Scalar, _ text: Span<UInt8>) throws(LoadError) {
    if !take(UInt8(ascii: character), text) { throw error(text, expected: "'\(character)'") }
  }

  /// The range of an identifier: letters, digits, `_`, not a digit first. Empty if there is none.
  mutating func identifier(_ text: Span<UInt8>) -> Range<Int> {
    guard let first = next(text), first.isWord, !first.isDigit else { return position..<position }
    let start = position
    while position < text.count, text[position].isWord { position += 1 }
    return start..<position
  }

  func string(_ text: Span<UInt8>, _ range: Range<Int>) -> String {
    var bytes: [UInt8] = []
    for index in range { bytes.append(text[index]) }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// True if the range has these letters, in whatever case.
  func isWord(_ text: Span<UInt8>, _ range: Range<Int>, _ word: StaticString) -> Bool {
    guard range.count == word.utf8CodeUnitCount else { return false }
    return word.withUTF8Buffer { letters in
      for (offset, letter) in letters.enumerated() where text[range.lowerBound + offset] | 0x20 != letter {
        return false
      }
      return true
    }
  }

  /// The range of a number without its sign: digits, letters, points, and signs behind an `e`.
  mutating func number(_ text: Span<UInt8>) -> Range<Int> {
    let start = position
    let isHex =
      position + 1 < text.count && text[position] == UInt8(ascii: "0") && text[position + 1] | 0x20 == UInt8(ascii: "x")
    while position < text.count {
      let byte = text[position]
      let isSign = byte == UInt8(ascii: "+") || byte == UInt8(ascii: "-")
      let isExponent = !isHex && isSign && position > start && text[position - 1] | 0x20 == UInt8(ascii: "e")
      guard byte.isWord || byte == UInt8(ascii: ".") || isExponent else { break }
      position += 1
    }
    return start..<position
  }
}

extension UInt8 {
  var isDigit: Bool { self >= 0x30 && self <= 0x39 }

  /// A letter, a digit or `_`.
  var isWord: Bool {
    isDigit || self | 0x20 >= UInt8(ascii: "a") && self | 0x20 <= UInt8(ascii: "z") || self == UInt8(ascii: "_")
  }

  /// The value of a hexadecimal digit.
  var hexValue: UInt8? {
    if isDigit { return self - 0x30 }
    let lower = self | 0x20
    return lower >= UInt8(ascii: "a") && lower <= UInt8(ascii: "f") ? lower - UInt8(ascii: "a") + 10 : nil
  }
}
