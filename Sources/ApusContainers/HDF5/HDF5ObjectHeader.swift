// Object headers: the list of messages that says what an object is.

/// One message of an object header.
struct HDF5Message: Sendable {
  enum Kind: UInt16, Sendable {
    case dataspace = 1
    case linkInfo, datatype, oldFillValue, fillValue, link, externalFiles, layout
    case groupInfo = 10
    case filters, attribute
    case continuation = 16
    case symbolTable
    case attributeInfo = 21
  }
  let kind: Kind
  let content: ByteView
  /// True if `content` only says where the message is.
  let isShared: Bool
}

/// The messages of an object, those in continuation blocks included.
struct HDF5ObjectHeader: Sendable {
  private(set) var messages: [HDF5Message] = []
  private let source: HDF5File.Source

  /// A block of messages that is still to be read.
  private struct Block {
    var start: Int
    var length: Int
  }

  init(_ source: HDF5File.Source, at address: Int) throws(LoadError) {
    self.source = source
    try source.charge(at: address)
    if try source.bytes.u8(address, "an object header") == UInt8(ascii: "O") {
      try readVersion2(at: address)
    } else {
      try readVersion1(at: address)
    }
  }

  func first(_ kind: HDF5Message.Kind) -> HDF5Message? { messages.first { $0.kind == kind } }

  func contains(_ kind: HDF5Message.Kind) -> Bool { messages.contains { $0.kind == kind } }

  private func block(_ content: ByteView) throws(LoadError) -> Block? {
    var reader = ByteReader(content)
    guard let address = try source.address(&reader, "the continuation of an object header") else { return nil }
    return Block(start: address, length: try source.length(&reader, "the continuation of an object header"))
  }

  private mutating func add(
    _ number: UInt16, _ flags: UInt8, _ content: ByteView
  ) throws(LoadError) {
    try source.charge(at: content.fileOffset - source.bytes.fileOffset)
    guard let kind = HDF5Message.Kind(rawValue: number) else {
      // Bit 3: whoever does not know the message must not read the object.
      if number != 0, flags & 8 != 0 && flags & 0x80 != 0 {
        throw .unsupported("the object has a message of the unknown kind \(number)", at: content.fileOffset)
      }
      return
    }
    messages.append(HDF5Message(kind: kind, content: content, isShared: flags & 2 != 0))
  }

  private mutating func readVersion1(at address: Int) throws(LoadError) {
    var head = ByteReader(source.bytes, at: address)
    let version = try head.u8("an object header")
    guard version == 1 else {
      throw .malformed("an object header of version 1 or 2 was expected; found \(version)", at: head.fileOffset - 1)
    }
    try head.skip(1)
    let count = Int(try head.u16("the number of messages"))
    try head.skip(4)
    let length = Int(try head.u32("the length of an object header"))
    var blocks = [Block(start: address + 16, length: length)]
    var seen: Set<Int> = [address + 16]
    var number = 0
    while let block = blocks.popLast() {
      var reader = ByteReader(try source.bytes.slice(block.start, block.length, "an object header"))
      while number < count, reader.remaining >= 8 {
        let kind = try reader.u16()
        let size = Int(try reader.u16())
        let flags = try reader.u8()
        try reader.skip(3)
        let content = try reader.bytes(size, "a message of an object header")
        number += 1
        try add(kind, flags, content)
        if kind == HDF5Message.Kind.continuation.rawValue, let next = try self.block(content) {
          guard seen.insert(next.start).inserted else {
            throw .malformed("an object header should not continue in itself", at: content.fileOffset)
          }
          try source.charge(at: next.start)
          blocks.append(next)
        }
      }
    }
  }

  private mutating func readVersion2(at address: Int) throws(LoadError) {
    var head = try source.reader(at: address, signature: "OHDR", "an object header")
    let version = try head.u8()
    guard version == 2 else {
      throw .malformed("an object header of version 2 was expected; found \(version)", at: head.fileOffset - 1)
    }
    let flags = try head.u8()
    if flags & 0x20 != 0 { try head.skip(16, "the times of an object") }
    if flags & 0x10 != 0 { try head.skip(4, "the numbers of attributes") }
    let length = try head.length(bytes: 1 << Int(flags & 3), "the length of an object header")
    _ = try source.bytes.slice(head.position, length, "an object header")
    try source.verify(from: address, to: head.position + length, "an object header")
    var blocks = [Block(start: head.position, length: length)]
    var seen: Set<Int> = [head.position]
    // The kind, the size, flags, and with bit 2 the order of creation.
    let headSize = flags & 4 != 0 ? 6 : 4
    while let block = blocks.popLast() {
      var reader = ByteReader(try source.bytes.slice(block.start, block.length, "an object header"))
      while reader.remaining >= headSize {
        let kind = UInt16(try reader.u8())
        let size = Int(try reader.u16())
        let messageFlags = try reader.u8()
        if headSize == 6 { try reader.skip(2) }
        let content = try reader.bytes(size, "a message of an object header")
        try add(kind, messageFlags, content)
        if kind == HDF5Message.Kind.continuation.rawValue, let next = try self.block(content) {
          guard next.length >= 8, seen.insert(next.start + 4).inserted else {
            throw .malformed("the continuation of an object header is too short or its own", at: content.fileOffset)
          }
          _ = try source.reader(at: next.start, signature: "OCHK", "the continuation of an object header")
          _ = try source.bytes.slice(next.start, next.length, "the continuation of an object header")
          try source.verify(
            from: next.start, to: next.start + next.length - 4, "the continuation of an object header")
          blocks.append(Block(start: next.start + 4, length: next.length - 8))
        }
      }
    }
  }

  /// The content of a message, which may stand in the header of another object (committed types).
  func content(of message: HDF5Message) throws(LoadError) -> ByteView {
    if !message.isShared { return message.content }
    return try HDF5ObjectHeader.shared(message.content, message.kind, source)
  }

  /// Follows a shared message to the object that has it.
  static func shared(
    _ content: ByteView, _ kind: HDF5Message.Kind, _ source: HDF5File.Source
  ) throws(LoadError) -> ByteView {
    var reader = ByteReader(content)
    let version = try reader.u8("a shared message")
    let type = try reader.u8("a shared message")
    if version == 1 { try reader.skip(6) }
    guard (1...3).contains(version), version < 3 || type == 2 else {
      throw .unsupported(
        "a message that is shared by an object was expected; version \(version), type \(type) were found",
        remedy: "Write the file without a table of shared messages", at: content.fileOffset)
    }
    guard let address = try source.address(&reader, "a shared message"),
      let message = try HDF5ObjectHeader(source, at: address).first(kind), !message.isShared
    else { throw .malformed("a shared message should lead to an object that has it", at: content.fileOffset) }
    return message.content
  }
}
