// Where names mean something while a model is read: graphs under construction, and the scopes of names over them.

import ApusGraph
import ApusTensor

/// A graph under construction. `parent` is the graph whose node it will be a subgraph of.
final class GraphBuilder {
  var graph: Graph
  let parent: GraphBuilder?
  /// The values of `parent` that `graph.captures` stand for.
  private(set) var captured: [ValueID] = []
  private var innerValues: [ValueID: ValueID] = [:]
  private var usedNames: Set<String> = []

  init(name: String, parent: GraphBuilder?) {
    graph = Graph(name: name)
    self.parent = parent
  }

  /// A new value under `name`, or under a name close to it if that is taken.
  func addValue(_ name: String, fact: ValueFact, constant: Tensor? = nil) -> ValueID {
    var unique = name
    var suffix = 2
    while !unique.isEmpty, !usedNames.insert(unique).inserted {
      unique = "\(name)#\(suffix)"
      suffix += 1
    }
    let id = graph.addValue(name: unique, fact: fact)
    graph[id].constant = constant
    return id
  }

  /// The value of this graph that stands for `value` of `owner`, which is this graph or one around it. Constants are
  /// shared, not captured.
  func importing(_ value: ValueID, of owner: GraphBuilder) -> ValueID {
    if self === owner { return value }
    guard let parent else { return value }  // `owner` encloses every graph that can name its values
    let outer = parent.importing(value, of: owner)
    if let inner = innerValues[outer] { return inner }
    let record = parent.graph[outer]
    let inner = addValue(record.name, fact: record.fact, constant: record.constant)
    innerValues[outer] = inner
    if record.constant == nil {
      graph.captures.append(inner)
      captured.append(outer)
    }
    return inner
  }
}

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
