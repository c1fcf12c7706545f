// BitCast: the same bits under another type of the same width. https://onnx.ai/onnx/operators/onnx__BitCast.html
// Versions: 26.

import ApusGraph
import ApusTensor

struct BitCast: OperatorDefinition {
  private static let types =
    TypeSet.numeric + .bool + .complex + .float8 + .packedIntegers + [.float4e2m1, .float8e8m0]

  let schema = OperatorSchema(
    "BitCast", versions: [26], inputs: [.required("input", "T1")], outputs: [.required("output", "T2")],
    attributes: [.required("to", .int)], types: ["T1": types, "T2": types], layout: .elementwise)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let type = try elementType(try context.int("to"), allowed: BitCast.types)
    if let from = context.type(0), from.bits != type.bits {
      throw .mismatch("\(from) has \(from.bits) bits and \(type) has \(type.bits); expected as many")
    }
    context.set(0, type, context.shape(0))
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .view
  }
}
