// Patterns of nodes as values: operators over named placeholders, constants, alternatives.

import ApusGraph
import ApusTensor

/// What a value may be.
///
///     let x = Pattern.any("x")
///     let swish = Pattern.node("Mul", x, .node("Sigmoid", x))
///
/// The inputs of an operator whose schema says that it is commutative match in either order. A placeholder that stands
/// there twice stands for one value.
indirect enum Pattern: Sendable {
  /// Any value, under a name.
  case any(String)
  /// A floating-point constant of one element that is this number, as far as its type can tell, and that gives the
  /// operand beside it no further axes.
  case number(Double)
  /// The only output of a node of the default domain with these inputs.
  case operation(String, [Pattern])
  /// The first of these that matches, with all that stands around it.
  case oneOf([Pattern])

  static func node(_ op: String, _ inputs: Pattern...) -> Pattern { .operation(op, inputs) }
  static func oneOf(_ patterns: Pattern...) -> Pattern { .oneOf(patterns) }

  /// What the pattern is found to be where it ends in the node `root`; nil if it is not there.
  func match(endingAt root: NodeID, in graph: borrowing GraphEditor) -> PatternMatch? {
    guard let output = graph[root].outputs.first ?? nil else { return nil }
    return matches(output, beside: nil, PatternMatch(), in: graph).first
  }

  /// All ways in which `value` matches, each as a continuation of `found`. `beside` is the other operand of the node
  /// that uses it.
  private func matches(
    _ value: ValueID?, beside: ValueID?, _ found: PatternMatch, in graph: borrowing GraphEditor
  ) -> [PatternMatch] {
    guard let value else { return [] }
    switch self {
    case .any(let name):
      var found = found
      return found.bind(name, to: value) ? [found] : []
    case .number(let number):
      return graph.scalar(value, beside: beside)?.isClose(to: number) ?? false ? [found] : []
    case .oneOf(let patterns):
      var all: [PatternMatch] = []
      for pattern in patterns { all += pattern.matches(value, beside: beside, found, in: graph) }
      return all
    case .operation(let op, let inputs):
      guard let (id, node) = graph.producer(of: value, is: op), node.inputs.count == inputs.count,
        !node.outputs.dropFirst().contains(where: { $0 != nil })
      else { return [] }
      var start = found
      start.add(id)
      var all = Pattern.matches(inputs, node.inputs, start, in: graph)
      let traits = graph.inference.registry.definition(of: node.op)?.schema.traits ?? []
      if inputs.count == 2, traits.contains(.commutative) {
        all += Pattern.matches(inputs, node.inputs.reversed(), start, in: graph)
      }
      return all
    }
  }

  /// All ways in which a list of values matches a list of patterns.
  private static func matches(
    _ patterns: [Pattern], _ values: [ValueID?], _ start: PatternMatch, in graph: borrowing GraphEditor
  ) -> [PatternMatch] {
    var found = [start]
    for (position, pattern) in patterns.enumerated() where !found.isEmpty {
      let beside = values.count == 2 ? values[1 - position] : nil
      var longer: [PatternMatch] = []
      for match in found { longer += pattern.matches(values[position], beside: beside, match, in: graph) }
      found = longer
    }
    return found
  }
}

/// What a pattern was found to be.
struct PatternMatch {
  /// By the name of the placeholder.
  private var values: [String: ValueID] = [:]
  /// The nodes of the pattern, each once.
  private(set) var nodes: [NodeID] = []

  /// The value of a placeholder of the pattern.
  subscript(name: String) -> ValueID {
    guard let value = values[name] else { preconditionFailure("the pattern has no placeholder '\(name)'") }
    return value
  }

  /// False if the name stands for another value.
  fileprivate mutating func bind(_ name: String, to value: ValueID) -> Bool {
    if let known = values[name] { return known == value }
    values[name] = value
    return true
  }

  fileprivate mutating func add(_ node: NodeID) { if !nodes.contains(node) { nodes.append(node) } }
}
