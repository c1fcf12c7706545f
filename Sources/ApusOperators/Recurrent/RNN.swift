// RNN: H = f(X W' + H R' + b). https://onnx.ai/onnx/operators/onnx__RNN.html
// Versions: 1, 7 (no output_sequence), 14 (layout), 22 (bfloat16).

import ApusGraph
import ApusTensor

package struct RNN: OperatorDefinition {
  package let schema = OperatorSchema(
    "RNN", versions: [1, 7, 14, 22],
    inputs: [
      .required("X", "T"), .required("W", "T"), .required("R", "T"), .optional("B", "T"),
      .optional("sequence_lens", "T1"),
      .optional("initial_h", "T"),
    ],
    outputs: [.optional("Y", "T"), .optional("Y_h", "T")],
    attributes: RecurrentAttributes.schemas(.strings("activations", default: ["Tanh", "Tanh"])),
    types: ["T": .floats, "T1": [.int32]], portable: .moreTypes, multiplyAdds: RecurrentAttributes.products,
    axes: AxisRules.recurrent)

  package init() {}

  package func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    upgradeRecurrent(&node, from: version)
  }

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    try RecurrentAttributes(context, .rnn).infer(&context)
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    try RecurrentAttributes(context, .rnn).prepare(context)
  }
}

extension RecurrentLoop {
  func advanceRNN(_ run: RunContext, _ part: RecurrentPart) {
    addProducts(run, part, gates: 0..<1, of: state(run, part.direction, part.step))
    let next = state(run, part.direction, part.step &+ 1)
    for row in part.rows {
      guard isActive(run, part, row: row) else {
        keepState(run, part, row: row)
        continue
      }
      let sum = gates(run, part, row: row) + part.units.lowerBound
      clamp(sum, part.units.count)
      activations[part.direction][0](sum, part.units.count)
      (next + (row &* extents.hidden &+ part.units.lowerBound)).update(from: sum, count: part.units.count)
      storeSequence(run, part, row: row, sum)
    }
  }
}
