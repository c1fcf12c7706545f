// Expand: broadcast to a shape. https://onnx.ai/onnx/operators/onnx__Expand.html
// Versions: 8, 13 (bfloat16).

import ApusGraph
import ApusTensor

struct Expand: OperatorDefinition {
  let schema = OperatorSchema(
    "Expand", versions: [8, 13],
    inputs: [.required("input", "T"), .required("shape", "tensor(int64)", readWhenPlanning: true)],
    outputs: [.required("output", "T")],
    types: ["T": .basic, "tensor(int64)": .int64], traits: .rearranges,
    identity: .sameShape(Expand.addsNothing))

  /// True if the target is sure to fit the input. Inference takes an extent that it does not know for one that fits; a
  /// node that has to refuse others must stay.
  private static func addsNothing(_ node: NodeFacts) -> Bool {
    guard let shape = node.shape(0), let target = node.values(1), target.count <= shape.count else { return false }
    return zip(shape.suffix(target.count), target).allSatisfy { $1.known == 1 || $1.isSame(as: $0) }
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    guard let shape = context.shape(0) else { return context.set(0, context.type(0), nil) }
    guard let target = context.values(1) else {
      let rank = context.length(1).map { max($0, shape.count) }
      return context.set(0, context.type(0), .unknown(rank: rank))
    }
    if let negative = target.first(where: { $0.known.map { $0 < 0 } ?? false }) {
      throw .mismatch("the shape \(target.text) has the extent \(negative)")
    }
    context.set(0, context.type(0), try broadcast([shape, target]))
    context.moveValues(of: self)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .moving { plan throws(OperatorError) in
      guard let input = plan.inputs[0] else { throw .invalid("input 0 is missing") }
      let output = plan.outputShape(0)
      let strides = input.shape.strides
      var sourceStrides = [Int](repeating: 0, count: output.rank)
      for axis in input.shape.indices where input.shape[axis] != 1 {
        sourceStrides[output.rank - input.shape.rank + axis] = strides[axis]
      }
      let copy = try MovementCopy(
        from: .input(0), width: input.dataType.byteWidth, extents: output.dims, sourceStrides: sourceStrides,
        targetStrides: output.strides)
      return .copyingOrViewing(copy, name: "expand")
    }
  }
}
