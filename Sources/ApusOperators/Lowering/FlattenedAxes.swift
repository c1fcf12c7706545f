// Softmax, LogSoftmax and Hardmax over several axes at once, as they were before operator set 13.

import ApusGraph
import ApusTensor

/// Finds what reading made of such a node (Flatten, the operator over rows, Reshape to the shape of its input), and
/// puts the one node back.
enum FlattenedAxes {
  /// An attribute of nodes whose `axis` has the old meaning.
  static let mark = "flattened_axes"

  /// The graph with such nodes, which only `OlderForms` for operator sets before 13 can write; subgraphs included.
  static func restored(_ graph: Graph) -> Graph {
    let index = GraphIndex(graph)
    var unused: Set<Int> = []
    var nodes = graph.nodes
    for position in nodes.indices {
      if nodes[position].hasSubgraphs { nodes[position].attributes.updateGraphs { $0.graph = restored($0.graph) } }
      guard let found = pattern(endingAt: position, graph, index) else { continue }
      nodes[position].op = found.rows.op
      nodes[position].inputs = [found.input]
      nodes[position].attributes = Attributes([("axis", .int(found.axis)), (mark, .int(1))])
      unused.formUnion(found.inner)
    }
    return graph.part(nodes.indices.filter { !unused.contains($0) }.map { nodes[$0] }, outputs: graph.outputs)
  }

  private static func pattern(
    endingAt position: Int, _ graph: Graph, _ index: GraphIndex
  ) -> (input: ValueID, rows: Node, axis: Int, inner: [Int])? {
    let reshape = graph.nodes[position]
    guard reshape.op == OperatorID("Reshape"), reshape.attributes.int("allowzero") ?? 0 != 0, reshape.inputs.count == 2,
      let result = reshape.inputs[0], index.onlyUser(of: result) != nil, let rows = index.producer(of: result),
      ["Softmax", "LogSoftmax", "Hardmax"].contains(graph.nodes[rows].op.description),
      graph.nodes[rows].attributes.int("axis") ?? -1 == -1, let matrix = graph.nodes[rows].inputs[0],
      index.onlyUser(of: matrix) != nil, let flatten = index.producer(of: matrix),
      graph.nodes[flatten].op == OperatorID("Flatten"), let input = graph.nodes[flatten].inputs[0],
      let shape = reshape.inputs[1]
    else { return nil }
    var inner = [flatten, rows]
    if let maker = index.producer(of: shape), graph.nodes[maker].op == OperatorID("Shape") {
      guard graph.nodes[maker].inputs == [input], graph.nodes[maker].attributes.entries.isEmpty else { return nil }
      if index.onlyUser(of: shape) != nil { inner.append(maker) }
    } else {
      guard let target = graph.constant(shape)?.integers, graph.fact(input).tensor?.shape?.concrete == Shape(target)
      else { return nil }
    }
    return (input, graph.nodes[rows], graph.nodes[flatten].attributes.int("axis") ?? 1, inner)
  }
}
