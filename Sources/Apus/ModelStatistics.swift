// What a model costs, as far as its graph tells before it runs: parameters, multiply-adds, working memory.

import ApusFormats
import ApusGraph
import ApusOperators
import ApusTensor

/// Figures of a graph as it stands in the file, subgraphs included. Formulas are in the model's symbolic dimensions.
package struct ModelStatistics: Sendable {
  /// Applications of each operator.
  package var operators: [String: Int] = [:]
  package var nodes = 0
  /// Elements of all constants.
  package var parameters = 0
  /// Bytes of the constants by element type.
  package var constantBytes: [DataType: Int] = [:]
  /// Multiply-adds of convolutions, matrix products and recurrences of the main graph; unknown if one of their shapes
  /// is.
  package var multiplyAdds = Dim(0)
  /// Nodes whose multiply-adds could not be counted, or are those of a graph that runs as often as data say.
  package var uncounted: [String] = []
  /// Bytes of the values that are alive at the step with the most, inputs and outputs included: an upper bound on the
  /// working memory, before values are computed in place. Unknown if a shape is.
  package var peakBytes = Dim(0)

  package init(_ graph: Graph, registry: OperatorRegistry = .standard) {
    count(graph)
    for node in graph.nodes { count(node, in: graph, registry) }
    peakBytes = ModelStatistics.peak(of: graph)
  }

  private mutating func count(_ graph: Graph) {
    for value in graph.values {
      guard let tensor = value.constant else { continue }
      parameters += tensor.count
      constantBytes[tensor.dataType, default: 0] += tensor.byteCount
    }
    nodes += graph.nodes.count
    for node in graph.nodes {
      operators["\(node.op)", default: 0] += 1
      for (_, subgraph) in node.subgraphs { count(subgraph.graph) }
    }
  }

  // MARK: - Multiply-adds

  private mutating func count(_ node: Node, in graph: Graph, _ registry: OperatorRegistry) {
    if node.subgraphs.contains(where: { ModelStatistics.multiplies($0.subgraph.graph, registry) }) {
      // How often a body runs is not known.
      uncounted.append("\(node.op) '\(node.name)'")
      return
    }
    guard let schema = registry.definition(of: node.op)?.schema, let formula = schema.multiplyAdds else { return }
    let product = formula(graph.facts(of: node, schema))
    if product.isUnknown {
      uncounted.append("\(node.op) '\(node.name)'")
    } else {
      multiplyAdds = multiplyAdds + product
    }
  }

  /// True if there are products in a graph or in those inside of it.
  private static func multiplies(_ graph: Graph, _ registry: OperatorRegistry) -> Bool {
    graph.nodes.contains { node in
      registry.definition(of: node.op)?.schema.multiplyAdds != nil
        || node.subgraphs.contains { multiplies($0.subgraph.graph, registry) }
    }
  }

  // MARK: - Memory

  /// The formula of the step that needs most when every symbol is 64; steps that differ in growth may overtake it.
  private static func peak(of graph: Graph) -> Dim {
    var lastUse = [Int](repeating: -1, count: graph.values.count)
    for (index, node) in graph.nodes.enumerated() {
      for value in node.dependencies { lastUse[value.index] = index }
    }
    for value in graph.outputs { lastUse[value.index] = graph.nodes.count }
    func bytes(_ value: ValueID) -> Dim {
      guard graph.constant(value) == nil, let fact = graph.fact(value).tensor else { return Dim(0) }
      guard let shape = fact.shape else { return .unknown }
      let count = shape.reduce(Dim(1), *)
      let width = fact.dataType.byteWidth
      return width > 0 && fact.dataType.bits % 8 == 0
        ? count * Dim(width) : (count * Dim(fact.dataType.bits)).dividedRoundingUp(by: Dim(8))
    }
    func sample(_ dim: Dim) -> Int {
      dim.substituting(Dictionary(dim.symbols.map { ($0, Dim(64)) }) { first, _ in first }).known ?? 0
    }
    var alive = graph.inputs.reduce(Dim(0)) { $0 + bytes($1) }
    var best = alive
    var bestSample = sample(alive)
    for (index, node) in graph.nodes.enumerated() {
      let outputs = node.outputs.compactMap { $0 }
      alive = outputs.reduce(alive) { $0 + bytes($1) }
      if case let size = sample(alive), size > bestSample { (best, bestSample) = (alive, size) }
      for value in Set(node.dependencies) where lastUse[value.index] == index { alive = alive - bytes(value) }
      for value in outputs where lastUse[value.index] < index { alive = alive - bytes(value) }
      if alive.isUnknown { return .unknown }
    }
    return best
  }
}
