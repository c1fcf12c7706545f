// ConstantOfShape: one element repeated. https://onnx.ai/onnx/operators/onnx__ConstantOfShape.html
// Versions: 9, 20 (bfloat16, float8), 21, 23, 24, 25 (more types).

import ApusGraph
import ApusTensor

struct ConstantOfShape: OperatorDefinition {
  let schema = OperatorSchema(
    "ConstantOfShape", versions: [9, 20, 21, 23, 24, 25],
    inputs: [.required("input", "T1", readWhenPlanning: true)], outputs: [.required("output", "T2")],
    attributes: [.optional("value", .tensor)],
    types: [
      "T1": .int64,
      "T2": .numeric + .bool + .float8 + .packedIntegers + [.float4e2m1, .float8e8m0],
    ], portable: .moreTypes)

  /// The element: 0 of float32 unless given.
  private func element(_ context: some OperatorContext) throws(OperatorError) -> Tensor {
    guard let value = context.optionalTensor("value") else { return Tensor(scalar: Float(0)) }
    guard value.count == 1 else {
      throw .invalid("attribute value has the shape \(value.shape); expected one element")
    }
    return value
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let element = try element(context)
    guard let dims = context.values(0) else {
      return context.set(0, element.dataType, .unknown(rank: context.length(0)))
    }
    if let negative = dims.first(where: { $0.known.map { $0 < 0 } ?? false }) {
      throw .mismatch("the shape \(dims.text) has the extent \(negative)")
    }
    let isSmallInteger =
      element.dataType.isInteger && dims.concrete?.checkedElementCount ?? Int.max <= TensorFact.maximumValues
    let repeated = isSmallInteger ? element.integers?.first : nil
    let count = dims.concrete?.checkedElementCount ?? 0
    context.set(0, element.dataType, dims, values: repeated.map { [Dim](repeating: Dim($0), count: count) })
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let value = try element(context)
    let isPacked = value.dataType.isPacked
    // The kernel works on unpacked elements: the first element is in the lowest bits of the byte.
    let byte = isPacked ? value.withUnsafeBytes { $0.first ?? 0 } & (1 << UInt8(value.dataType.bits) &- 1) : 0
    let element = isPacked ? Tensor(scalar: byte) : value
    let width = element.dataType.byteWidth
    return .moving { plan throws(OperatorError) in
      let count = plan.outputShape(0).elementCount
      let fill = try MovementCopy(
        from: .constant(element), width: width, extents: [count], sourceStrides: [0], targetStrides: [1])
      return .copying([fill], name: "fill").notReading(0)
    }
  }
}
