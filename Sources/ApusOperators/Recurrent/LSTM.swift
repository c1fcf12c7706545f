// LSTM: long short-term memory; gates i (input), o (output), f (forget), c (cell).
// https://onnx.ai/onnx/operators/onnx__LSTM.html Versions: 1, 7 (no output_sequence), 14 (layout), 22 (bfloat16).

import ApusGraph
import ApusTensor

package struct LSTM: OperatorDefinition {
  package let schema = OperatorSchema(
    "LSTM", versions: [1, 7, 14, 22],
    inputs: [
      .required("X", "T"), .required("W", "T"), .required("R", "T"), .optional("B", "T"),
      .optional("sequence_lens", "T1"),
      .optional("initial_h", "T"), .optional("initial_c", "T"), .optional("P", "T"),
    ],
    outputs: [.optional("Y", "T"), .optional("Y_h", "T"), .optional("Y_c", "T")],
    attributes: RecurrentAttributes.schemas(.optional("activations", .strings)) + [.int("input_forget", default: 0)],
    types: ["T": .floats, "T1": [.int32]], portable: .moreTypes, multiplyAdds: RecurrentAttributes.products,
    axes: AxisRules.recurrent)

  package init() {}

  package func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    upgradeRecurrent(&node, from: version)
  }

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    try LSTM.attributes(context).infer(&context)
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    try LSTM.attributes(context).prepare(context)
  }

  private static func attributes(_ context: some OperatorContext) throws(OperatorError) -> RecurrentAttributes {
    try RecurrentAttributes(context, .lstm(couplesForget: context.bool("input_forget")))
  }
}

extension RecurrentLoop {
  func advanceLSTM(_ run: RunContext, _ part: RecurrentPart, couplesForget: Bool) {
    addProducts(run, part, gates: 0..<4, of: state(run, part.direction, part.step))
    let hidden = extents.hidden
    let (first, count) = (part.units.lowerBound, part.units.count)
    let (gateActivation, cellActivation, stateActivation) = (
      activations[part.direction][0], activations[part.direction][1], activations[part.direction][2]
    )
    let peepholes = run.input(3, as: Element.self) + (3 &* part.direction &* hidden &+ first)
    for row in part.rows {
      guard isActive(run, part, row: row) else {
        keepState(run, part, row: row)
        continue
      }
      let input = gates(run, part, row: row) + first
      let (output, forget, candidate) = (input + hidden, input + 2 &* hidden, input + 3 &* hidden)
      let offset = row &* hidden &+ first
      let memory = cell(run, part.direction) + offset
      if hasPeepholes {
        for unit in 0..<count {
          input[unit] += peepholes[unit] * memory[unit]
          forget[unit] += peepholes[2 &* hidden &+ unit] * memory[unit]
        }
      }
      if !hasPeepholes && count == hidden {
        // The three gates are neighbours.
        clamp(input, 3 &* count)
        gateActivation(input, 3 &* count)
      } else {
        for gate in [input, forget] {
          clamp(gate, count)
          gateActivation(gate, count)
        }
      }
      clamp(candidate, count)
      cellActivation(candidate, count)
      if couplesForget {
        for unit in 0..<count { forget[unit] = 1 - input[unit] }
      }
      for unit in 0..<count { memory[unit] = forget[unit] * memory[unit] + input[unit] * candidate[unit] }
      if hasPeepholes {
        for unit in 0..<count { output[unit] += peepholes[hidden &+ unit] * memory[unit] }
      }
      if hasPeepholes || count != hidden {
        clamp(output, count)
        gateActivation(output, count)
      }
      candidate.update(from: memory, count: count)
      stateActivation(candidate, count)
      let new = state(run, part.direction, part.step &+ 1) + offset
      for unit in 0..<count { new[unit] = output[unit] * candidate[unit] }
      storeSequence(run, part, row: row, new)
    }
  }
}
