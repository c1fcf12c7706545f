// Where the printers of the textual forms put their bytes: an array, or a file that gets them piece by piece.

/// Text that is being written.
struct TextSink: ~Copyable {
  private(set) var bytes: [UInt8] = []
  private let flush: ((borrowing Span<UInt8>) throws(LoadError) -> Void)?

  /// Bytes that wait for the file at most, but for one value.
  private static let pieceBytes = 1 << 20

  /// Keeps the text, or gives it to `flush` in pieces.
  init(_ flush: ((borrowing Span<UInt8>) throws(LoadError) -> Void)? = nil) { self.flush = flush }

  /// To be called between values.
  mutating func settle() throws(LoadError) {
    if bytes.count >= Self.pieceBytes { try end() }
  }

  /// Hands on what is left.
  mutating func end() throws(LoadError) {
    guard let flush else { return }
    try flush(bytes.span)
    bytes.removeAll(keepingCapacity: true)
  }

  mutating func append(_ text: StaticString) {
    text.withUTF8Buffer { bytes.append(contentsOf: $0) }
  }

  mutating func append(_ text: String) { bytes.append(contentsOf: text.utf8) }

  mutating func append(byte: UInt8) { bytes.append(byte) }

  mutating func append(_ text: Span<UInt8>, _ range: Range<Int>) {
    for index in range { bytes.append(text[index]) }
  }

  /// A new line, and spaces.
  mutating func newLine(_ spaces: Int) {
    bytes.append(0x0A)
    for _ in 0..<spaces { bytes.append(0x20) }
  }

  mutating func append(_ value: Int64) {
    if value < 0 { bytes.append(UInt8(ascii: "-")) }
    append(value.magnitude)
  }

  mutating func append(_ value: UInt64) {
    var digits = InlineArray<20, UInt8>(repeating: 0)
    var first = 20
    var rest = value
    repeat {
      first -= 1
      digits[first] = UInt8(ascii: "0") + UInt8(rest % 10)
      rest /= 10
    } while rest > 0
    for index in first..<20 { bytes.append(digits[index]) }
  }

  /// The fewest digits that give the same number again; `inf`, `nan`.
  mutating func append(_ value: Float) {
    if value.isNaN { return append(value.sign == .minus ? "-nan" as StaticString : "nan") }
    bytes.append(contentsOf: value.description.utf8)
  }

  mutating func append(_ value: Double) {
    if value.isNaN { return append(value.sign == .minus ? "-nan" as StaticString : "nan") }
    bytes.append(contentsOf: value.description.utf8)
  }
}
