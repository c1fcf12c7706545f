// A graph as boxes and arrows, before anything has a place.

import Apus
import ApusGraph
import ApusTensor

/// Boxes, some with diagrams inside, and the arrows between them.
struct Diagram {
  struct Box {
    enum Kind: String { case input, output, node, group, capture }
    var kind: Kind
    /// The operator, or the name of an input or output.
    var title: String
    /// The operator of one node.
    var op: OperatorID?
    /// Further lines, smaller.
    var lines: [String]
    /// What a reader sees who points at the box: nothing is left out.
    var details: [String]
    /// The subgraphs of a node with their attribute names.
    var inner: [(name: String, diagram: Diagram)] = []
  }

  struct Arrow {
    var from: Int
    var to: Int
    /// The type of the value, as far as known.
    var label: String
  }

  var boxes: [Box] = []
  var arrows: [Arrow] = []
  /// Nodes that stand in boxes of several, subgraphs included.
  private(set) var foldedNodes = 0

  /// The nodes of a graph, its inputs, outputs and captured values. Constants appear as lines of the nodes that use
  /// them. Of a graph with more than `limit` nodes, stretches of nodes share a box.
  init(_ graph: Graph, limit: Int = .max) {
    var maker: [ValueID: Int] = [:]
    func addSource(_ id: ValueID, _ kind: Box.Kind) {
      maker[id] = boxes.count
      let name = graph[id].name.isEmpty ? "captured" : graph[id].name
      boxes.append(Diagram.terminal(kind, name, graph.fact(id)))
    }
    for id in graph.inputs { addSource(id, .input) }
    for id in graph.captures where graph.constant(id) == nil { addSource(id, .capture) }
    for group in GraphFolding(graph, limit: limit).groups {
      let nodes = graph.nodes[group.nodes]
      let index = boxes.count
      if nodes.count == 1, let node = nodes.first {
        let inner = node.subgraphs.map { (name: $0.name, diagram: Diagram($0.subgraph.graph, limit: limit)) }
        foldedNodes += inner.reduce(0) { $0 + $1.diagram.foldedNodes }
        boxes.append(
          Box(
            kind: .node, title: "\(node.op)", op: node.op, lines: Diagram.lines(of: node, in: graph),
            details: Diagram.details(of: node, in: graph), inner: inner))
      } else {
        foldedNodes += nodes.count
        boxes.append(Diagram.folded(group, nodes))
      }
      var drawn: Set<ValueID> = []
      for value in nodes.flatMap(\.dependencies) where drawn.insert(value).inserted {
        if let source = maker[value] {
          arrows.append(Arrow(from: source, to: index, label: Diagram.shape(graph.fact(value))))
        }
      }
      for value in nodes.flatMap(\.outputs) { if let value { maker[value] = index } }
    }
    for id in graph.outputs {
      if let source = maker[id] { arrows.append(Arrow(from: source, to: boxes.count, label: "")) }
      boxes.append(Diagram.terminal(.output, graph[id].name, graph.fact(id)))
    }
  }

  private static func terminal(_ kind: Box.Kind, _ name: String, _ fact: ValueFact) -> Box {
    Box(
      kind: kind, title: shortened(name.printable(), 60), lines: [shortened(fact.description.printable(), 60)],
      details: [name, fact.description])
  }

  // MARK: - Nodes

  private static func lines(of node: Node, in graph: Graph) -> [String] {
    var lines: [String] = []
    if !node.name.isEmpty { lines.append(shortened(node.name.printable(), 34)) }
    let constants = node.inputs.compactMap { id in graph.constant(id).map { "\($0.dataType)\($0.shape)" } }
    if !constants.isEmpty { lines.append(shortened(constants.joined(separator: " "), 38)) }
    let attributes = node.attributes.entries.compactMap { entry -> String? in
      switch entry.value {
      case .int, .float, .string, .ints: "\(entry.name) \(text(entry.value).printable(limit: 60))"
      default: nil
      }
    }
    if !attributes.isEmpty { lines.append(shortened(attributes.joined(separator: ", "), 42)) }
    return lines
  }

  private static func details(of node: Node, in graph: Graph) -> [String] {
    func operand(_ id: ValueID?) -> String {
      guard let id else { return "–" }
      return (graph[id].name.isEmpty ? "unnamed" : graph[id].name) + ": \(graph.fact(id))"
    }
    return ["\(node.op)"] + (node.name.isEmpty ? [] : [node.name])
      + node.inputs.map { "in  " + operand($0) } + node.outputs.map { "out " + operand($0) }
      + node.attributes.entries.map { "\($0.name) = \(text($0.value))" }
  }

  private static func text(_ value: AttributeValue) -> String {
    func name(_ subgraph: Subgraph) -> String { "graph of \(subgraph.graph.nodes.count) nodes" }
    func name(_ tensor: Tensor) -> String {
      tensor.count <= 64 ? ValueText.describe(.tensor(tensor)) : "\(tensor.dataType)\(tensor.shape)"
    }
    return switch value {
    case .int(let value): "\(value)"
    case .float(let value): "\(value)"
    case .string(let value): value
    case .ints(let values): "\(values)"
    case .floats(let values): "\(values)"
    case .strings(let values): "\(values)"
    case .tensor(let tensor): name(tensor)
    case .tensors(let tensors): tensors.map(name).joined(separator: "; ")
    case .graph(let subgraph): name(subgraph)
    case .graphs(let subgraphs): subgraphs.map(name).joined(separator: "; ")
    case .type(let fact): fact.description
    case .types(let facts): facts.map(\.description).joined(separator: "; ")
    }
  }

  /// The box of a stretch of nodes.
  private static func folded(_ group: GraphFolding.Group, _ nodes: ArraySlice<Node>) -> Box {
    var counts: [String: Int] = [:]
    for node in nodes { counts["\(node.op)", default: 0] += 1 }
    let operators = counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { "\($0.key) ×\($0.value)" }
    let title = group.repetition.map { "part \($0.number) of \($0.count)" } ?? "\(nodes.count) nodes"
    let shown = operators.prefix(3).joined(separator: ", ") + (operators.count > 3 ? " …" : "")
    let names = nodes.map { node in "\(node.op)" + (node.name.isEmpty ? "" : "  " + node.name) }
    return Box(
      kind: .group, title: title,
      lines: (group.repetition == nil ? [] : ["\(nodes.count) nodes"]) + [shortened(shown, 48)],
      details: [operators.joined(separator: ", "), ""] + names)
  }

  private static func shortened(_ text: String, _ count: Int) -> String {
    text.count <= count ? text : "…" + text.suffix(count - 1)
  }

  /// The extents of a tensor, or the type of anything else.
  private static func shape(_ fact: ValueFact) -> String {
    guard let shape = fact.tensor?.shape else { return fact.description }
    return shape.isEmpty ? "scalar" : shape.map(\.description).joined(separator: "×")
  }
}
