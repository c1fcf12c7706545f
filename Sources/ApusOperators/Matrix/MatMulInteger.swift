// MatMulInteger: product of 8-bit matrices less zero points, as int32.
// https://onnx.ai/onnx/operators/onnx__MatMulInteger.html Versions: 10. Sums wrap around.

import ApusGraph
import ApusTensor

package struct MatMulInteger: OperatorDefinition {
  package let schema = OperatorSchema(
    "MatMulInteger", versions: [10],
    inputs: [
      .required("A", "T1"), .required("B", "T2"), .optional("a_zero_point", "T1"), .optional("b_zero_point", "T2"),
    ],
    outputs: [.required("Y", "T3")],
    types: ["T1": [.int8, .uint8], "T2": [.int8, .uint8], "T3": [.int32]], multiplyAdds: matMulProducts(a: 0))

  package init() {}

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, .int32, try matMulShape(context.shape(0), context.shape(1)))
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let product = try IntegerProduct(context, IntegerOperandPositions(a: 0, aZero: 2, b: 1, bZero: 3))
    return .planned(packing: product.packedInputs) { (plan) throws(OperatorError) in
      var sequence = StepSequence()
      let (name, cost) = try product.append(plan, to: .output(0), in: &sequence)
      var step = sequence.step.named(name, cost: cost)
      step.unreadInputs = product.packedInputs
      return step
    }
  }
}
