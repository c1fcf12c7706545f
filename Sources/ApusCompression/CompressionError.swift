// What goes wrong while a model is made smaller, or while what that costs is measured.

import ApusGraph

/// A model could not be compressed, or what that costs could not be measured. Nothing was written.
public struct CompressionError: Error, Sendable, CustomStringConvertible {
  /// Why. Further codes may come.
  public struct Code: RawRepresentable, Sendable, Hashable {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }

    /// The options contradict each other or the model: a name that no node has, a block that does not fit.
    public static let invalidOption = Code(rawValue: "invalidOption")
    /// There are no samples, or a sample does not fit the model or holds what is no number.
    public static let invalidSample = Code(rawValue: "invalidSample")
    /// Nothing in the model can be compressed in the way that was asked for.
    public static let nothingToDo = Code(rawValue: "nothingToDo")
    /// The accuracy that was asked for cannot be reached.
    public static let targetNotMet = Code(rawValue: "targetNotMet")
    /// A file of a calibration, of overrides or of labels does not hold what it should.
    public static let invalidFile = Code(rawValue: "invalidFile")
    /// A run of the model failed, or a graph could not be made.
    public static let failedNode = Code(rawValue: "failedNode")
    /// A limit on memory or time was reached.
    public static let limitExceeded = Code(rawValue: "limitExceeded")
  }

  public let code: Code
  /// What was expected and what was found.
  public let message: String
  /// What can be done; empty if the message says it.
  public let remedy: String
  /// The nodes from the outermost graph inwards; empty if no node is to blame.
  public let nodePath: [String]

  package init(_ code: Code, _ message: String, remedy: String = "", nodePath: [String] = []) {
    (self.code, self.message, self.remedy, self.nodePath) = (code, message, remedy, nodePath)
  }

  static let noSamples = CompressionError(.invalidSample, "there are no samples", remedy: "Give at least one")

  package init(_ error: OperatorError) {
    let isLimit = error.code == .limit || error.code == .cancelled
    self.init(
      isLimit ? .limitExceeded : .failedNode,
      error.message + (error.inputs.isEmpty ? "" : " (inputs: " + error.inputs.joined(separator: ", ") + ")"),
      remedy: error.remedy, nodePath: error.path)
  }

  public var description: String {
    (nodePath.isEmpty ? "" : nodePath.joined(separator: " › ") + ": ") + message + (remedy.isEmpty ? "" : ". " + remedy)
  }
}
