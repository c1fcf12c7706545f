// A region whose steps are known and whose values have no places yet.

import ApusGraph
import ApusTensor

/// A step for one set of shapes. Nodes that plan the same step share it.
final class StepDraft: Sendable {
  let step: Step
  let inputTypes: OperandTypes
  let outputTypes: OperandTypes
  /// Of inputs and outputs.
  let bytes: Int
  /// How its operands lie, where that is not each by itself.
  let placement: OperandPlacement?

  /// `bytes` nil: to be counted.
  init(
    step: consuming Step, inputTypes: OperandTypes, outputTypes: OperandTypes, bytes: Int? = nil,
    placement: OperandPlacement? = nil
  ) {
    self.step = step
    self.placement = placement
    (self.inputTypes, self.outputTypes) = (inputTypes, outputTypes)
    self.bytes = bytes ?? inputTypes.byteCount &+ outputTypes.byteCount
  }

  /// Of the whole step; a kernel that does not say what it moves is taken to move its operands.
  var cost: Cost {
    step.cost.bytes > 0 ? step.cost : Cost(operations: step.cost.operations, bytes: bytes)
  }
}

/// The tensors that are known while planning: constants of the graph, and what was computed.
struct KnownTensors {
  private let constants: [Tensor?]
  /// By value of the graph: the place in `computed`, or -1; empty if `constants` has everything.
  private let places: [Int32]
  private let computed: [Tensor]

  init(_ all: [Tensor?]) { (constants, places, computed) = (all, [], []) }

  init(constants: [Tensor?], places: [Int32], computed: [Tensor]) {
    (self.constants, self.places, self.computed) = (constants, places, computed)
  }

  var count: Int { constants.count }

  subscript(value: Int) -> Tensor? {
    if !places.isEmpty, case let place = Int(places[value]), place >= 0 { return computed[place] }
    return constants[value]
  }

  func contains(_ value: Int) -> Bool { !places.isEmpty && places[value] >= 0 || constants[value] != nil }
}

/// What planning found out about consecutive nodes.
struct RegionDraft {
  let nodes: Range<Int>
  var drafts: [StepDraft]
  /// By draft: its node.
  let draftNodes: [Int]
  let known: KnownTensors
  /// The values that enter, with the types the plan holds for.
  let inputs: [(value: ValueID, type: TensorType)]
  /// The values whose very elements the plan holds for.
  let valuesRead: [(value: ValueID, tensor: Tensor)]
  /// The values that the region leaves behind.
  let outputs: [(value: ValueID, type: TensorType)]
  let caches: CachePlan
  /// True for a plan made from a template: it is wanted soon.
  var isBound = false
  /// The values that steps may write over once nothing else needs them.
  var donated: [ValueID] = []
  /// By draft: its kernel, where that is not the node's (`RegionPlanner.settled`).
  var settled: [Int: any Kernel] = [:]
  /// The values that lie in outputs of later steps.
  var joins: [RegionJoining.Joined] = []

  /// Gives every value its place: as one of the `layouts` has it that holds for these sizes too, or as is found out and
  /// put before them. Values are joined unless the arena would need more memory then.
  func layOut(
    _ program: Program, threads: Int, layouts: inout [RegionLayout]
  ) throws(OperatorError) -> RegionPlan {
    let refusing = layouts.filter(\.refusesJoins)
    if !refusing.isEmpty,
      let plan = try plan(program, order(program, threads: threads), following: refusing)
    {
      return plan
    }
    let joined = RegionJoining.joined(self, program)
    let region = joined ?? self
    let order = region.order(program, threads: threads)
    let others = layouts.filter { !$0.refusesJoins && $0.isJoined == (joined != nil) }
    if let plan = try region.plan(program, order, following: others) { return plan }
    var made = try region.plan(program, order, refusesJoins: false)
    if joined != nil {
      let dense = try plan(program, self.order(program, threads: threads), refusesJoins: true)
      if dense.plan.arenaLowerBound < made.plan.arenaLowerBound { made = dense }
    }
    layouts.insert(made.layout, at: 0)
    if layouts.count > RegionLayout.mostOfTemplate { layouts.removeLast() }
    return made.plan
  }

  private func order(_ program: Program, threads: Int) -> SideBySide.Order {
    SideBySide.order(drafts, nodes: draftNodes, program: program, threads: threads)
  }

  /// The plan with the places of the first layout that holds for it; nil if none does.
  private func plan(
    _ program: Program, _ order: SideBySide.Order, following layouts: [RegionLayout]
  ) throws(OperatorError) -> RegionPlan? {
    for layout in layouts where layout.holds(for: self, in: order) {
      return RegionPlan(self, layout, try layout.place(self, program: program))
    }
    return nil
  }

  /// The plan with a layout of its own.
  private func plan(
    _ program: Program, _ order: SideBySide.Order, refusesJoins: Bool
  ) throws(OperatorError) -> (plan: RegionPlan, layout: RegionLayout) {
    var builder = MemoryLayoutBuilder(self, program: program, order: order, refusesJoins: refusesJoins)
    let layout = try builder.build(self)
    return (RegionPlan(self, layout, try layout.place(self, program: program)), layout)
  }
}
