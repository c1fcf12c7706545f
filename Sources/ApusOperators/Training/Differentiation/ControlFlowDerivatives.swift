// The derivative of If: an If with the same condition, whose branches compute the gradients of what they capture.

import ApusGraph
import ApusTensor

extension Differentiator {
  /// The gradients of the captured values of an If node. A branch that does not use one gives it zeros.
  mutating func branchGradients(
    _ node: Node, _ upstream: [ValueID?], _ dependents: Set<ValueID>
  ) throws(OperatorError) -> [(ValueID, ValueID)] {
    let names = ["then_branch", "else_branch"]
    var captured: [ValueID] = []
    for (_, subgraph) in node.subgraphs {
      captured += subgraph.captured.filter { dependents.contains($0) && !captured.contains($0) }
    }
    var attributes: [(String, AttributeValue)] = []
    for name in names {
      guard case .graph(let branch)? = node.attributes[name] else {
        throw .invalid("attribute \(name) (graph) is missing")
      }
      attributes.append((name, .graph(try gradients(of: captured, in: branch, upstream, name: node.name))))
    }
    let gradients = try writer.apply("If", node.inputs, attributes, outputCount: captured.count)
    return Array(zip(captured, gradients))
  }

  /// A branch that computes the branch again and from it the gradients of `values` of the graph around.
  private func gradients(
    of values: [ValueID], in branch: Subgraph, _ upstream: [ValueID?], name: String
  ) throws(OperatorError) -> Subgraph {
    guard branch.captured.count == branch.graph.captures.count else { throw .invalid("captured values do not match") }
    let inner = GraphBuilder(continuing: branch, in: writer.builder)
    for (outer, value) in zip(inner.captured, inner.graph.captures) {
      inner.graph[value].fact = writer.builder.fact(outer)
    }
    // Inner values that stand for the wanted ones and for the gradients that arrive.
    let sources = values.map { inner.importing($0, of: writer.builder) }
    var seeds: [(value: ValueID, gradient: ValueID)] = []
    for (output, gradient) in zip(inner.graph.outputs, upstream) {
      if let gradient { seeds.append((output, inner.importing(gradient, of: writer.builder))) }
    }
    var differentiator = Differentiator(DerivativeWriter(name: name, in: inner))
    let range = inner.graph.nodes.indices
    let found = try differentiator.gradients(of: Set(sources), seeds: seeds, in: range)
    var outputs: [ValueID] = []
    for source in sources {
      if let gradient = found[source] {
        outputs.append(gradient)
      } else {
        outputs.append(try differentiator.writer.zeros(like: source))
      }
    }
    inner.graph.outputs = outputs
    return inner.subgraph
  }
}
