// The optimizer: named passes in a fixed order, each reported, each of which can be left out.

import ApusGraph
import ApusTensor

/// What one pass did to a model.
package struct PassReport: Sendable {
  package let pass: String
  /// Rewrites made, subgraphs included.
  package let changes: Int
  package let nodesBefore: Int
  package let nodesAfter: Int
}

/// A rewrite of a whole graph that keeps its results.
package protocol GraphPass: Sendable {
  /// The name by which users switch it off, in words joined by hyphens.
  var name: String { get }
  /// Rewrites `graph` and returns the number of changes. Subgraphs are the driver's duty.
  func run(_ graph: inout Graph, registry: OperatorRegistry) throws(OperatorError) -> Int
}

/// Runs the passes over a graph and its subgraphs.
package struct Optimizer: Sendable {
  package let registry: OperatorRegistry
  package let passes: [any GraphPass]
  package let disabled: Set<String>
  /// The number of passes to run; nil runs all. For bisecting.
  package let stopAfter: Int?

  package init(
    registry: OperatorRegistry, passes: [any GraphPass] = Optimizer.allPasses, disabled: Set<String> = [],
    stopAfter: Int? = nil
  ) {
    (self.registry, self.passes, self.disabled, self.stopAfter) = (registry, passes, disabled, stopAfter)
  }

  /// Passes that keep to standard operators; what they leave can be saved as ONNX.
  package static let portablePasses: [any GraphPass] = [
    IdentityElimination(), SubgraphConstants(), ConstantFolding(keepsTransposes: true), IdentityElimination(),
    CommonSubexpressionElimination(), FusionPass(portableFusions), DeadNodeElimination(),
  ]

  /// Passes that end in the operators of this engine's own domain.
  package static let enginePasses: [any GraphPass] = [
    SubgraphConstants(), FusionPass(matrixFusions), ChannelsLast(), TransposeCancellation(), FusionPass(engineFusions),
    ConstantFolding(), DeadNodeElimination(),
  ]

  package static let allPasses = portablePasses + enginePasses

  /// Runs the passes. The facts of every value are inferred anew after a pass that changed something. `beforePass` may
  /// end the work by an error.
  package func optimize(
    _ graph: inout Graph, beforePass: () throws(OperatorError) -> Void = {}
  ) throws(OperatorError) -> [PassReport] {
    var reports: [PassReport] = []
    for pass in passes.prefix(stopAfter ?? Int.max) where !disabled.contains(pass.name) {
      try beforePass()
      let before = Optimizer.nodeCount(graph)
      let changes = try run(pass, on: &graph)
      reports.append(
        PassReport(pass: pass.name, changes: changes, nodesBefore: before, nodesAfter: Optimizer.nodeCount(graph)))
    }
    return reports
  }

  private func run(_ pass: any GraphPass, on graph: inout Graph) throws(OperatorError) -> Int {
    var changes = try pass.run(&graph, registry: registry)
    for index in graph.nodes.indices {
      for entry in graph.nodes[index].attributes.entries.indices {
        switch graph.nodes[index].attributes.entries[entry].value {
        case .graph(var subgraph):
          changes += try run(pass, on: &subgraph.graph)
          graph.nodes[index].attributes.entries[entry].value = .graph(subgraph)
        case .graphs(var subgraphs):
          for position in subgraphs.indices { changes += try run(pass, on: &subgraphs[position].graph) }
          graph.nodes[index].attributes.entries[entry].value = .graphs(subgraphs)
        default: break
        }
      }
    }
    if changes > 0 {
      if let error = InferenceDriver(registry: registry).infer(&graph).first { throw error }
      #if DEBUG
      try GraphVerifier.verify(graph)
      #endif
    }
    return changes
  }

  private static func nodeCount(_ graph: Graph) -> Int {
    graph.nodes.reduce(0) { $0 + 1 + $1.subgraphs.reduce(0) { $0 + nodeCount($1.subgraph.graph) } }
  }
}
