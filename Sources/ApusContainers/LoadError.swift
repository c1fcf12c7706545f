// What goes wrong between a file and the graph, or between a file and a tensor.

import ApusTensor

/// One thing that is wrong with a model.
public struct ModelProblem: Sendable, Hashable {
  /// The nodes from the outermost inwards, as `If 'choice' › then_branch › Conv 'layer1/conv'`; empty for the whole
  /// model.
  public var nodePath: String
  /// What was expected and what was found.
  public var reason: String
  /// What the user can do; empty if the reason says it.
  public var remedy: String

  public init(nodePath: String, reason: String, remedy: String = "") {
    (self.nodePath, self.reason, self.remedy) = (nodePath, reason, remedy)
  }
}

extension ModelProblem: CustomStringConvertible {
  public var description: String {
    (nodePath.isEmpty ? "" : nodePath + ": ") + reason + (remedy.isEmpty ? "" : ". " + remedy)
  }
}

/// A file could not be read, or not be written.
public struct LoadError: Error, Sendable {
  /// The kind of error. More kinds may come; handle the ones you do not know like `malformed`.
  public struct Code: RawRepresentable, Sendable, Hashable {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }

    /// The file cannot be opened or read.
    public static let cannotRead = Code(rawValue: "cannotRead")
    /// The bytes break the format.
    public static let malformed = Code(rawValue: "malformed")
    /// The bytes are of another format, or of none that is known.
    public static let wrongFormat = Code(rawValue: "wrongFormat")
    /// A limit of `LoadLimits` would be passed.
    public static let limitExceeded = Code(rawValue: "limitExceeded")
    /// The format allows it; this engine does not read it.
    public static let unsupported = Code(rawValue: "unsupported")
    /// A side file is missing, too short, or outside the folder of the model.
    public static let externalData = Code(rawValue: "externalData")
    /// The file cannot be written; what stood under its name is still there.
    public static let cannotWrite = Code(rawValue: "cannotWrite")
    /// A variable of the environment that the engine reads has a value that it cannot have.
    public static let invalidEnvironment = Code(rawValue: "invalidEnvironment")
    /// The reader of a pipe has gone, which is often what it wanted.
    package static let readerIsGone = Code(rawValue: "readerIsGone")
    /// The model was read; `problems` says what is wrong with it.
    public static let invalidModel = Code(rawValue: "invalidModel")
  }

  private struct Details {
    var code: Code
    var message: String
    var remedy: String
    var file: String?
    var byteOffset: Int?
    var path: String?
    var problems: [ModelProblem] = []
  }

  private var box: Boxed<Details>
  private var details: Details {
    get { box.content }
    set { box = Boxed(newValue) }
  }

  public var code: Code {
    get { details.code }
    set { details.code = newValue }
  }
  /// What was expected and what was found.
  public var message: String {
    get { details.message }
    set { details.message = newValue }
  }
  /// What the user can do; empty if the message says it.
  public var remedy: String {
    get { details.remedy }
    set { details.remedy = newValue }
  }
  /// The file, or the name the stream goes by.
  public var file: String? {
    get { details.file }
    set { details.file = newValue }
  }
  /// Where in the file.
  public var byteOffset: Int? {
    get { details.byteOffset }
    set { details.byteOffset = newValue }
  }
  /// Where in the structure: fields of the message (`graph.node[3].attribute[0]`), or the tensor.
  public var path: String? {
    get { details.path }
    set { details.path = newValue }
  }
  /// All problems of the model, for `invalidModel`.
  public var problems: [ModelProblem] {
    get { details.problems }
    set { details.problems = newValue }
  }

  public init(_ code: Code, _ message: String, remedy: String = "", byteOffset: Int? = nil, path: String? = nil) {
    box = Boxed(Details(code: code, message: message, remedy: remedy, byteOffset: byteOffset, path: path))
  }

  /// An error that holds `problems`, of which there must be at least one.
  public init(problems: [ModelProblem]) {
    self.init(
      .invalidModel, problems.count == 1 ? "the model has a problem" : "the model has \(problems.count) problems")
    self.problems = problems
  }

  package static func limit(
    _ name: String, _ limit: Int, found: String, remedy: String? = nil, path: String? = nil, at offset: Int? = nil
  ) -> LoadError {
    LoadError(
      .limitExceeded, "\(found), but LoadLimits.\(name) is \(limit)",
      remedy: remedy ?? "If you trust the file, raise \(name)", byteOffset: offset, path: path)
  }

  package static func malformed(_ message: String, at offset: Int? = nil) -> LoadError {
    LoadError(.malformed, message, byteOffset: offset)
  }

  package static func unsupported(_ message: String, remedy: String = "", at offset: Int? = nil) -> LoadError {
    LoadError(.unsupported, message, remedy: remedy, byteOffset: offset)
  }

  /// For bounds of a format or its reader that are no part of `LoadLimits`.
  package static func limit(_ message: String, at offset: Int? = nil) -> LoadError {
    LoadError(.limitExceeded, message, byteOffset: offset)
  }

  /// The same, as what goes wrong with a file.
  package init(_ error: TensorError) {
    let code: Code =
      switch error.code {
      case .memory: .limitExceeded
      case .file: .cannotRead
      default: .malformed
      }
    self.init(code, error.message, remedy: error.remedy)
  }

  /// The same error with the file's name, if none is there yet.
  package func inFile(_ name: String) -> LoadError {
    var error = self
    if error.file == nil { error.file = name }
    return error
  }

  /// The same error with the place in the structure, if none is there yet.
  package func at(path: String) -> LoadError {
    var error = self
    if error.path == nil { error.path = path }
    return error
  }

  /// The same error with `outer` before its path.
  package func under(_ outer: String) -> LoadError {
    var error = self
    error.path = error.path.map { outer + " › " + $0 } ?? outer
    return error
  }
}

extension LoadError: CustomStringConvertible {
  public var description: String {
    var text = ""
    if let file { text += file + ": " }
    if let path { text += path + ": " }
    text += message
    if let byteOffset { text += " (at byte \(byteOffset))" }
    if !remedy.isEmpty { text += ". " + remedy }
    for problem in problems { text += "\n  - \(problem)" }
    return text
  }
}
