// LpNormalization: each row over its 1- or 2-norm; a row of zeros stays.
// https://onnx.ai/onnx/operators/onnx__LpNormalization.html Versions: 1, 22 (bfloat16).

import ApusGraph
import ApusTensor
import CApusKernels

package struct LpNormalization: OperatorDefinition {
  package let schema = OperatorSchema(
    "LpNormalization", versions: [1, 22], inputs: [.required("input", "T")], outputs: [.required("output", "T")],
    attributes: [.int("axis", default: -1), .int("p", default: 2)], types: ["T": .floats], portable: .moreTypes)

  package init() {}

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    if let rank = context.rank(0) { _ = try resolveAxis(context.int("axis"), rank: rank) }
    let p = try context.int("p")
    guard p == 1 || p == 2 else { throw .invalid("p is \(p); expected 1 or 2") }
    context.copy()
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let axis = try context.int("axis")
    let isSquare = try context.int("p") == 2
    let kernels = VectorKernels.current
    return try prepareReal(
      context,
      float: { (_) throws(OperatorError) in
        try ElementCandidate.choose(
          .lpNormalization, type: .float32,
          [
            .plain { LpNormalization.kernel(Float.self, axis, isSquare: isSquare) },
            .vectors("rows") {
              LpNormalization.kernel(Float.self, axis, isSquare: isSquare) { x, length in
                isSquare
                  ? kernels.table.pointee.sum_squares_f32(length, x).squareRoot()
                  : kernels.table.pointee.sum_abs_f32(length, x)
              }
            },
          ])
      },
      double: { (_) throws(OperatorError) in LpNormalization.kernel(Double.self, axis, isSquare: isSquare) })
  }

  /// `norm`: the norm of a row of neighbours, where there is a faster way.
  private static func kernel<Element: Real>(
    _ type: Element.Type, _ axis: Int, isSquare: Bool,
    norm: (@Sendable (_ x: UnsafePointer<Element>, _ length: Int) -> Element)? = nil
  ) -> PreparedKernel {
    @Sendable func strided(_ x: UnsafePointer<Element>, _ length: Int, _ stride: Int) -> Element {
      var sum = 0.0
      for index in 0..<length {
        let value = Double(x[index &* stride])
        sum += isSquare ? value * value : value.magnitude
      }
      return Element(isSquare ? sum.squareRoot() : sum)
    }
    @Sendable func divide(
      _ x: UnsafePointer<Element>, _ y: UnsafeMutablePointer<Element>, _ length: Int, _ stride: Int, by norm: Element
    ) {
      for index in 0..<length { y[index &* stride] = norm == 0 ? 0 : x[index &* stride] / norm }
    }
    return .planned { (plan) throws(OperatorError) in
      let shape = plan.shape(0)
      return AxisRows(shape, axis: try resolveAxis(axis, rank: shape.rank)).step(Element.self) { x, y, length in
        divide(x, y, length, 1, by: norm.map { $0(x, length) } ?? strided(x, length, 1))
      } columns: { x, y, width, rows in
        for column in 0..<width {
          let length = strided(x + column, rows.length, rows.inner)
          divide(x + column, y + column, rows.length, rows.inner, by: length)
        }
      }.overwriting(0)
    }
  }
}
