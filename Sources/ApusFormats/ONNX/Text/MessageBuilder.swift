// A message of onnx.proto as wire bytes while a text of it is read: fields by their position in the schema, lengths
// filled in when a message ends, packed fields behind one tag.

/// Appends fields to the innermost open message.
struct MessageBuilder {
  private(set) var bytes: [UInt8] = []
  private var frames: [Frame]
  private let limits: LoadLimits
  private let messages = ProtoSchema.messages

  private struct Frame {
    let schema: Int
    /// Where the length of the message stands; -1 for the outermost.
    let lengthAt: Int
    /// The fields that are there, by position.
    var present: UInt64 = 0
    /// The packed field that is open, and where its length stands.
    var packed: (field: Int, lengthAt: Int)?
  }

  init(limits: LoadLimits) {
    self.limits = limits
    frames = [Frame(schema: ProtoSchema.model, lengthAt: -1)]
  }

  /// The schema of the innermost message.
  var schema: MessageSchema { messages[frames[frames.count - 1].schema] }

  /// How many messages are open inside the outermost.
  var depth: Int { frames.count - 1 }

  /// The field that is there already and excludes the field at `index`; nil if there is none.
  func conflict(_ index: Int) -> FieldSchema? {
    let frame = frames[frames.count - 1]
    let fields = messages[frame.schema].fields
    if !fields[index].isRepeated, frame.present & 1 << UInt64(index) != 0 { return fields[index] }
    guard fields[index].isAlternative, frame.present != 0 else { return nil }
    return fields.indices.first { fields[$0].isAlternative && frame.present & 1 << UInt64($0) != 0 }.map { fields[$0] }
  }

  /// True if the field at `index` was given.
  func has(_ index: Int) -> Bool { frames[frames.count - 1].present & 1 << UInt64(index) != 0 }

  /// Says that the field at `index` was given, with whatever value.
  mutating func mark(_ index: Int) { frames[frames.count - 1].present |= 1 << UInt64(index) }

  // MARK: Messages

  mutating func open(_ index: Int) throws(LoadError) {
    guard case .message(let schema) = self.schema.fields[index].kind else {
      preconditionFailure("\(self.schema.name).\(self.schema.fields[index].name) is no message")
    }
    try checkSize()
    closePacked()
    mark(index)
    bytes.appendTag(self.schema.fields[index].number, .bytes)
    frames.append(Frame(schema: schema, lengthAt: bytes.count))
    bytes.appendLengthPlace()
  }

  mutating func close() {
    closePacked()
    bytes.fillLengthPlace(at: frames.removeLast().lengthAt)
  }

  /// Ends the outermost message.
  consuming func finish() -> [UInt8] {
    closePacked()
    return bytes
  }

  private mutating func closePacked() {
    guard let packed = frames[frames.count - 1].packed else { return }
    bytes.fillLengthPlace(at: packed.lengthAt)
    frames[frames.count - 1].packed = nil
  }

  // MARK: Scalars

  /// An integer or the number of an enumeration's value, with its sign extended to 64 bits.
  mutating func varint(_ index: Int, _ value: UInt64) throws(LoadError) {
    try tag(index, .varint)
    bytes.appendVarint(value)
  }

  mutating func float(_ index: Int, _ value: Float) throws(LoadError) {
    try tag(index, .fixed32)
    for shift in stride(from: UInt32(0), to: 32, by: 8) {
      bytes.append(UInt8(truncatingIfNeeded: value.bitPattern >> shift))
    }
  }

  mutating func double(_ index: Int, _ value: Double) throws(LoadError) {
    try tag(index, .fixed64)
    for shift in stride(from: UInt64(0), to: 64, by: 8) {
      bytes.append(UInt8(truncatingIfNeeded: value.bitPattern >> shift))
    }
  }

  /// Strings and bytes: whatever `body` appends.
  mutating func data(_ index: Int, _ body: (inout [UInt8]) throws(LoadError) -> Void) throws(LoadError) {
    try tag(index, .bytes)
    let lengthAt = bytes.count
    bytes.appendLengthPlace()
    try body(&bytes)
    bytes.fillLengthPlace(at: lengthAt)
  }

  mutating func data(_ index: Int, _ value: [UInt8]) throws(LoadError) {
    try tag(index, .bytes)
    bytes.appendVarint(UInt64(value.count))
    bytes += value
  }

  /// An empty packed field says nothing, but is there.
  private mutating func tag(_ index: Int, _ wire: WireType) throws(LoadError) {
    let top = frames.count - 1
    if let packed = frames[top].packed, packed.field == index {
      if bytes.count & 0xFFFF == 0 { try checkSize() }
      return
    }
    try checkSize()
    closePacked()
    mark(index)
    let field = messages[frames[top].schema].fields[index]
    if field.isPacked {
      bytes.appendTag(field.number, .bytes)
      frames[top].packed = (index, bytes.count)
      bytes.appendLengthPlace()
    } else {
      bytes.appendTag(field.number, wire)
    }
  }

  private func checkSize() throws(LoadError) {
    if bytes.count > limits.maximumDecodedBytes {
      throw .limit("maximumDecodedBytes", limits.maximumDecodedBytes, found: "the text says more bytes")
    }
  }
}

extension [UInt8] {
  /// Bytes that a length is given before it is known; so the longest is 32 GiB.
  private static var lengthBytes: Int { 5 }

  /// Room for a length that `fillLengthPlace` writes.
  mutating func appendLengthPlace() {
    for _ in 0..<Self.lengthBytes { append(0) }
  }

  /// Writes the length of what follows the place at `position`. In front of little it is closed up; in front of much it
  /// keeps five bytes, which is as good, and nothing has to move.
  mutating func fillLengthPlace(at position: Int) {
    let length = count - position - Self.lengthBytes
    if length < 1 << 16 {
      var shortest: [UInt8] = []
      shortest.appendVarint(UInt64(length))
      replaceSubrange(position..<(position + Self.lengthBytes), with: shortest)
    } else {
      for index in 0..<Self.lengthBytes {
        let isLast = index == Self.lengthBytes - 1
        self[position + index] = UInt8(truncatingIfNeeded: length >> (7 * index) & 0x7F) | (isLast ? 0 : 0x80)
      }
    }
  }
}
