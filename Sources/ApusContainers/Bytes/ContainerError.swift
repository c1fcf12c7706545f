// What goes wrong between the bytes of a container and what stands in it.

/// A container could not be read or written. Whoever knows the file adds its name.
package struct ContainerError: Error, Sendable, Hashable {
  package enum Code: Sendable {
    /// The bytes break the format.
    case malformed
    /// The bytes are of another format.
    case wrongFormat
    /// A limit of the reader or of the format would be passed.
    case limitExceeded
    /// The format allows it; it is not read here.
    case unsupported
  }

  package var code: Code
  /// What was expected and what was found.
  package var message: String
  /// What the user can do; empty if the message says it.
  package var remedy: String
  /// Where in the file.
  package var byteOffset: Int?
  /// Where in the structure: the path of a group or dataset, the name of a tensor.
  package var path: String?

  package init(
    _ code: Code, _ message: String, remedy: String = "", byteOffset: Int? = nil, path: String? = nil
  ) {
    (self.code, self.message, self.remedy, self.byteOffset, self.path) = (code, message, remedy, byteOffset, path)
  }

  package static func malformed(_ message: String, at offset: Int? = nil) -> ContainerError {
    ContainerError(.malformed, message, byteOffset: offset)
  }

  package static func unsupported(_ message: String, remedy: String = "", at offset: Int? = nil) -> ContainerError {
    ContainerError(.unsupported, message, remedy: remedy, byteOffset: offset)
  }

  package static func limit(_ message: String, at offset: Int? = nil) -> ContainerError {
    ContainerError(.limitExceeded, message, byteOffset: offset)
  }

  /// The same error with the place in the structure, if none is there yet.
  package func at(path: String) -> ContainerError {
    var error = self
    if error.path == nil { error.path = path }
    return error
  }
}

extension ContainerError: CustomStringConvertible {
  package var description: String {
    var text = path.map { $0 + ": " } ?? ""
    text += message
    if let byteOffset { text += " (at byte \(byteOffset))" }
    if !remedy.isEmpty { text += ". " + remedy }
    return text
  }
}
