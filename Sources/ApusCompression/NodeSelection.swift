// Which nodes of a model a compression touches, as users say it.

import ApusGraph

/// Nodes chosen by patterns: `*` stands for any text, `?` for one character. A pattern matches a node by its name, or
/// by its operator (`Conv`, `com.microsoft.Gelu`).
public struct NodeSelection: Sendable, Hashable {
  /// Empty: all nodes.
  public var included: [String]
  /// What of these is left out.
  public var excluded: [String]
  /// Names of nodes, to the letter, that are left out too.
  package var exactlyExcluded: Set<String> = []

  public init(included: [String] = [], excluded: [String] = []) {
    (self.included, self.excluded) = (included, excluded)
  }

  package func contains(_ node: Node) -> Bool {
    func matches(_ pattern: String) -> Bool { NodeSelection.matches(node, pattern) }
    if exactlyExcluded.contains(node.name) || excluded.contains(where: matches) { return false }
    return included.isEmpty || included.contains(where: matches)
  }

  /// Throws for the first pattern that no node matches, those of graphs inside nodes included: most likely it is
  /// misspelled.
  package func check(against graph: Graph) throws(CompressionError) {
    for pattern in included + excluded {
      if !graph.hasNode(where: { NodeSelection.matches($0, pattern) }) {
        throw CompressionError(
          .invalidOption, "no node has a name or operator like '\(pattern)'",
          remedy: "`apus graph` and `apus info` show the names of nodes")
      }
    }
  }

  private static func matches(_ node: Node, _ pattern: String) -> Bool {
    let glob = Glob(pattern)
    return glob.matches(node.name) || glob.matches(node.op.description)
  }
}

extension Graph {
  /// Whether a node of the graph, or of the graphs inside its nodes, fulfils the condition.
  fileprivate func hasNode(where condition: (Node) -> Bool) -> Bool {
    nodes.contains { node in
      condition(node) || node.subgraphs.contains { $0.subgraph.graph.hasNode(where: condition) }
    }
  }
}
