// The optimizer: named passes in a fixed order, each reported, each of which can be left out.

import ApusGraph
import ApusTensor

/// What one pass did to a model.
package struct PassReport: Sendable {
  /// A pattern that was there and could not be replaced.
  package struct Refusal: Sendable, Hashable {
    package let fusion: String
    /// The last node of the pattern.
    package let node: String
    package let reason: String
  }

  package let pass: String
  /// Rewrites made, subgraphs included.
  package let changes: Int
  package let nodesBefore: Int
  package let nodesAfter: Int
  package let refusals: [Refusal]
}

/// A rewrite of a whole graph that keeps its results.
package protocol GraphPass: Sendable {
  /// The name by which users switch it off, in words joined by hyphens.
  var name: String { get }
  /// Rewrites the graph and returns the number of changes. Subgraphs are the driver's duty.
  func run(_ graph: inout GraphEditor, within work: OptimizerWork) throws(OperatorError) -> Int
}

/// What a pass has to say beside its changes.
final class PassLog {
  private(set) var refusals: [PassReport.Refusal] = []

  /// Notes a refusal once, however often the pattern is looked at.
  func note(_ refusal: PassReport.Refusal) { if !refusals.contains(refusal) { refusals.append(refusal) } }

  func take() -> [PassReport.Refusal] {
    defer { refusals = [] }
    return refusals
  }
}

/// How many changes passes may still make, for bisecting.
package final class PatchBudget {
  private var remaining: Int

  /// nil: as many as they like.
  init(_ count: Int?) { remaining = count ?? .max }

  var mayPatch: Bool { remaining > 0 }

  /// One change was made.
  func count() { remaining -= 1 }

  /// True if one more change may be made, which is counted.
  func take() -> Bool {
    if remaining <= 0 { return false }
    remaining -= 1
    return true
  }
}

