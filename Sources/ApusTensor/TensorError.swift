// What goes wrong while a tensor is made.

/// A tensor that cannot be made: elements that do not fit the shape, or memory that is not to be had.
public struct TensorError: Error, Sendable, Hashable {
  /// Why. More codes may come.
  public struct Code: RawRepresentable, Sendable, Hashable {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }

    /// The number of elements, or the shape itself, is not possible.
    public static let mismatch = Code(rawValue: "mismatch")
    /// The limit of the work that asks, or the memory of the process, is used up.
    public static let memory = Code(rawValue: "memory")
    /// The bytes could not be read from the file that they lie in.
    public static let file = Code(rawValue: "file")
  }

  public let code: Code
  /// What was expected and what was found.
  public let message: String
  /// What can be done; empty if the message says it.
  public let remedy: String

  package init(_ code: Code, _ message: String, remedy: String = "") {
    (self.code, self.message, self.remedy) = (code, message, remedy)
  }
}

extension TensorError: CustomStringConvertible {
  public var description: String { message + (remedy.isEmpty ? "" : ". " + remedy) }
}
