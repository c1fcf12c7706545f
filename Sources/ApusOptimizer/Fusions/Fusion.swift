// Fusions: small patterns of nodes, each replaced by fewer. The driver guards what others still use.

import ApusGraph
import ApusTensor

/// A pattern of nodes and what replaces it.
protocol Fusion: Sendable {
  /// The name in reports and options.
  var name: String { get }
  /// The operators that the last node of the pattern may have.
  var roots: Set<OperatorID> { get }
  /// The rewrite if the pattern ends at node `root`. Need not look at who else uses the values inside: the driver does.
  func match(root: Int, in graph: Graph, index: GraphIndex) -> Rewrite?
}

/// Nodes that go, and the nodes that come in the place of the last of them.
struct Rewrite {
  /// Nodes of the pattern that nobody needs any more. A node whose results are used elsewhere must not be among them.
  var removed: [Int]
  /// Computes every value that removed nodes made and that is still used. Runs in the place of the root.
  var added: [Node]
  /// Constants that the new nodes use, made on application: `added` refers to them by their position, see `constant(_:)`.
  var constants: [Tensor] = []

  /// Stands for `constants[position]` until the rewrite is applied.
  static func constant(_ position: Int) -> ValueID { ValueID(-1 - position) }
}

/// Applies fusions until none matches any more.
struct FusionPass: GraphPass {
  let name: String
  let fusions: [any Fusion]

  init(_ group: FusionGroup) {
    name = group.name
    fusions = group.fusions
  }

  func run(_ graph: inout Graph, registry: OperatorRegistry) throws(OperatorError) -> Int {
    var total = 0
    // Each sweep shortens the graph, so it ends; the bound is against a fusion that does not.
    for _ in 0..<64 {
      let changes = sweep(&graph, registry: registry)
      if changes == 0 { break }
      total += changes
      _ = InferenceDriver(registry: registry).infer(&graph)
    }
    return total
  }

  private func sweep(_ graph: inout Graph, registry: OperatorRegistry) -> Int {
    let index = GraphIndex(graph)
    var gone = [Bool](repeating: false, count: graph.nodes.count)
    var replaced: [Int: [Node]] = [:]
    var changes = 0
    for root in graph.nodes.indices where !gone[root] {
      for fusion in fusions where fusion.roots.contains(graph.nodes[root].op) {
        guard var rewrite = fusion.match(root: root, in: graph, index: index),
          rewrite.removed.allSatisfy({ !gone[$0] && replaced[$0] == nil }), isSafe(rewrite, in: graph, index: index),
          rewrite.added.allSatisfy({ registry.definition(of: $0.op) != nil })
        else { continue }
        let constants = rewrite.constants.map { graph.addConstant($0) }
        for position in rewrite.added.indices {
          rewrite.added[position].inputs = rewrite.added[position].inputs.map { input in
            input.map { $0.index < 0 ? constants[-1 - $0.index] : $0 }
          }
        }
        for node in rewrite.removed { gone[node] = true }
        gone[root] = true
        replaced[root] = rewrite.added
        changes += 1
        break
      }
    }
    if changes > 0 {
      graph.nodes = graph.nodes.indices.flatMap { replaced[$0] ?? (gone[$0] ? [] : [graph.nodes[$0]]) }
    }
    return changes
  }

  /// True if every value that would vanish is used by vanishing nodes only, and what the new nodes read stays.
  private func isSafe(_ rewrite: Rewrite, in graph: Graph, index: GraphIndex) -> Bool {
    let removed = Set(rewrite.removed)
    let kept = Set(rewrite.added.flatMap(\.outputs).compactMap { $0 })
    for node in removed {
      for value in graph.nodes[node].outputs.compactMap({ $0 }) where !kept.contains(value) {
        if index.isOutput[value.index] || !index.users[value.index].allSatisfy(removed.contains) { return false }
        if rewrite.added.contains(where: { $0.inputs.contains(value) }) { return false }
      }
    }
    return true
  }
}

/// Fusions that run together.
struct FusionGroup: Sendable {
  let name: String
  let fusions: [any Fusion]
}

let portableFusions = FusionGroup(
  name: "fuse-patterns",
  fusions: [
    ErfGeluFusion(), TanhGeluFusion(), SwishFusion(), ConvAffineFusion(), AttentionFusion(), AttentionLayoutFusion(),
  ])
let matrixFusions = FusionGroup(name: "fuse-matrix-products", fusions: [GemmFusion(), GemmEpilogueFusion()])
let engineFusions = FusionGroup(name: "fuse-convolutions", fusions: [ConvEpilogueFusion()])

// MARK: - Help for matching

extension Graph {
  /// The node that computes a value, with its position, if it applies `op`.
  func producer(of value: ValueID?, _ index: GraphIndex, is op: String, domain: String = "") -> (position: Int, node: Node)? {
    guard let position = index.producer(of: value), nodes[position].op == OperatorID(op, domain: domain) else { return nil }
    return (position, nodes[position])
  }

  /// The value of a float constant with one element.
  func scalar(_ value: ValueID?) -> Float? {
    guard let tensor = constant(value), tensor.count == 1 else { return nil }
    switch tensor.dataType {
    case .float32: return tensor.elements(as: Float.self)?.first
    case .float64: return tensor.elements(as: Double.self)?.first.map { Float($0) }
    case .float16: return tensor.elements(as: Float16.self)?.first.map { Float($0) }
    default: return nil
    }
  }

  /// The other input of a node with two inputs of which one is `value`.
  func partner(of value: ValueID, in node: Node) -> ValueID? {
    guard node.inputs.count == 2 else { return nil }
    if node.inputs[0] == value { return node.inputs[1] }
    return node.inputs[1] == value ? node.inputs[0] : nil
  }

  /// The inputs of a commutative node as (value, constant scalar), if one is such a scalar.
  func splitScalar(_ node: Node) -> (value: ValueID, scalar: Float)? {
    guard node.inputs.count == 2, let a = node.inputs[0], let b = node.inputs[1] else { return nil }
    if let scalar = scalar(b) { return (a, scalar) }
    return scalar(a).map { (b, $0) }
  }
}

func isClose(_ a: Float, _ b: Float) -> Bool { abs(a - b) <= 1e-5 * max(abs(a), abs(b)) }
