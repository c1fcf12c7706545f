// Which nodes of a model a compression touches, as users say it.

import ApusGraph

/// Nodes chosen by patterns: `*` stands for any text, `?` for one character. A pattern matches a node by its name, or by
/// its operator (`Conv`, `com.microsoft.Gelu`).
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
    func matches(_ pattern: String) -> Bool {
      NodeSelection.matches(node.name, pattern) || NodeSelection.matches(node.op.description, pattern)
    }
    if exactlyExcluded.contains(node.name) || excluded.contains(where: matches) { return false }
    return included.isEmpty || included.contains(where: matches)
  }

  /// Throws for the first pattern that no node of the graph matches: most likely it is misspelled.
  package func check(against graph: Graph) throws(CompressionError) {
    for pattern in included + excluded {
      let isKnown = graph.nodes.contains { node in
        NodeSelection.matches(node.name, pattern) || NodeSelection.matches(node.op.description, pattern)
      }
      if !isKnown {
        throw CompressionError(
          .invalidOption, "no node has a name or operator like '\(pattern)'",
          remedy: "`apus graph` and `apus info` show the names of nodes")
      }
    }
  }

  /// Whether a text is what a pattern with `*` and `?` describes.
  package static func matches(_ text: String, _ pattern: String) -> Bool {
    let (text, pattern) = (Array(text), Array(pattern))
    var (position, place) = (0, 0)
    // Where the last `*` stands, and what of the text it took.
    var star: (place: Int, position: Int)?
    while position < text.count {
      if place < pattern.count, pattern[place] == "*" {
        star = (place, position)
        place += 1
      } else if place < pattern.count, pattern[place] == "?" || pattern[place] == text[position] {
        (position, place) = (position + 1, place + 1)
      } else if let last = star {
        star = (last.place, last.position + 1)
        (position, place) = (last.position + 1, last.place + 1)
      } else {
        return false
      }
    }
    return pattern[place...].allSatisfy { $0 == "*" }
  }
}