/// What all passes over one model share.
package struct OptimizerWork {
  package let registry: OperatorRegistry
  /// The memory and the time of the loading.
  package let allowance: Allowance
  /// The memory of the constants that the passes make, as a part of the loading's.
  package let folding: Allowance
  let budget: PatchBudget
  let log = PassLog()
  /// Whether the passes work on a graph inside a node.
  private(set) var isInside = false

  /// Constants of at most this many bytes may be made for any model,
  static let smallestFoldedBytes = 64 << 20
  /// and of so many times the bytes of the model's own: integers of 4 bits that become float32.
  static let foldedGrowth = 8

  init(_ graph: Graph, registry: OperatorRegistry, allowance: Allowance, budget: PatchBudget = PatchBudget(nil)) {
    (self.registry, self.allowance, self.budget) = (registry, allowance, budget)
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

  /// Infers what has changed; throws the first error.
  func settle(_ graph: inout GraphEditor) throws(OperatorError) { try graph.settle(keepsFaults: isInside) }
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
  /// The number of changes to make; nil: all. For bisecting.
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
  /// Quantized weights stay quantized.
  package static func portablePasses(forOpset opset: Int) -> [any GraphPass] {
    portablePasses(ConstantFolding(keepsTransposes: true, keepsQuantized: true), opset)
  }

  private static func portablePasses(_ folding: ConstantFolding, _ opset: Int) -> [any GraphPass] {
    [
      IdentityElimination(), SubgraphConstants(), folding, IdentityElimination(), CommonSubexpressionElimination(),
      FusionPass(portableFusions, opset: opset), DeadNodeElimination(),
    ]
  }

  /// For a graph that an importer of another framework has made, before anybody sees it.
  package static let importPasses: [any GraphPass] = [
    IdentityElimination(), TransposeMovement(), TransposeCancellation(), CommonSubexpressionElimination(),
    DeadNodeElimination(),
  ]

  /// For a graph that is about to be written in another framework's format. Integers that stand for floats stay
  /// integers.
  package static let exportPasses = portablePasses(exportFolding, .max)

  /// For such a graph when its exporter has brought it to the order of axes of the format.
  package static let arrangedPasses: [any GraphPass] = [
    IdentityElimination(), TransposeMovement(), TransposeCancellation(), exportFolding, IdentityElimination(),
    CommonSubexpressionElimination(), DeadNodeElimination(),
  ]

  private static let exportFolding = ConstantFolding(keepsQuantized: true, smallQuantized: 0)

  /// Passes that end in the operators of this engine's own domain.
  package static let enginePasses: [any GraphPass] = [
    SubgraphConstants(), WindowMasks(), FusionPass(attentionFusions), FusionPass(matrixFusions), ChannelsLast(),
    TransposeCancellation(), FusionPass(engineFusions),
    // What fusions left behind must not be computed first: a weight that is read transposed now, say.
    DeadNodeElimination(), ConstantFolding(), DeadNodeElimination(),
  ]

  /// Before constants are folded, which would make floats of quantized weights.
  private static let integerPasses: [any GraphPass] = [
    ByteMaps(), QuantizedMovement(), FusionPass(integerFusions), DeadNodeElimination(),
  ]

  /// What makes standard operators on integers of those on floats between DequantizeLinear and QuantizeLinear.
  package static let integerOperatorPasses: [any GraphPass] = [
    QuantizedMovement(), FusionPass(integerOperatorFusions), DeadNodeElimination(),
  ]

  package static let allPasses = allPasses(forOpset: .max)

  /// All passes, with fusions into standard operators of that operator set of the default domain at most.
  package static func allPasses(forOpset opset: Int) -> [any GraphPass] {
    integerPasses + [WidenHalves()] + portablePasses(ConstantFolding(keepsTransposes: true), opset) + enginePasses
  }

  /// For a graph whose engine operators have been lowered: where two of them met, their Transposes cancel.
  package static let loweredPasses: [any GraphPass] = [TransposeCancellation(), DeadNodeElimination()]

  /// Runs the passes within `allowance`. What changed is inferred anew after each, and the graph verified.
  package func optimize(
    _ graph: inout Graph, allowance: Allowance = .unlimited
  ) throws(OperatorError) -> [PassReport] {
    let work = OptimizerWork(graph, registry: registry, allowance: allowance, budget: PatchBudget(stopAfter))
    var reports: [PassReport] = []
    var editor = GraphEditor(graph, inference: work.inference)
    var count = editor.totalNodeCount
    for pass in passes where !disabled.contains(pass.name) && work.budget.mayPatch {
      try allowance.checkTime()
      let changes = try run(pass, on: &editor, within: work)
      if changes > 0 {
        do throws(OperatorError) {
          try editor.verify()
        } catch {
          throw Optimizer.fault(of: pass, error)
        }
      }
      let before = count
      count = changes > 0 ? editor.totalNodeCount : count
      reports.append(
        PassReport(
          pass: pass.name, changes: changes, nodesBefore: before, nodesAfter: count, refusals: work.log.take()))
    }
    graph = editor.finish()
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
    _ pass: any GraphPass, on graph: inout GraphEditor, within work: OptimizerWork
  ) throws(OperatorError) -> Int {
    let notes = graph.noteCount
    var changes = try pass.run(&graph, within: work)
    for node in graph.nodes where graph.hasSubgraphs(node) {
      changes += try graph.updateSubgraphs(of: node) { (subgraph) throws(OperatorError) in
        var inner = GraphEditor(subgraph.takeGraph(), inference: work.inference)
        let made = try run(pass, on: &inner, within: work.inside)
        subgraph.graph = inner.finish()
        return made
      }
    }
    if changes > 0 {
      do throws(OperatorError) {
        try work.settle(&graph)
      } catch {
        var error = error
        if error.code != .limit { error.message += " (found after the pass '\(pass.name)')" }
        throw error
      }
      // All shapes were inferred before; what contradicts them now computes something else.
      if let note = graph.notes(after: notes).first { throw Optimizer.fault(of: pass, .invalid(note)) }
    }
    return changes
  }
}

extension Subgraph {
  /// The graph, of which nothing stays here: it can be changed without a copy.
  fileprivate mutating func takeGraph() -> Graph {
    let taken = graph
    graph = Graph()
    return taken
  }
}
