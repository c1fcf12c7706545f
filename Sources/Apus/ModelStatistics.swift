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
  /// Operators whose multiply-adds could not be counted.
  package var uncounted: [String] = []
  /// Bytes of the values that are alive at the step with the most, inputs and outputs included: an upper bound on the
  /// working memory, before values are computed in place. Unknown if a shape is.
  package var peakBytes = Dim(0)

  package init(_ graph: Graph) {
    count(graph)
    for node in graph.nodes { count(node, in: graph) }
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

  private mutating func count(_ node: Node, in graph: Graph) {
    // Those of the engine have the operands of the standard ones.
    guard ModelStatistics.counted.contains(node.op.name), ["", "com.microsoft", "apus"].contains(node.op.domain) else {
      return
    }
    let product = ModelStatistics.multiplyAdds(of: node, in: graph)
    if product.isUnknown {
      uncounted.append("\(node.op) '\(node.name)'")
    } else {
      multiplyAdds = multiplyAdds + product
    }
  }

  private static let counted: Set<String> = [
    "Conv", "ConvInteger", "QLinearConv", "ConvTranspose", "MatMul", "MatMulInteger", "QLinearMatMul", "Gemm", "LSTM",
    "GRU",
    "RNN", "Attention",
  ]

  private static func multiplyAdds(of node: Node, in graph: Graph) -> Dim {
    func shape(_ index: Int) -> [Dim]? {
      index < node.inputs.count ? node.inputs[index].flatMap { graph.fact($0).tensor?.shape } : nil
    }
    let output = node.outputs.first.flatMap { $0 }.flatMap { graph.fact($0).tensor?.shape }
    func product(_ dims: some Sequence<Dim>) -> Dim { dims.reduce(Dim(1), *) }
    switch node.op.name {
    case "Conv", "ConvInteger", "QLinearConv":
      guard let weights = shape(node.op.name == "QLinearConv" ? 3 : 1), let output else { return .unknown }
      return product(output) * product(weights.dropFirst())
    case "ConvTranspose":
      guard let x = shape(0), let weights = shape(1) else { return .unknown }
      return product(x) * product(weights.dropFirst())
    case "MatMul", "MatMulInteger", "QLinearMatMul":
      guard let inner = shape(0)?.last, let output else { return .unknown }
      return product(output) * inner
    case "Gemm":
      guard let a = shape(0), a.count == 2, let output else { return .unknown }
      return product(output) * a[node.attributes.int("transA") ?? 0 != 0 ? 0 : 1]
    case "LSTM", "GRU", "RNN":
      guard let x = shape(0), x.count == 3, let w = shape(1), let r = shape(2) else { return .unknown }
      return x[0] * x[1] * (product(w) + product(r))
    default:
      guard let q = shape(0), let k = shape(1), q.count == 4, k.count == 4, let output else { return .unknown }
      return product(q) * k[2] + product(output) * k[2]
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
