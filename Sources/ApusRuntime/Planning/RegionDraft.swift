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

  /// `bytes` nil: to be counted.
  init(step: consuming Step, inputTypes: [TensorType?], outputTypes: [TensorType?], bytes: Int? = nil) {
    self.step = step
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
  let drafts: [StepDraft]
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

  /// Gives every value its place: as one of the `layouts` has it that holds for these sizes too, or as is found out and
  /// put before them.
  func layOut(
    _ program: Program, threads: Int, layouts: inout [RegionLayout]
  ) throws(OperatorError) -> RegionPlan {
    let order = SideBySide.order(drafts, nodes: draftNodes, program: program, threads: threads)
    for layout in layouts where layout.holds(for: self, in: order) {
      return RegionPlan(self, layout, try layout.place(self, program: program))
    }
    var builder = MemoryLayoutBuilder(self, program: program, order: order)
    let made = try builder.build(self)
    layouts.insert(made, at: 0)
    if layouts.count > RegionLayout.mostOfTemplate { layouts.removeLast() }
    return RegionPlan(self, made, try made.place(self, program: program))
  }
}
