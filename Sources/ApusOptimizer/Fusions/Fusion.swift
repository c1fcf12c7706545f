// Fusions: small patterns of nodes, each replaced by fewer. The sweep guards what others still use.

import ApusGraph
import ApusTensor

/// A pattern of nodes and what replaces it.
protocol Fusion: Sendable {
  /// The name in reports and options.
  var name: String { get }
  /// The operators that the last node of the pattern may have.
  var roots: Set<OperatorID> { get }
  /// The rewrite if the pattern ends at node `root`. Need not look at who else uses the values inside: the sweep does.
  /// The new nodes must give what the removed ones gave for every input: types, ranks and extents too.
  func match(root: Int, in sweep: Sweep) -> Rewrite?
}

/// Nodes that go, and the nodes that come in the place of the last of them.
struct Rewrite {
  /// Nodes of the pattern that nobody needs any more. A node whose results are used elsewhere must not be among them.
  var removed: [Int]
  /// Computes every value that removed nodes made and that is still used. Runs in the place of the root.
  var added: [Node]
  /// Constants that the new nodes use, made on application: `added` refers to them by their position, see
  /// `constant(_:)`.
  var constants: [Tensor] = []

  /// Stands for `constants[position]` until the rewrite is applied.
  static func constant(_ position: Int) -> ValueID { ValueID(-1 - position) }

  /// The values of the graph that the new nodes read.
  var reads: [ValueID] { added.flatMap(\.dependencies).filter { $0.index >= 0 } }
}

/// Applies fusions until none matches any more.
struct FusionPass: GraphPass {
  let name: String
  let fusions: [any Fusion]
  /// The newest operator set of the default domain that new nodes may be of.
  let opset: Int

  init(_ group: FusionGroup, opset: Int = .max) {
    name = group.name
    fusions = group.fusions
    self.opset = opset
  }

  func run(_ graph: inout Graph, registry: OperatorRegistry) throws(OperatorError) -> Int {
    try run(&graph, within: OptimizerWork(graph, registry: registry, allowance: .unlimited))
  }

  func run(_ graph: inout Graph, within work: OptimizerWork) throws(OperatorError) -> Int {
    let registry = work.registry
    var total = 0
    // Each sweep shortens the graph, so it ends; the bound is against a fusion that does not.
    for _ in 0..<64 {
      var sweep = Sweep(graph)
      for root in graph.nodes.indices {
        for fusion in fusions where fusion.roots.contains(graph.nodes[root].op) && !sweep.isChanged(root) {
          guard let rewrite = fusion.match(root: root, in: sweep), isAllowed(rewrite, registry: registry) else {
            continue
          }
          sweep.accept(rewrite, at: root)
        }
      }
      if sweep.changes == 0 { break }
      total += sweep.changes
      graph = sweep.applied()
      try work.infer(&graph)
    }
    return total
  }

  private func isAllowed(_ rewrite: Rewrite, registry: OperatorRegistry) -> Bool {
    rewrite.added.allSatisfy { node in
      guard let schema = registry.definition(of: node.op)?.schema else { return false }
      return !node.op.domain.isEmpty || schema.version(atOpset: opset) != nil
    }
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
