// What the writing of a model in another framework's format has found: for the error that lists all.

import ApusGraph

/// What an exporter collects while it goes through the nodes of a graph.
package final class ExportLedger {
  /// The format as people call it.
  package let target: String
  package let options: ExportOptions
  package private(set) var notes: [String] = []
  /// The nodes of each operator that cannot be said, in the order of the graph.
  private var unmapped: [(op: String, nodes: [String])] = []
  private var problems: [ModelProblem] = []
  /// Nodes that were told of: the halves of the work meet them both.
  private var told: Set<String> = []

  /// Nodes that an error names of each operator without a rule.
  private static let namedNodes = 5
  /// After so many problems the work stops.
  private static let maximumProblems = 1000

  package init(target: String, options: ExportOptions) { (self.target, self.options) = (target, options) }

  /// There is no rule for the operator of `node`.
  package func isUnmapped(_ node: Node) {
    let op = node.op.description
    if let place = unmapped.firstIndex(where: { $0.op == op }) {
      unmapped[place].nodes.append(Self.name(of: node))
    } else {
      unmapped.append((op, [Self.name(of: node)]))
    }
  }

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
    let missing = unmapped.map { op, nodes in
      let names = nodes.prefix(Self.namedNodes).map { "'\($0)'" }.joined(separator: ", ")
      let rest = nodes.count > Self.namedNodes ? " and \(nodes.count - Self.namedNodes) more" : ""
      return ModelProblem(
        nodePath: "",
        reason: "\(target) has nothing that computes \(op), which \(names)\(rest) \(nodes.count == 1 ? "is" : "are")")
    }
    return missing + problems
  }

  /// Throws all that cannot be said, at once; nothing if all can.
  package func check() throws(LoadError) {
    if !found.isEmpty { throw LoadError(problems: found) }
  }
}
