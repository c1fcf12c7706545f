// What must hold for every graph between two passes.

/// Checks the structure of a graph: identifiers in range, one producer a value, nodes in an order in which they can run.
package enum GraphVerifier {
  package static func verify(_ graph: Graph) throws(OperatorError) {
    var available = [Bool](repeating: false, count: graph.values.count)
    for (index, value) in graph.values.enumerated() where value.constant != nil { available[index] = true }
    for id in graph.inputs + graph.captures {
      guard id.index >= 0, id.index < available.count else { throw .invalid("input \(id.index) is out of range") }
      available[id.index] = true
    }
    for node in graph.nodes {
      for id in node.dependencies {
        guard id.index >= 0, id.index < available.count, available[id.index] else {
          throw OperatorError.invalid("value \(id.index) is used before it is computed").inside(node)
        }
      }
      for id in node.outputs.compactMap({ $0 }) {
        guard id.index >= 0, id.index < available.count, !available[id.index] else {
          throw OperatorError.invalid("value \(id.index) is computed twice").inside(node)
        }
        available[id.index] = true
      }
      for (_, subgraph) in node.subgraphs {
        guard subgraph.captured.count == subgraph.graph.captures.count else {
          throw OperatorError.invalid("captured values do not match").inside(node)
        }
        do throws(OperatorError) { try verify(subgraph.graph) } catch { throw error.inside(node) }
      }
    }
    for id in graph.outputs where id.index >= available.count || !available[id.index] {
      throw .invalid("output \(id.index) is never computed")
    }
  }
}
