// A region whose steps are known and whose values have no places yet.

import ApusGraph
import ApusTensor

/// A node planned for one set of shapes.
final class StepDraft: Sendable {
  let node: Int
  let step: Step
  let inputTypes: [TensorType?]
  let outputTypes: [TensorType?]
  /// Of inputs and outputs.
  let bytes: Int

  /// `bytes` nil: to be counted.
  init(node: Int, step: Step, inputTypes: [TensorType?], outputTypes: [TensorType?], bytes: Int? = nil) {
    (self.node, self.step) = (node, step)
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
  let drafts: [StepDraft]
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

  /// Gives every value its place.
  func layOut(_ program: Program, threads: Int) throws(OperatorError) -> RegionPlan {
    let order = SideBySide.order(drafts, program: program, threads: threads)
    var layout = MemoryLayoutBuilder(self, program: program, order: order)
    let result = try layout.build()
    var outputs: [RegionOutput] = []
    for (value, type) in self.outputs {
      outputs.append(RegionOutput(value: value, type: type, source: try layout.source(of: value, as: type)))
    }
    return RegionPlan(
      nodes: nodes, layout: result, inputs: inputs, valuesRead: valuesRead, outputs: outputs, caches: caches.caches,
      mayGrow: caches.mayGrow, isBound: isBound)
  }
}
