// The first look at the bytes of an ONNX file: checks every bound of the wire format, finds the elements of tensors,
// and writes the message again without them, so that what protobuf-c unpacks is small and well formed.

/// Where elements of a tensor lie in the file.
package struct TensorPayload: Sendable, Hashable {
  /// The field of TensorProto that holds them.
  package enum Field: UInt8, Sendable {
    case floatData = 4
    case int32Data, stringData, int64Data
    case rawData = 9
    case doubleData, uint64Data
  }
  package enum Form: Sendable {
    /// Nothing but elements: raw bytes, or packed scalars.
    case packed
    /// A run of fields, each with its tag: scalars that are not packed, or strings.
    case tagged
  }
  package var field: Field
  package var form: Form
  package var range: Range<Int>
}

/// A message that has passed the scanner.
package struct ScannedMessage: Sendable {
  /// The message without the elements of its tensors and without fields that nobody reads. Each tensor has instead the
  /// field `apus_payload`: indices into `payloads`, in the order of the file.
  package var reduced: [UInt8] = []
  package var payloads: [TensorPayload] = []
  /// What was left out and might matter to the user.
  package var notes: [String] = []
}

/// Walks a message and the messages in it. No recursion: the stack is an array, bounded by the nesting limit.
package struct WireScanner {
  /// The number of the field that holds indices of payloads; see onnx.proto.
  static let payloadField: UInt32 = 500_000_001

  private struct Frame {
    let type: MessageType
    var reader: WireReader
    /// Where the length of the message stands in the output: five bytes, filled in when the message ends.
    let lengthAt: Int
    /// The field of the parent that this message is in, and how many of them came before.
    let field: String
    let index: Int
    /// How often each field of this message has come so far.
    var counts = InlineArray<28, Int32>(repeating: 0)
    /// The first payload that belongs to this message.
    let firstPayload: Int
  }

  private let limits: LoadLimits
  private var result = ScannedMessage()
  private var stack: [Frame] = []
  private var nodeCount = 0
  private var structureBytes = 0

  private init(limits: LoadLimits) { self.limits = limits }

  /// Scans all of `bytes` as one message of type `root`.
  package static func scan(
    _ bytes: Span<UInt8>, as root: MessageType, limits: LoadLimits
  ) throws(LoadError) -> ScannedMessage {
    var scanner = WireScanner(limits: limits)
    do {
      try scanner.walk(bytes, root)
    } catch {
      var error = error
      if error.path == nil { error.path = scanner.path }
      throw error
    }
    return scanner.result
  }

  /// The innermost message, as in `graph.node[3].attribute[0]`; nil at the top.
  private var path: String? {
    guard stack.count > 1 else { return nil }
    return stack.dropFirst().map { $0.index == 0 ? $0.field : "\($0.field)[\($0.index)]" }.joined(separator: ".")
  }

  private mutating func walk(_ bytes: Span<UInt8>, _ root: MessageType) throws(LoadError) {
    try charge(root.structBytes, at: 0)
    stack.append(
      Frame(type: root, reader: WireReader(0..<bytes.count), lengthAt: -1, field: "", index: 0, firstPayload: 0))
    while let depth = stack.indices.last {
      if stack[depth].reader.isAtEnd {
        closeLength(of: stack[depth])
        stack.removeLast()
        continue
      }
      let start = stack[depth].reader.position
      let (number, wire) = try stack[depth].reader.tag(bytes)
      guard let field = stack[depth].type.field(number) else {
        _ = try stack[depth].reader.value(wire, bytes)
        continue
      }
      let value = try stack[depth].reader.value(wire, bytes)
      let index = Int(stack[depth].counts[Int(number)])
      // In range: tables have fewer than 28 entries. Wraps only after 2^31 fields that are left out; a count only shows
      // up in the text of an error.
      stack[depth].counts[Int(number)] &+= 1
      if case .message(let type) = field.rule {
        try expect(.bytes, wire, field, at: start)
        try open(type, number, field, index, value, at: start)
      } else {
        try copy(bytes, number, wire, field, value, start: start)
      }
    }
  }

  /// Begins a message inside the current one.
  private mutating func open(
    _ type: MessageType, _ number: UInt32, _ field: WireField, _ index: Int, _ value: Range<Int>, at start: Int
  ) throws(LoadError) {
    if stack.count > min(limits.maximumNesting, 1000) {
      throw .limit(
        "maximumNesting", limits.maximumNesting, found: "messages lie more than \(stack.count) deep in each other",
        at: start)
    }
    if type == .node {
      nodeCount += 1
      if nodeCount > limits.maximumNodes {
        throw .limit("maximumNodes", limits.maximumNodes, found: "the file has more nodes", at: start)
      }
    }
    try charge(type.structBytes + Self.fieldOverhead, at: start)
    result.reduced.appendTag(number, .bytes)
    let lengthAt = result.reduced.count
    for _ in 0..<5 { result.reduced.append(0) }
    stack.append(
      Frame(
        type: type, reader: WireReader(value), lengthAt: lengthAt, field: field.name, index: index,
        firstPayload: result.payloads.count))
  }

  /// Writes the length of a message that has ended into the five bytes that were left for it.
  private mutating func closeLength(of frame: Frame) {
    guard frame.lengthAt >= 0 else { return }
    var length = result.reduced.count - (frame.lengthAt + 5)
    for index in 0..<5 {
      result.reduced[frame.lengthAt + index] = UInt8(length & 0x7F) | (index < 4 ? 0x80 : 0)
      length >>= 7
    }
  }

  /// Treats a field that holds no message.
  private mutating func copy(
    _ bytes: Span<UInt8>, _ number: UInt32, _ wire: WireType, _ field: WireField, _ value: Range<Int>, start: Int
  ) throws(LoadError) {
    switch field.rule {
    case .drop, .message: return
    case .dropWithNote(let note):
      if !result.notes.contains(note) { result.notes.append(note) }
      return
    case .varint:
      try expect(.varint, wire, field, at: start)
      try charge(Self.fieldOverhead, at: start)
    case .fixed32:
      try expect(.fixed32, wire, field, at: start)
      try charge(Self.fieldOverhead, at: start)
    case .name, .prose:
      try expect(.bytes, wire, field, at: start)
      try charge(value.count + Self.fieldOverhead, at: start)
      var isName = false
      if case .name = field.rule { isName = true }
      try checkText(bytes, value, field, isName: isName)
    case .bytes:
      try expect(.bytes, wire, field, at: start)
      try charge(value.count + Self.fieldOverhead, at: start)
    case .varints:
      if wire != .bytes { try expect(.varint, wire, field, at: start) }
      let count = wire == .bytes ? try countVarints(bytes, value, field) : 1
      if count == 0 { return }
      try charge(count * 8 + value.count + Self.fieldOverhead, at: start)
    case .fixed32s:
      if wire != .bytes { try expect(.fixed32, wire, field, at: start) }
      if wire == .bytes && value.count % 4 != 0 {
        throw LoadError(
          .malformed, "\(field.name) has \(value.count) bytes, which is no multiple of 4", byteOffset: value.lowerBound)
      }
      if value.isEmpty { return }
      try charge(value.count * 2 + Self.fieldOverhead, at: start)
    case .payload(let payload):
      try record(payload, wire, field, value, start: start)
      return
    }
    result.reduced.appendTag(number, wire)
    if wire == .bytes { result.reduced.appendVarint(UInt64(value.count)) }
    for index in value { result.reduced.append(bytes[index]) }
  }

  /// Notes where elements of the current tensor lie.
  private mutating func record(
    _ payload: TensorPayload.Field, _ wire: WireType, _ field: WireField, _ value: Range<Int>, start: Int
  ) throws(LoadError) {
    let single: WireType
    switch payload {
    case .floatData: single = .fixed32
    case .doubleData: single = .fixed64
    case .int32Data, .int64Data, .uint64Data: single = .varint
    case .stringData, .rawData: single = .bytes
    }
    if wire != .bytes { try expect(single, wire, field, at: start) }
    let isTagged = payload != .rawData && wire == single
    if wire == .bytes && !isTagged && payload != .rawData && value.isEmpty { return }
    let first = stack.last?.firstPayload ?? 0
    if isTagged, result.payloads.count > first, let last = result.payloads.last, last.field == payload,
      last.form == .tagged, last.range.upperBound == start
    {
      result.payloads[result.payloads.count - 1].range = last.range.lowerBound..<value.upperBound
      return
    }
    try charge(MemoryLayout<TensorPayload>.stride * 2 + Self.fieldOverhead, at: start)
    result.reduced.appendTag(Self.payloadField, .varint)
    result.reduced.appendVarint(UInt64(result.payloads.count))
    result.payloads.append(
      TensorPayload(
        field: payload, form: isTagged ? .tagged : .packed, range: isTagged ? start..<value.upperBound : value))
  }

  private func expect(_ expected: WireType, _ found: WireType, _ field: WireField, at offset: Int) throws(LoadError) {
    if expected != found {
      throw LoadError(
        .malformed, "\(field.name) should have the wire type \(expected); it has \(found)",
        remedy: "Is this an ONNX file?", byteOffset: offset)
    }
  }

  private func checkText(
    _ bytes: Span<UInt8>, _ range: Range<Int>, _ field: WireField, isName: Bool
  ) throws(LoadError) {
    var isASCII = true
    for index in range {
      let byte = bytes[index]
      if byte == 0 { throw LoadError(.malformed, "\(field.name) has a zero byte in it", byteOffset: index) }
      if byte >= 0x80 { isASCII = false }
    }
    if isName && !isASCII {
      do {
        _ = try UTF8Span(validating: bytes.extracting(range))
      } catch {
        throw LoadError(.malformed, "\(field.name) is no valid UTF-8", byteOffset: range.lowerBound)
      }
    }
  }

  /// The number of varints that fill `range` exactly.
  private func countVarints(_ bytes: Span<UInt8>, _ range: Range<Int>, _ field: WireField) throws(LoadError) -> Int {
    var reader = WireReader(range)
    var count = 0
    while !reader.isAtEnd {
      _ = try reader.varint(bytes)
      count += 1
    }
    return count
  }

  /// What protobuf-c needs beside the contents of a field: a place in the list of scanned fields (twice while that list
  /// grows), a pointer in the array of a repeated field, and the header and padding of an allocation.
  private static let fieldOverhead = 112

  /// Counts memory that unpacking will take.
  private mutating func charge(_ bytes: Int, at offset: Int) throws(LoadError) {
    structureBytes += bytes
    let limit = min(limits.maximumStructureBytes, Int(Int32.max))
    if structureBytes > limit {
      throw .limit("maximumStructureBytes", limit, found: "the model without its tensors takes more bytes", at: offset)
    }
  }
}
