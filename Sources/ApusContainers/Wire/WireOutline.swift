// What a reader of files must know of a protobuf schema to leave large elements where they are.

/// The messages of a schema as far as they lead to large byte fields. The numbers of messages are the schema's own.
package struct WireOutline: Sendable {
  /// What lies in a field.
  package enum Content: Sendable {
    case message(UInt8)
    /// Bytes that may stay in the file.
    case elements
    case other
  }

  /// The message that the file is.
  let root: UInt8
  /// What lies in a field of a message.
  let content: @Sendable (_ message: UInt8, _ field: UInt32) -> Content
  /// The first bytes of files that are no such message and are mapped; empty if there are none.
  let mappedSignature: [UInt8]

  package init(
    root: UInt8, mappedSignature: [UInt8] = [],
    content: @escaping @Sendable (_ message: UInt8, _ field: UInt32) -> Content
  ) {
    (self.root, self.mappedSignature, self.content) = (root, mappedSignature, content)
  }
}
