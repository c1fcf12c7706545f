// SwiGLU: A * sigmoid(alpha * A) * B, for equal shapes. https://onnx.ai/onnx/operators/onnx__SwiGLU.html
// Versions: 28.

import ApusGraph
import ApusTensor
import CApusKernels

struct SwiGLU: OperatorDefinition {
  let schema = OperatorSchema(
    "SwiGLU", versions: [28], inputs: [.required("A", "T"), .required("B", "T")], outputs: [.required("Y", "T")],
    attributes: [.float("alpha", default: 1)], types: ["T": .floats], layout: .broadcasting)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    if let a = context.shape(0), let b = context.shape(1) {
      guard a.count == b.count, !zip(a, b).contains(where: { $0.isSurelyDifferent(from: $1) }) else {
        throw .mismatch("A and B must have the same shape; found \(a) and \(b)")
      }
    }
    context.set(0, context.type(0), context.shape(0) ?? context.shape(1))
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try context.type(0)
    guard let loop = try SwiGLU.loop(type, alpha: context.float("alpha")) else { throw context.unsupportedType(type) }
    // The shapes are equal, so both operands always move.
    return Elementwise.binary(
      BinaryLoops(both: loop, scalarB: loop, scalarA: loop), cost: .medium, name: "SwiGLU")
  }

  /// y = a * sigmoid(alpha * a) * b.
  package static func loop(_ type: DataType, alpha: Float) throws(OperatorError) -> BinaryLoop? {
    switch type {
    case .float64:
      let alpha = Double(alpha)
      return Elementwise.zip { (a: Double, b: Double) in a * logistic(alpha * a) * b }
    case .float32: return try single(alpha: alpha)
    default:
      guard let codec = FloatCodec(type) else { return nil }
      let loop = try single(alpha: alpha)
      return Elementwise.narrow(codec, BinaryLoops(both: loop, scalarB: loop, scalarA: loop)).both
    }
  }

  private static func single(alpha: Float) throws(OperatorError) -> BinaryLoop {
    let function = UnaryFunction.swish(alpha: alpha)
    let swish = try function.floatLoop
    let multiply = apus_kernels().pointee.mul_f32_vv
    return { a, b, y, count in
      Elementwise.forEachBlock(count) { block, start, n in
        swish(a + start &* 4, block, n)
        multiply(n, block, b + start &* 4, y + start &* 4)
      }
    }
  }
}
