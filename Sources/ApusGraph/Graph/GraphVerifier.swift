// What must hold for every graph between two passes.

import ApusTensor

/// Checks a graph and its subgraphs: identifiers in range, one producer a value, nodes in an order in which they can
/// run, counts of inputs and outputs, attributes, captured values, and that constants and nodes have the types that are
/// stored.
package enum GraphVerifier {
  /// `order` gives the nodes in the order in which they run; nil: as they lie in the graph.
  package static func verify(
    _ graph: Graph, order: [Int]? = nil, registry: OperatorRegistry? = nil
  ) throws(OperatorError) {
    var available = [Bool](repeating: false, count: graph.values.count)
    for index in graph.values.indices {
      guard let constant = graph.values[index].constant else { continue }
      available[index] = true
      guard let fact = graph.values[index].fact.tensor, fact.dataType == constant.dataType,
        fact.shape.map({ $0.count == constant.rank }) ?? true
      else {
        throw .invalid(
          "constant \(label(index, graph)) is \(constant.dataType)\(constant.shape) "
            + "and stored as \(graph.values[index].fact)")
      }
    }
    for id in graph.inputs + graph.captures {
      guard available.indices.contains(id.index) else { throw .invalid("input \(id.index) is out of range") }
      guard !available[id.index] else {
        throw .invalid("input \(label(id.index, graph)) is a constant, or there twice")
      }
      available[id.index] = true
    }
    for index in order ?? Array(graph.nodes.indices) {
      try verify(graph.nodes[index], in: graph, available: &available, registry: registry)
    }
    for id in graph.outputs where !available.indices.contains(id.index) || !available[id.index] {
      throw .invalid("output \(label(id.index, graph)) is never computed")
    }
  }

  private static func verify(
    _ node: Node, in graph: Graph, available: inout [Bool], registry: OperatorRegistry?
  ) throws(OperatorError) {
    do throws(OperatorError) {
      for id in node.dependencies where !available.indices.contains(id.index) || !available[id.index] {
        throw .invalid("value \(label(id.index, graph)) is used before it is computed")
      }
      for case let id? in node.outputs {
        guard available.indices.contains(id.index), !available[id.index] else {
          throw .invalid("value \(label(id.index, graph)) is computed twice")
        }
        available[id.index] = true
      }
      if let schema = try registry?.require(node.op).schema {
        try node.validate(against: schema)
        try node.validateTypes(node.inputs.map { $0.map { graph.fact($0) } }, against: schema)
      }
      for (name, subgraph) in node.subgraphs {
        guard subgraph.captured.count == subgraph.graph.captures.count else {
          throw .invalid("\(name) captures \(subgraph.captured.count) values for \(subgraph.graph.captures.count)")
        }
        for (outer, inner) in zip(subgraph.captured, subgraph.graph.captures)
        where !graph.fact(outer).hasSameType(as: subgraph.graph.fact(inner)) {
          throw .invalid("\(name) captures \(graph.fact(outer)) as \(subgraph.graph.fact(inner))")
        }
        try verify(subgraph.graph, registry: registry)
      }
    } catch {
      throw error.inside(node)
    }
  }

  private static func label(_ index: Int, _ graph: Graph) -> String {
    guard graph.values.indices.contains(index), !graph.values[index].name.isEmpty else { return "\(index)" }
    return "'\(graph.values[index].name)'"
  }
}
