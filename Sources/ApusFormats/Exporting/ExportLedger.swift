// What the writing of a model in another framework's format has found: for the error that lists all.

import ApusGraph

/// What an exporter collects while it goes through the nodes of a graph.
package final class ExportLedger {
  /// The format as people call it.
  package let target: String
  package let options: ExportOptions
  package private(set) var notes: [String] = []
  /// Operators that cannot be said.
  private var unmapped = UnmappedKinds()
  private var problems: [ModelProblem] = []
  /// Nodes that were told of: the halves of the work meet them both.
  private var told: Set<String> = []

  /// After so many problems the work stops.
  private static let maximumProblems = 1000

  package init(target: String, options: ExportOptions) { (self.target, self.options) = (target, options) }

  /// There is no rule for the operator of `node`.
  package func isUnmapped(_ node: Node) { unmapped.add(node.op.description, at: Self.name(of: node)) }

  /// Whether `report` had this node.
  package func isReported(_ node: Node) -> Bool { told.contains(Self.key(of: node)) }

  /// Whether nothing was found yet.
  package var isClean: Bool { unmapped.isEmpty && problems.isEmpty }

  private static func key(of node: Node) -> String { "\(node.op.name) \(name(of: node))" }

  /// A node has a rule and cannot be said all the same. Limits and cancelling end the work at once.
  package func report(_ error: OperatorError, at node: Node) throws(LoadError) {
    if error.code == .limit || error.code == .cancelled {
      throw LoadError(.limitExceeded, error.message, remedy: error.remedy, path: node.name)
    }
    told.insert(Self.key(of: node))
    try report(error, of: node.op.name, at: Self.name(of: node))
  }

  /// Something else cannot be said: `kind` is what it is, `name` what it is called.
  package func report(_ error: OperatorError, of kind: String, at name: String) throws(LoadError) {
    problems.append(ModelProblem(nodePath: name, reason: "\(kind): \(error.message)", remedy: error.remedy))
    if problems.count >= Self.maximumProblems { throw LoadError(problems: found) }
  }

  package func note(_ text: String) { if !notes.contains(text) { notes.append(text) } }

  private static func name(of node: Node) -> String { node.name.isEmpty ? node.op.description : node.name }

  private var found: [ModelProblem] {
    unmapped.problems { "\(target) has nothing that computes \($0)" } + problems
  }

  /// Throws all that cannot be said, at once; nothing if all can.
  package func check() throws(LoadError) {
    if !found.isEmpty { throw LoadError(problems: found) }
  }
}
