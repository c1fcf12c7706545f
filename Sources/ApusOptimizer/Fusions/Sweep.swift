// One walk of the fusions over a graph: what patterns may look at, and which rewrites may stand beside each other.

import ApusGraph
import ApusTensor

/// A graph while fusions look for patterns in it. It stays as it is until the sweep ends; rewrites that were accepted
/// hide the nodes that they take. A rewrite that reads, or takes, what another one has taken waits for the next sweep.
struct Sweep {
  let graph: Graph
  private let index: GraphIndex
  /// By node: true if an accepted rewrite removes or replaces it.
  private var taken: [Bool]
  /// By value: the position at which it is computed; -1 if it exists before any node runs; nil if nobody computes it.
  private var computedAt: [Int?]
  /// By value: the first position at which an accepted rewrite reads it.
  private var readAnewAt: [Int?]
  /// By the position of the root.
  private var accepted: [Int: Rewrite] = [:]

  init(_ graph: Graph) {
    self.graph = graph
    index = GraphIndex(graph)
    taken = [Bool](repeating: false, count: graph.nodes.count)
    computedAt = index.producers
    for (position, value) in graph.values.enumerated() where value.constant != nil { computedAt[position] = -1 }
    for value in graph.inputs + graph.captures { computedAt[value.index] = -1 }
    readAnewAt = [Int?](repeating: nil, count: graph.values.count)
  }

  /// The number of rewrites that were accepted.
  var changes: Int { accepted.count }

  /// True if a rewrite has taken the node.
  func isChanged(_ node: Int) -> Bool { taken[node] }

  /// Accepts the rewrite if what its nodes read exists where they run, and what vanishes is needed by nobody.
  mutating func accept(_ rewrite: Rewrite, at root: Int) {
    guard isConsistent(rewrite, at: root) else { return }
    let kept = Set(rewrite.added.flatMap(\.outputs).compactMap { $0 })
    for node in rewrite.removed {
      taken[node] = true
      for value in graph.nodes[node].outputs.compactMap({ $0 }) {
        computedAt[value.index] = kept.contains(value) ? root : nil
      }
    }
    for value in rewrite.reads { readAnewAt[value.index] = min(readAnewAt[value.index] ?? root, root) }
    accepted[root] = rewrite
  }

  private func isConsistent(_ rewrite: Rewrite, at root: Int) -> Bool {
    let removed = Set(rewrite.removed)
    guard removed.contains(root), !removed.contains(where: { taken[$0] || $0 > root }) else { return false }
    let made = removed.flatMap { graph.nodes[$0].outputs.compactMap { $0 } }
    let kept = rewrite.added.flatMap(\.outputs).compactMap { $0 }
    guard Set(kept).count == kept.count, Set(kept).isSubset(of: made) else { return false }
    for value in made {
      let others = index.users[value.index].filter { !removed.contains($0) }
      if kept.contains(value) {
        // It comes into being at the root from now on.
        if others.contains(where: { $0 < root }) || readAnewAt[value.index].map({ $0 < root }) ?? false { return false }
      } else if index.isOutput[value.index] || !others.isEmpty || readAnewAt[value.index] != nil {
        return false
      }
    }
    return rewrite.reads.allSatisfy { value in
      guard let position = computedAt[value.index] else { return false }
      return position < root && !made.contains(value)
    }
  }

  /// The graph after all rewrites that were accepted.
  consuming func applied() -> Graph {
    var result = graph
    var nodes: [Node] = []
    for position in graph.nodes.indices {
      guard let rewrite = accepted[position] else {
        if !taken[position] { nodes.append(graph.nodes[position]) }
        continue
      }
      let constants = rewrite.constants.map { result.addConstant($0) }
      for var node in rewrite.added {
        node.inputs = node.inputs.map { input in input.map { $0.index < 0 ? constants[-1 - $0.index] : $0 } }
        nodes.append(node)
      }
    }
    result.nodes = nodes
    return result
  }
}

// MARK: - What patterns ask

extension Sweep {
  /// The node that computes a value, with its position, if it applies `op` and no rewrite has taken it.
  func producer(of value: ValueID?, is op: String, domain: String = "") -> (position: Int, node: Node)? {
    guard let position = index.producer(of: value), !taken[position],
      graph.nodes[position].op == OperatorID(op, domain: domain)
    else { return nil }
    return (position, graph.nodes[position])
  }

  /// True if the value has one use and is no output.
  func hasOneUser(_ value: ValueID) -> Bool { index.onlyUser(of: value) != nil }

  /// The number of uses of the value by nodes; nil if it is an output too.
  func userCount(of value: ValueID) -> Int? { index.isOutput[value.index] ? nil : index.users[value.index].count }

  func constant(_ value: ValueID?) -> Tensor? { graph.constant(value) }
  func dataType(_ value: ValueID?) -> DataType? { value.flatMap { graph.fact($0).tensor?.dataType } }
  func shape(_ value: ValueID?) -> [Dim]? { value.flatMap { graph.fact($0).tensor?.shape } }
  func rank(_ value: ValueID?) -> Int? { shape(value)?.count }

  /// True if both values surely have the same shape.
  func haveSameShape(_ a: ValueID?, _ b: ValueID?) -> Bool {
    guard let x = shape(a), let y = shape(b), x.count == y.count else { return false }
    return zip(x, y).allSatisfy { $0.isSame(as: $1) }
  }

  /// The number that `value` is, if it is a floating-point constant with one element that gives `other` no further axes
  /// when it is broadcast to it.
  func scalar(_ value: ValueID?, beside other: ValueID?) -> ScalarConstant? {
    guard let tensor = constant(value), tensor.rank == 0 || tensor.rank <= rank(other) ?? 0 else { return nil }
    return ScalarConstant(tensor)
  }

  /// The inputs of a commutative node as (value, constant scalar), if one is such a scalar.
  func splitScalar(_ node: Node) -> (value: ValueID, scalar: ScalarConstant)? {
    guard node.inputs.count == 2, let a = node.inputs[0], let b = node.inputs[1] else { return nil }
    if let scalar = scalar(b, beside: a) { return (a, scalar) }
    return scalar(a, beside: b).map { (b, $0) }
  }

  /// The other input of a node with two inputs of which one is `value`.
  func partner(of value: ValueID, in node: Node) -> ValueID? {
    guard node.inputs.count == 2 else { return nil }
    if node.inputs[0] == value { return node.inputs[1] }
    return node.inputs[1] == value ? node.inputs[0] : nil
  }
}

/// A floating-point constant of one element, in full.
struct ScalarConstant {
  let value: Double
  /// How far a number may be from the wanted one to be that number after rounding to its type, relative to it.
  private let tolerance: Double

  init?(_ tensor: Tensor) {
    guard tensor.count == 1 else { return nil }
    let number: Double?
    switch tensor.dataType {
    case .float32: (number, tolerance) = (tensor.elements(as: Float.self)?.first.map { Double($0) }, 1e-6)
    case .float64: (number, tolerance) = (tensor.elements(as: Double.self)?.first, 1e-12)
    case .float16: (number, tolerance) = (tensor.elements(as: Float16.self)?.first.map { Double($0) }, 0x1p-11)
    default: return nil
    }
    guard let number else { return nil }
    value = number
  }

  /// True if this is `wanted`, as far as its type can tell.
  func isClose(to wanted: Double) -> Bool { abs(value - wanted) <= tolerance * abs(wanted) }
}
