// The attributes of a node: a few named values, small enough for a plain list.

import ApusTensor

/// The value of an attribute.
package indirect enum AttributeValue: Sendable {
  case int(Int)
  case float(Float)
  case string(String)
  case tensor(Tensor)
  case graph(Subgraph)
  case type(ValueFact)
  case ints([Int])
  case floats([Float])
  case strings([String])
  case tensors([Tensor])
  case graphs([Subgraph])
  case types([ValueFact])

  /// The name of the kind, as in an error message.
  package var kind: AttributeKind {
    switch self {
    case .int: .int
    case .float: .float
    case .string: .string
    case .tensor: .tensor
    case .graph: .graph
    case .type: .type
    case .ints: .ints
    case .floats: .floats
    case .strings: .strings
    case .tensors: .tensors
    case .graphs: .graphs
    case .types: .types
    }
  }
}

/// The kinds of attribute values of ONNX. Sparse tensors are read as dense ones.
package enum AttributeKind: String, Sendable {
  case int, float, string, tensor, graph, type, ints, floats, strings, tensors, graphs, types
}

/// Named attribute values in the order of the file.
package struct Attributes: Sendable {
  package var entries: [(name: String, value: AttributeValue)]

  package init() { entries = [] }
  package init(_ entries: [(String, AttributeValue)]) { self.entries = entries.map { (name: $0.0, value: $0.1) } }

  /// The value named `name`; setting nil removes it.
  package subscript(name: String) -> AttributeValue? {
    get { entries.first { $0.name == name }?.value }
    set {
      if let index = entries.firstIndex(where: { $0.name == name }) {
        if let newValue { entries[index].value = newValue } else { entries.remove(at: index) }
      } else if let newValue {
        entries.append((name: name, value: newValue))
      }
    }
  }

  /// Changes every subgraph.
  package mutating func updateGraphs<Failure: Error>(_ body: (inout Subgraph) throws(Failure) -> Void) throws(Failure) {
    for index in entries.indices {
      switch entries[index].value {
      case .graph(var subgraph):
        try body(&subgraph)
        entries[index].value = .graph(subgraph)
      case .graphs(var subgraphs):
        for position in subgraphs.indices { try body(&subgraphs[position]) }
        entries[index].value = .graphs(subgraphs)
      default: break
      }
    }
  }

  /// Gives the attribute another name, if it is there.
  package mutating func rename(_ name: String, to newName: String) {
    if let index = entries.firstIndex(where: { $0.name == name }) { entries[index].name = newName }
  }

  /// Takes the attribute out and returns its value.
  package mutating func remove(_ name: String) -> AttributeValue? {
    guard let index = entries.firstIndex(where: { $0.name == name }) else { return nil }
    return entries.remove(at: index).value
  }

  // The value if it is there and of that kind. `OperatorContext` has the forms that know defaults and throw.
  package func int(_ name: String) -> Int? { if case .int(let value)? = self[name] { value } else { nil } }
  package func float(_ name: String) -> Float? { if case .float(let value)? = self[name] { value } else { nil } }
  package func string(_ name: String) -> String? { if case .string(let value)? = self[name] { value } else { nil } }
  package func ints(_ name: String) -> [Int]? { if case .ints(let value)? = self[name] { value } else { nil } }
  package func floats(_ name: String) -> [Float]? { if case .floats(let value)? = self[name] { value } else { nil } }
  package func strings(_ name: String) -> [String]? { if case .strings(let value)? = self[name] { value } else { nil } }
  package func tensor(_ name: String) -> Tensor? { if case .tensor(let value)? = self[name] { value } else { nil } }
  package func graph(_ name: String) -> Subgraph? { if case .graph(let value)? = self[name] { value } else { nil } }
  package func type(_ name: String) -> ValueFact? { if case .type(let value)? = self[name] { value } else { nil } }
}

extension Attributes {
  /// True if both surely have the same values under the same names, in the same order: tensors, graphs and types are
  /// not compared.
  package func isSame(as other: Attributes) -> Bool {
    guard entries.count == other.entries.count else { return false }
    return zip(entries, other.entries).allSatisfy { $0.name == $1.name && $0.value.isSame(as: $1.value) }
  }
}

extension AttributeValue {
  fileprivate func isSame(as other: AttributeValue) -> Bool {
    switch (self, other) {
    case (.int(let a), .int(let b)): a == b
    case (.float(let a), .float(let b)): a.bitPattern == b.bitPattern
    case (.string(let a), .string(let b)): a == b
    case (.ints(let a), .ints(let b)): a == b
    case (.floats(let a), .floats(let b)): a.map(\.bitPattern) == b.map(\.bitPattern)
    case (.strings(let a), .strings(let b)): a == b
    default: false
    }
  }
}
