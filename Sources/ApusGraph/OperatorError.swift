// What goes wrong with one node: while reading, typing, preparing, planning or running it.

import ApusTensor

/// An error of one node. Whoever knows the node adds its path and the types of its inputs.
package struct OperatorError: Error, Sendable {
  package enum Code: String, Sendable {
    /// The node breaks the specification: attributes, counts, types.
    case invalidNode
    /// The shapes or values that meet here do not fit.
    case invalidInput
    /// The specification allows it; this engine does not do it.
    case unsupported
    /// A limit of `LoadLimits` or of the run was reached.
    case limit
    case cancelled
    /// The engine contradicts itself.
    case inconsistency
  }

  private struct Details {
    var code: Code
    var message: String
    var remedy: String
    var path: [String] = []
    var inputs: [String] = []
  }

  private var box: Boxed<Details>
  private var details: Details {
    get { box.content }
    set { box = Boxed(newValue) }
  }

  package var code: Code {
    get { details.code }
    set { details.code = newValue }
  }
  /// What was expected and what was found.
  package var message: String {
    get { details.message }
    set { details.message = newValue }
  }
  /// What the user can do; empty if the message says it.
  package var remedy: String {
    get { details.remedy }
    set { details.remedy = newValue }
  }
  /// The nodes from the outermost inwards, as `Conv 'layer1/conv'`.
  package var path: [String] {
    get { details.path }
    set { details.path = newValue }
  }
  /// The types and shapes of the inputs of the innermost node.
  package var inputs: [String] {
    get { details.inputs }
    set { details.inputs = newValue }
  }

  package init(_ code: Code, _ message: String, remedy: String = "") {
    box = Boxed(Details(code: code, message: message, remedy: remedy))
  }

  package static func invalid(_ message: String, remedy: String = "") -> OperatorError {
    OperatorError(.invalidNode, message, remedy: remedy)
  }
  package static func mismatch(_ message: String, remedy: String = "") -> OperatorError {
    OperatorError(.invalidInput, message, remedy: remedy)
  }
  package static func unsupported(_ message: String, remedy: String = "") -> OperatorError {
    OperatorError(.unsupported, message, remedy: remedy)
  }
  package static func inconsistency(_ message: String) -> OperatorError {
    OperatorError(.inconsistency, message, remedy: "This is a fault of Apus; please report it with the model")
  }

  /// The same error, raised in `node`.
  package func inside(_ node: Node, inputs facts: [ValueFact?] = []) -> OperatorError {
    var error = self
    if error.path.isEmpty { error.inputs = facts.map { $0?.description ?? "absent" } }
    error.path.insert(node.name.isEmpty ? "\(node.op)" : "\(node.op) '\(node.name)'", at: 0)
    return error
  }
}

extension OperatorError: CustomStringConvertible {
  package var description: String {
    var text = path.isEmpty ? "" : path.joined(separator: " › ") + ": "
    text += message
    if !inputs.isEmpty { text += " (inputs: " + inputs.joined(separator: ", ") + ")" }
    if !remedy.isEmpty { text += ". " + remedy }
    return text
  }
}
