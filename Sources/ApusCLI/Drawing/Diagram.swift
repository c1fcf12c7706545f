// A graph as boxes and arrows, before anything has a place.

import Apus
import ApusGraph
import ApusTensor

/// Boxes, some with diagrams inside, and the arrows between them.
struct Diagram {
  struct Box {
    enum Kind: String { case input, output, node, capture }
    var kind: Kind
    /// The operator, or the name of an input or output.
    var title: String
    /// Further lines, smaller.
    var lines: [String]
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

  /// The nodes of a graph, its inputs, outputs and captured values. Constants appear as lines of the nodes that use them.
  init(_ graph: Graph) {
    var maker: [ValueID: Int] = [:]
    for id in graph.inputs {
      maker[id] = boxes.count
      boxes.append(Box(kind: .input, title: graph[id].name, lines: [graph.fact(id).description]))
    }
    for id in graph.captures where graph.constant(id) == nil {
      maker[id] = boxes.count
      boxes.append(Box(kind: .capture, title: graph[id].name.isEmpty ? "captured" : graph[id].name, lines: [graph.fact(id).description]))
    }
    for node in graph.nodes {
      let index = boxes.count
      boxes.append(
        Box(
          kind: .node, title: "\(node.op)", lines: Diagram.lines(of: node, in: graph),
          inner: node.subgraphs.map { ($0.name, Diagram($0.subgraph.graph)) }))
      var drawn: Set<ValueID> = []
      for value in node.dependencies where drawn.insert(value).inserted {
        if let source = maker[value] { arrows.append(Arrow(from: source, to: index, label: Diagram.shape(graph.fact(value)))) }
      }
      for value in node.outputs { if let value { maker[value] = index } }
    }
    for id in graph.outputs {
      if let source = maker[id] { arrows.append(Arrow(from: source, to: boxes.count, label: "")) }
      boxes.append(Box(kind: .output, title: graph[id].name, lines: [graph.fact(id).description]))
    }
  }

  private static func lines(of node: Node, in graph: Graph) -> [String] {
    var lines: [String] = []
    if !node.name.isEmpty { lines.append(shortened(node.name, 34)) }
    let constants = node.inputs.compactMap { id in graph.constant(id).map { "\($0.dataType)\($0.shape)" } }
    if !constants.isEmpty { lines.append(shortened(constants.joined(separator: " "), 38)) }
    let attributes = node.attributes.entries.compactMap { entry -> String? in
      switch entry.value {
      case .int(let value): "\(entry.name) \(value)"
      case .float(let value): "\(entry.name) \(value)"
      case .string(let value): "\(entry.name) \(value)"
      case .ints(let values): "\(entry.name) \(values)"
      default: nil
      }
    }
    if !attributes.isEmpty { lines.append(shortened(attributes.joined(separator: ", "), 42)) }
    return lines
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
