// A region whose steps are known and whose values have no places yet.

import ApusGraph
import ApusTensor

/// A step for one set of shapes. Nodes that plan the same step share it.
final class StepDraft: Sendable {
  let step: Step
  let inputTypes: [TensorType?]
  let outputTypes: [TensorType?]
  /// Of inputs and outputs.
  let bytes: Int
  /// How its operands lie, where that is not each by itself.
  let placement: OperandPlacement?

  /// `bytes` nil: to be counted.
  init(
    step: consuming Step, inputTypes: [TensorType?], outputTypes: [TensorType?], bytes: Int? = nil,
    placement: OperandPlacement? = nil
  ) {
    self.step = step
    self.placement = placement
    (self.inputTypes, self.outputTypes) = (inputTypes, outputTypes)
    if let bytes {
      self.bytes = bytes
      return
    }
    var count = 0
    for type in inputTypes { count &+= type?.byteCount ?? 0 }
    for type in outputTypes { count &+= type?.byteCount ?? 0 }
    self.bytes = count
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
  /// The values that lie in outputs of later steps.
  var joins: [RegionJoining.Joined] = []

  /// Gives every value its place: as `layout` has it, where that holds for these sizes too, or as is found out and left
  /// in `layout`. Values are joined unless the arena would need more memory then.
  func layOut(
    _ program: Program, threads: Int, layout: inout RegionLayout?
  ) throws(OperatorError) -> RegionPlan {
    let former = layout
    if let former, former.refusesJoins, let plan = try self.plan(program, threads: threads, following: former) {
      return plan
    }
    let joined = RegionJoining.joined(self, program)
    if let former, former.isJoined == (joined != nil),
      let plan = try (joined ?? self).plan(program, threads: threads, following: former)
    {
      return plan
    }
    guard let joined else { return try plan(program, threads: threads, refusesJoins: false, &layout) }
    var (joinedLayout, denseLayout) = (layout, layout)
    let plan = try joined.plan(program, threads: threads, refusesJoins: false, &joinedLayout)
    let dense = try self.plan(program, threads: threads, refusesJoins: true, &denseLayout)
    let isWorthwhile = plan.arenaLowerBound <= dense.arenaLowerBound
    layout = isWorthwhile ? joinedLayout : denseLayout
    return isWorthwhile ? plan : dense
  }

  /// The plan with the places of a layout; nil if that does not hold for it.
  private func plan(
    _ program: Program, threads: Int, following layout: RegionLayout
  ) throws(OperatorError) -> RegionPlan? {
    let order = SideBySide.order(drafts, nodes: draftNodes, program: program, threads: threads)
    guard layout.holds(for: drafts, joins, caches, in: order) else { return nil }
    return RegionPlan(self, layout, try layout.place(self, program: program))
  }

  /// The plan with a layout of its own.
  private func plan(
    _ program: Program, threads: Int, refusesJoins: Bool, _ layout: inout RegionLayout?
  ) throws(OperatorError) -> RegionPlan {
    let order = SideBySide.order(drafts, nodes: draftNodes, program: program, threads: threads)
    var builder = MemoryLayoutBuilder(self, program: program, order: order, refusesJoins: refusesJoins)
    let made = try builder.build()
    layout = made
    return RegionPlan(self, made, try made.place(self, program: program))
  }
}
