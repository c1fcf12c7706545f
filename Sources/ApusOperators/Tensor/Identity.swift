// Identity: the same value. https://onnx.ai/onnx/operators/onnx__Identity.html
// Versions: 1, 13 (bfloat16), 14 (sequences), 16 (optionals), 19, 21, 23, 24, 25 (more types).

import ApusGraph
import ApusTensor

struct Identity: OperatorDefinition {
  let schema: OperatorSchema = {
    let contained = TypeSet.allBeforeBFloat16.tensors
    return OperatorSchema(
      "Identity", versions: [1, 13, 14, 16, 19, 21, 23, 24, 25],
      inputs: [.required("input", "V")], outputs: [.required("output", "V")],
      types: [
        "V": TypeSet(
          tensors: TypeSet.stored.tensors, sequences: contained, optionals: contained, optionalSequences: contained)
      ],
      traits: .movesData, identity: .always, layout: .elementwise, portable: .moreTypes)
  }()

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, context.inputs.first.flatMap { $0 } ?? .unknown)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    if let type = context.optionalType(0), type != .string { return .view }
    return .eager { inputs, _ in [inputs.first.flatMap { $0 }] }
  }
}
