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
  /// The same for passes that make constants or take long.
  func run(_ graph: inout Graph, within work: OptimizerWork) throws(OperatorError) -> Int
}

extension GraphPass {
  package func run(_ graph: inout Graph, within work: OptimizerWork) throws(OperatorError) -> Int {
    try run(&graph, registry: work.registry)
  }
}

/// What all passes over one model share.
package struct OptimizerWork: Sendable {
  package let registry: OperatorRegistry
  /// The memory and the time of the loading.
  package let allowance: Allowance
  /// The memory of the constants that the passes make, as a part of the loading's.
  package let folding: Allowance
  /// Whether the passes work on a graph inside a node.
  private(set) var isInside = false

  /// Constants of at most this many bytes may be made for any model,
  static let smallestFoldedBytes = 64 << 20
  /// and of so many times the bytes of the model's own: integers of 8 bits that become float32.
  static let foldedGrowth = 4

  init(_ graph: Graph, registry: OperatorRegistry, allowance: Allowance) {
    (self.registry, self.allowance) = (registry, allowance)
    let (grown, overflow) = graph.constantBytes.multipliedReportingOverflow(by: OptimizerWork.foldedGrowth)
    folding = allowance.charging(
      MemoryAccount(
        limit: max(OptimizerWork.smallestFoldedBytes, overflow ? .max : grown), name: "the bound of folded constants",
        parent: allowance.memory))
  }

  /// The same work on a graph inside a node.
  var inside: OptimizerWork {
    var work = self
    work.isInside = true
    return work
  }

  /// Types and shapes under what the passes know. A graph inside a node may never run: what cannot run there is no
  /// error.
  var inference: InferenceDriver {
    InferenceDriver(registry: registry, allowance: allowance, keepsFaultySubgraphs: true)
  }

  /// Infers the graph anew; throws the first error.
  func infer(_ graph: inout Graph) throws(OperatorError) {
    let error = inference.infer(&graph).first { !isInside || $0.code != .invalidInput }
    if let error { throw error }
  }
}

extension Graph {
  /// Bytes of the constants of the graph and its subgraphs.
  fileprivate var constantBytes: Int {
    var total = values.reduce(0) { $0 &+ ($1.constant?.byteCount ?? 0) }
    for node in nodes {
      for (_, subgraph) in node.subgraphs { total &+= subgraph.graph.constantBytes }
    }
    return max(total, 0)
  }
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
  package static let portablePasses = portablePasses(forOpset: .max)

  /// The portable passes, with fusions into operators of that operator set of the default domain at most.
  package static func portablePasses(forOpset opset: Int) -> [any GraphPass] {
    [
      IdentityElimination(), SubgraphConstants(), ConstantFolding(keepsTransposes: true), IdentityElimination(),
      CommonSubexpressionElimination(), FusionPass(portableFusions, opset: opset), DeadNodeElimination(),
    ]
  }

  /// Passes that end in the operators of this engine's own domain.
  package static let enginePasses: [any GraphPass] = [
    SubgraphConstants(), FusionPass(matrixFusions), ChannelsLast(), TransposeCancellation(), FusionPass(engineFusions),
    // What fusions left behind must not be computed first: a weight that is read transposed now, say.
    DeadNodeElimination(), ConstantFolding(), DeadNodeElimination(),
  ]

  package static let allPasses = portablePasses + enginePasses

  /// Runs the passes within `allowance`. The facts of every value are inferred anew after a pass that changed
  /// something.
  package func optimize(
    _ graph: inout Graph, allowance: Allowance = .unlimited
  ) throws(OperatorError) -> [PassReport] {
    let work = OptimizerWork(graph, registry: registry, allowance: allowance)
    var reports: [PassReport] = []
    for pass in passes.prefix(stopAfter ?? Int.max) where !disabled.contains(pass.name) {
      try allowance.checkTime()
      let before = Optimizer.nodeCount(graph)
      let changes = try run(pass, on: &graph, within: work)
      if changes > 0 {
        do throws(OperatorError) {
          try GraphVerifier.verify(graph, registry: registry)
        } catch {
          throw Optimizer.fault(of: pass, error)
        }
      }
      reports.append(
        PassReport(pass: pass.name, changes: changes, nodesBefore: before, nodesAfter: Optimizer.nodeCount(graph)))
    }
    return reports
  }

  /// An error for what a pass left: the graph was good before.
  private static func fault(of pass: any GraphPass, _ error: OperatorError) -> OperatorError {
    var fault = error
    fault.message = "the pass '\(pass.name)' left a graph that cannot be: \(error.message)"
    fault.remedy = "This is a fault of Apus. Leave the pass out (it is disabled by its name) and report the model"
    return fault
  }

  /// Runs the pass over the graph, then over its subgraphs, and infers what it changed anew.
  private func run(
    _ pass: any GraphPass, on graph: inout Graph, within work: OptimizerWork
  ) throws(OperatorError) -> Int {
    let notes = graph.notes.count
    var changes = try pass.run(&graph, within: work)
    for index in graph.nodes.indices {
      try graph.nodes[index].attributes.updateGraphs { (subgraph) throws(OperatorError) in
        changes += try run(pass, on: &subgraph.graph, within: work.inside)
      }
    }
    if changes > 0 {
      do throws(OperatorError) {
        try work.infer(&graph)
      } catch {
        var error = error
        if error.code != .limit { error.message += " (found after the pass '\(pass.name)')" }
        throw error
      }
      // All shapes were inferred before; what contradicts them now computes something else.
      if graph.notes.count > notes { throw Optimizer.fault(of: pass, .invalid(graph.notes[notes])) }
    }
    return changes
  }

  private static func nodeCount(_ graph: Graph) -> Int {
    graph.nodes.reduce(0) { count, node in
      count + 1 + (node.hasSubgraphs ? node.subgraphs.reduce(0) { $0 + nodeCount($1.subgraph.graph) } : 0)
    }
  }
}
