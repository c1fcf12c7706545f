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

  init(node: Int, step: Step, inputTypes: [TensorType?], outputTypes: [TensorType?]) {
    (self.node, self.step) = (node, step)
    (self.inputTypes, self.outputTypes) = (inputTypes, outputTypes)
    var bytes = 0
    for type in inputTypes { bytes &+= type?.byteCount ?? 0 }
    for type in outputTypes { bytes &+= type?.byteCount ?? 0 }
    self.bytes = bytes
  }
}

/// What planning found out about consecutive nodes.
struct RegionDraft {
  let nodes: Range<Int>
  let drafts: [StepDraft]
  /// By value of the graph: constants, and what was computed while planning.
  let known: [Tensor?]
  /// The values that enter, with the types the plan holds for.
  let inputs: [(value: ValueID, type: TensorType)]
  /// The values whose very elements the plan holds for.
  let valuesRead: [(value: ValueID, tensor: Tensor)]
  /// The values that the region leaves behind.
  let outputs: [(value: ValueID, type: TensorType)]
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
      nodes: nodes, layout: result, inputs: inputs, valuesRead: valuesRead, outputs: outputs, isBound: isBound)
  }
}
