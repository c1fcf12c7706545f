// The operator sets that a model is written for: the lowest that hold it, not above those it came from if that can be.

import ApusGraph

/// Chooses operator sets, and brings nodes to the forms that these have.
package struct OpsetChoice {
  let registry: OperatorRegistry
  /// The operator sets that the model was read from, by domain; the newest where there is none.
  let source: [String: Int]

  /// The first operator set with today's rules of broadcasting; none is written for that is older.
  package static let oldest = 7

  /// The graph in the forms of the operator sets that come with it. `wanted` is the one of the default domain that the
  /// caller asks for; throws if that cannot hold the graph.
  func apply(to graph: Graph, wanted: Int?) throws(OperatorError) -> (graph: Graph, opsets: [String: Int]) {
    var opsets: [String: Int] = [:]
    var result = graph
    for domain in domains(of: graph).union([""]).sorted() {
      let newest = registry.all.filter { $0.schema.id.domain == domain }.compactMap(\.schema.versions.last).max() ?? 1
      let read = source[domain] ?? newest
      let range = Range(
        domain: domain, read: read, floor: registry.opsetForms?.floor ?? read, newest: newest,
        wanted: domain.isEmpty ? wanted : nil)
      if domain.isEmpty, let forms = registry.opsetForms, range.first < forms.firstWithoutJoinedNodes,
        let found = try? lowest(in: range.upTo(forms.firstWithoutJoinedNodes - 1), forms.joined(result))
      {
        (result, opsets[domain]) = found
      } else {
        (result, opsets[domain]) = try lowest(in: range, result)
      }
    }
    return (result, opsets)
  }

  /// The operator sets of a domain that come into question, and the one that the model was read from.
  private struct Range {
    let domain: String
    let read: Int
    let first: Int
    var last: Int
    /// Whether the caller asks for this operator set: young operators are taken apart then.
    let isWanted: Bool

    init(domain: String, read: Int, floor: Int, newest: Int, wanted: Int?) {
      self.domain = domain
      isWanted = wanted != nil
      self.read = read
      first = wanted ?? (domain.isEmpty ? max(OpsetChoice.oldest, min(read, floor)) : read)
      last = wanted ?? max(newest, first)
    }

    func upTo(_ opset: Int) -> Range {
      var copy = self
      copy.last = min(last, opset)
      return copy
    }
  }

  private func domains(of graph: Graph) -> Set<String> {
    graph.nodes.reduce(into: []) { found, node in
      found.insert(node.op.domain)
      for (_, subgraph) in node.subgraphs { found.formUnion(domains(of: subgraph.graph)) }
    }
  }

  /// The graph in the forms of the first operator set of a range in which every node of the domain has one.
  private func lowest(in range: Range, _ graph: Graph) throws(OperatorError) -> (Graph, Int) {
    var refusal = OperatorError.unsupported("the model cannot be written for operator set \(range.last)")
    for opset in range.first...max(range.first, range.last) {
      let target = OpsetTarget(opset: opset, source: range.read)
      do throws(OperatorError) {
        return (try written(graph, range.domain, target, decomposes: range.isWanted), opset)
      } catch {
        refusal = error
      }
    }
    throw refusal
  }

  private func written(
    _ graph: Graph, _ domain: String, _ target: OpsetTarget, decomposes: Bool
  ) throws(OperatorError) -> Graph {
    let builder = GraphBuilder(rewriting: graph, inference: InferenceDriver(registry: registry))
    for var node in graph.nodes {
      do throws(OperatorError) {
        if node.hasSubgraphs {
          try node.attributes.updateGraphs { (subgraph) throws(OperatorError) in
            subgraph.graph = try written(subgraph.graph, domain, target, decomposes: decomposes)
          }
        }
        try write(node, domain, target, to: builder, depth: decomposes ? Self.decompositions : 0)
      } catch {
        throw error.inside(node)
      }
    }
    return builder.graph
  }

  /// Operators are made of others that may have to be taken apart in turn, so many times.
  private static let decompositions = 4

  private func write(
    _ node: Node, _ domain: String, _ target: OpsetTarget, to builder: GraphBuilder, depth: Int
  ) throws(OperatorError) {
    guard node.op.domain == domain, let forms = registry.opsetForms else { return builder.appendUnchecked(node) }
    let versions = registry.definition(of: node.op)?.schema.versions ?? []
    if let form = forms.form(of: node, versions: versions, in: target, builder) {
      // It is not in the newest form, which is all that can be checked.
      return builder.appendUnchecked(form)
    }
    guard depth > 0, let parts = try forms.decomposed(node, in: builder) else {
      throw .unsupported(
        "\(node.op) has no form in operator set \(target.opset) that means the same"
          + forms.obstacle(of: node, in: target, registry),
        remedy: "Ask for a newer operator set, or for none")
    }
    for part in parts { try write(part, domain, target, to: builder, depth: depth - 1) }
  }
}
