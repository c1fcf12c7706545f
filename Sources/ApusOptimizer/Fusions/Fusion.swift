// Fusions: small patterns of nodes, each replaced by fewer. `GraphEditor.apply` guards what others still use.

import ApusGraph
import ApusOperators
import ApusTensor

/// A pattern of nodes and what replaces it.
protocol Fusion: Sendable {
  /// The name in reports and options.
  var name: String { get }
  /// The operators that the last node of the pattern may have.
  var roots: Set<OperatorID> { get }
  /// The patch if the pattern ends at node `root`. Need not look at who else uses the values inside: applying it does.
  /// The new nodes must give what the removed ones gave for every input: types, ranks and extents too.
  func match(root: NodeID, in graph: borrowing GraphEditor) -> GraphPatch?
}

/// Applies fusions until none matches any more.
struct FusionPass: GraphPass {
  let name: String
  /// By the operator of the pattern's last node, in the order in which they are tried.
  private let fusions: [OperatorID: [any Fusion]]
  /// The newest operator set of the default domain that new nodes may be of.
  private let opset: Int

  init(_ group: FusionGroup, opset: Int = .max) {
    name = group.name
    self.opset = opset
    var fusions: [OperatorID: [any Fusion]] = [:]
    for fusion in group.fusions {
      for root in fusion.roots { fusions[root, default: []].append(fusion) }
    }
    self.fusions = fusions
  }

  func run(_ graph: inout GraphEditor, within work: OptimizerWork) throws(OperatorError) -> Int {
    var total = 0
    // Each walk shortens the graph, so it ends; the bound is against a fusion that does not.
    for _ in 0..<64 {
      var found = 0
      var next = graph.firstNode
      while let root = next {
        next = graph.node(after: root)
        if fuse(endingAt: root, &graph, work) { found += 1 }
      }
      if found == 0 { break }
      total += found
      try work.settle(&graph)
    }
    return total
  }

  /// Applies the first fusion whose pattern ends at the node.
  private func fuse(endingAt root: NodeID, _ graph: inout GraphEditor, _ work: OptimizerWork) -> Bool {
    guard let candidates = fusions[graph.op(of: root)] else { return false }
    for fusion in candidates {
      guard let patch = fusion.match(root: root, in: graph), isAllowed(patch, registry: work.registry) else { continue }
      do throws(PatchRefusal) {
        guard work.budget.mayPatch else { return false }
        try graph.apply(patch, at: root)
        work.budget.count()
        return true
      } catch {
        work.log.note(
          .init(fusion: fusion.name, node: "\(graph[root].op) '\(graph[root].name)'", reason: "\(error)"))
      }
    }
    return false
  }

  private func isAllowed(_ patch: GraphPatch, registry: OperatorRegistry) -> Bool {
    patch.added.allSatisfy { node in
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
    GeluFusion.erf, GeluFusion.tanh, SwishFusion(), HardSwishFusion(), HardSigmoidFusion(), NormalizationFusion(),
    NormalizationWeightsFusion(), ConvAffineFusion(),
    AttentionFusion(isBare: false), RepeatedHeadsFusion(op: OperatorID("Attention")),
    AttentionLayoutFusion(op: OperatorID("Attention")),
  ])
let integerFusions = FusionGroup(
  name: "fuse-quantized",
  fusions: [
    QuantizedConvFusion(), QuantizedMatMulFusion(), QuantizedGemmFusion(), IntegerGemmFusion(),
    ScaledIntegerProductFusion(), NBitsFusion(), QuantizedElementwiseFusion(),
    QuantizedMeanFusion(),
  ])
let integerOperatorFusions = FusionGroup(
  name: "fuse-quantized", fusions: [QuantizedConvFusion(), QuantizedMatMulFusion()])
let attentionFusions = FusionGroup(
  name: "fuse-attention",
  fusions: [
    AttentionFusion(isBare: true), RepeatedHeadsFusion(op: FusedAttention.id),
    AttentionLayoutFusion(op: FusedAttention.id),
  ])
let matrixFusions = FusionGroup(
  name: "fuse-matrix-products",
  fusions: [GemmFusion(), TurnedProductFusion(), ScaledProductFusion(), GemmEpilogueFusion()])
let engineFusions = FusionGroup(name: "fuse-convolutions", fusions: [ConvEpilogueFusion()])
