// The errors of preparing and of running; those of reading a file are `LoadError`.

import ApusGraph

/// A model that was read but cannot run: operators, attributes, types or shapes. Lists every problem.
public struct PrepareError: Error, Sendable, CustomStringConvertible {
  public let problems: [ModelProblem]

  init(_ errors: [OperatorError]) { problems = errors.map(ModelProblem.init) }

  public var description: String {
    "the model cannot run; \(problems.count) problem\(problems.count == 1 ? "" : "s"):\n"
      + problems.map { "  - \($0)" }.joined(separator: "\n")
  }
}

/// A run that ended without a result.
public struct RunError: Error, Sendable, CustomStringConvertible {
  /// Why. Further codes may come.
  public struct Code: RawRepresentable, Sendable, Hashable {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }

    /// The given inputs do not fit the model: names, types, shapes.
    public static let invalidInput = Code(rawValue: "invalidInput")
    /// A node met data or shapes that it cannot work on.
    public static let failedNode = Code(rawValue: "failedNode")
    /// A limit on memory was reached.
    public static let limitExceeded = Code(rawValue: "limitExceeded")
    /// The task was cancelled or the time was over.
    public static let cancelled = Code(rawValue: "cancelled")
    /// Something the specification allows and this engine does not do.
    public static let unsupported = Code(rawValue: "unsupported")
    /// The engine contradicts itself: a fault of Apus.
    public static let inconsistency = Code(rawValue: "inconsistency")
  }

  public let code: Code
  /// What was expected and what was found.
  public let message: String
  /// What can be done; empty if the message says it.
  public let remedy: String
  /// The nodes from the outermost graph inwards; empty if no node is to blame.
  public let nodePath: [String]

  init(_ code: Code, _ message: String, remedy: String = "") {
    (self.code, self.message, self.remedy, nodePath) = (code, message, remedy, [])
  }

  init(_ error: OperatorError) {
    switch error.code {
    case .limit: code = .limitExceeded
    case .cancelled: code = .cancelled
    case .unsupported: code = .unsupported
    case .inconsistency: code = .inconsistency
    case .invalidNode, .invalidInput: code = .failedNode
    }
    message = error.message + (error.inputs.isEmpty ? "" : " (inputs: " + error.inputs.joined(separator: ", ") + ")")
    remedy = error.remedy
    nodePath = error.path
  }

  public var description: String {
    (nodePath.isEmpty ? "" : nodePath.joined(separator: " › ") + ": ") + message + (remedy.isEmpty ? "" : ". " + remedy)
  }
}

extension ModelProblem {
  init(_ error: OperatorError) {
    self.init(
      nodePath: error.path.joined(separator: " › "),
      reason: error.message + (error.inputs.isEmpty ? "" : " (inputs: " + error.inputs.joined(separator: ", ") + ")"),
      remedy: error.remedy)
  }
}
