// GRU: gated recurrent units; gates z (update), r (reset), h (candidate). https://onnx.ai/onnx/operators/onnx__GRU.html
// Versions: 1, 3 (linear_before_reset), 7 (no output_sequence), 14 (layout), 22 (bfloat16).

import ApusGraph
import ApusTensor

package struct GRU: OperatorDefinition {
  package let schema = OperatorSchema(
    "GRU", versions: [1, 3, 7, 14, 22],
    inputs: [
      .required("X", "T"), .required("W", "T"), .required("R", "T"), .optional("B", "T"),
      .optional("sequence_lens", "T1"),
      .optional("initial_h", "T"),
    ],
    outputs: [.optional("Y", "T"), .optional("Y_h", "T")],
    attributes: RecurrentAttributes.schemas(.optional("activations", .strings)) + [
      .int("linear_before_reset", default: 0)
    ],
    types: ["T": .floats, "T1": [.int32]], portable: .moreTypes, multiplyAdds: RecurrentAttributes.products,
    axes: AxisRules.recurrent)

  package init() {}

  package func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    upgradeRecurrent(&node, from: version)
  }

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    try GRU.attributes(context).infer(&context)
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    try GRU.attributes(context).prepare(context)
  }

  private static func attributes(_ context: some OperatorContext) throws(OperatorError) -> RecurrentAttributes {
    try RecurrentAttributes(context, .gru(appliesResetAfter: context.bool("linear_before_reset")))
  }
}

extension RecurrentLoop {
  /// z and r, and r * h, which the candidate's product takes.
  func advanceGRUGates(_ run: RunContext, _ part: RecurrentPart) {
    let previous = state(run, part.direction, part.step)
    addProducts(run, part, gates: 0..<2, of: previous)
    for row in part.rows where isActive(run, part, row: row) {
      let line = gates(run, part, row: row)
      activateGRUGates(line, part)
      let offset = row &* extents.hidden
      let (old, room) = (previous + offset, cell(run, part.direction) + offset)
      let reset = line + extents.hidden
      for unit in part.units { room[unit] = reset[unit] * old[unit] }
    }
  }

  /// The candidate, and the new state.
  func advanceGRUCandidate(_ run: RunContext, _ part: RecurrentPart) {
    addProducts(run, part, gates: 2..<3, of: cell(run, part.direction))
    for row in part.rows { finishGRU(run, part, row: row) }
  }

  /// All in one: the reset gate works on the product with the hidden state.
  func advanceGRUWithLateReset(_ run: RunContext, _ part: RecurrentPart) {
    let previous = state(run, part.direction, part.step)
    addProducts(run, part, gates: 0..<2, of: previous)
    let hidden = extents.hidden
    let room = cell(run, part.direction)
    // The candidate's bias of R lies behind the biases of W and those of R for z and r.
    let bias =
      run.input(1, as: Element.self) + (2 &* part.direction &* extents.gateWidth &+ extents.gateWidth &+ 2 &* hidden)
    for row in part.rows {
      let line = room + row &* hidden
      for unit in part.units { line[unit] = hasBias ? bias[unit] : 0 }
    }
    let first = part.rows.lowerBound &* hidden
    addProduct(run, part, gate: 2, of: previous + first, to: room + first, hidden)
    for row in part.rows {
      if isActive(run, part, row: row) {
        let line = gates(run, part, row: row)
        activateGRUGates(line, part)
        let (reset, candidate, product) = (line + hidden, line + 2 &* hidden, room + row &* hidden)
        for unit in part.units { candidate[unit] += reset[unit] * product[unit] }
      }
      finishGRU(run, part, row: row)
    }
  }

  private func activateGRUGates(_ line: UnsafeMutablePointer<Element>, _ part: RecurrentPart) {
    let (first, count) = (part.units.lowerBound, part.units.count)
    for gate in 0..<2 {
      let values = line + (gate &* extents.hidden &+ first)
      clamp(values, count)
      activations[part.direction][0](values, count)
    }
  }

  /// h' = (1 - z) * candidate + z * h.
  private func finishGRU(_ run: RunContext, _ part: RecurrentPart, row: Int) {
    guard isActive(run, part, row: row) else { return keepState(run, part, row: row) }
    let (first, count) = (part.units.lowerBound, part.units.count)
    let update = gates(run, part, row: row) + first
    let candidate = update + 2 &* extents.hidden
    clamp(candidate, count)
    activations[part.direction][1](candidate, count)
    let offset = row &* extents.hidden &+ first
    let old = state(run, part.direction, part.step) + offset
    let new = state(run, part.direction, part.step &+ 1) + offset
    for unit in 0..<count { new[unit] = (1 - update[unit]) * candidate[unit] + update[unit] * old[unit] }
    storeSequence(run, part, row: row, new)
  }
}
