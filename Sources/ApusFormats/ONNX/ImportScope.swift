// Where names mean something while a model is read: the scopes of names over the graphs that are built.

import ApusGraph
import ApusTensor

/// The names of one graph or one call of a function.
final class NameScope {
  /// What a name stands for.
  enum Binding {
    case value(ValueID)
    /// An input of a function that the call does not give.
    case absent
  }

  /// The value of a function attribute, and the scope in which the call wrote it.
  struct Argument {
    let content: AttributeProto.Content
    let scope: NameScope
  }

  let builder: GraphBuilder
  /// The scope around a subgraph; nil for the main graph and for functions, which see nothing outside.
  let parent: NameScope?
  /// Versions by domain.
  let opsets: [String: Int]
  /// What to put before names so that two calls of a function do not share them; empty outside of functions.
  let prefix: String
  /// The nodes around, for messages.
  let path: [String]
  /// The functions whose bodies are around.
  let functions: Set<FunctionID>
  /// Graphs and calls around.
  let depth: Int
  /// The attributes of the function around; nil outside of functions.
  let arguments: [String: Argument]?
  /// Declared facts, and for the outputs of a function the name and fact that the call gives them.
  var declared: [String: ValueFact] = [:]
  var outputNames: [String: (name: String, fact: ValueFact)] = [:]
  private var bindings: [String: Binding] = [:]

  init(
    builder: GraphBuilder, parent: NameScope?, opsets: [String: Int], prefix: String, path: [String],
    functions: Set<FunctionID>, depth: Int, arguments: [String: Argument]?
  ) {
    self.builder = builder
    self.parent = parent
    self.opsets = opsets
    self.prefix = prefix
    self.path = path
    self.functions = functions
    self.depth = depth
    self.arguments = arguments
  }

  /// What `name` stands for in this scope or around it, as a value of this scope's graph.
  func lookup(_ name: String) -> Binding? {
    var scope: NameScope? = self
    while let current = scope {
      switch current.bindings[name] {
      case .value(let value): return .value(builder.importing(value, of: current.builder))
      case .absent: return .absent
      case nil: scope = current.parent
      }
    }
    return nil
  }

  func isDefinedHere(_ name: String) -> Bool { bindings[name] != nil }

  func bind(_ name: String, to binding: Binding) { bindings[name] = binding }

  /// The name and fact of the value that `name` will stand for.
  func identity(of name: String) -> (name: String, fact: ValueFact) {
    if let output = outputNames[name] { return output }
    return (prefix.isEmpty ? name : prefix + "/" + name, declared[name] ?? .unknown)
  }
}

/// What tells functions of a model apart.
struct FunctionID: Hashable {
  let domain: String
  let name: String
  let overload: String
}
