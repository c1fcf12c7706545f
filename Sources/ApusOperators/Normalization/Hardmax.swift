// Hardmax: 1 at the first maximum of each row, 0 elsewhere. https://onnx.ai/onnx/operators/onnx__Hardmax.html
// Versions: 1, 11 (negative axis; all axes from `axis` on are one), 13 (one axis, bfloat16). NaN counts as the maximum.

import ApusGraph
import ApusTensor

package struct Hardmax: OperatorDefinition {
  package let schema = OperatorSchema(
    "Hardmax", versions: [1, 11, 13], inputs: [.required("input", "T")], outputs: [.required("output", "T")],
    attributes: [.int("axis", default: -1)], types: ["T": .floats])

  package init() {}

  package func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    try upgradeFlattenedAxis(&node, from: version, in: builder)
  }

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    if let rank = context.rank(0) { _ = try resolveAxis(context.int("axis"), rank: rank) }
    context.copy()
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let axis = try context.int("axis")
    return try prepareReal(
      context, float: { (_) throws(OperatorError) in kernel(axis, Float.self) },
      double: { (_) throws(OperatorError) in kernel(axis, Double.self) })
  }

  private func kernel<Element: Real>(_ axis: Int, _ type: Element.Type) -> PreparedKernel {
    @Sendable func line(_ x: UnsafePointer<Element>, _ y: UnsafeMutablePointer<Element>, _ length: Int, _ stride: Int) {
      var best = 0
      for index in 0..<length where !x[best &* stride].isNaN {
        let value = x[index &* stride]
        if value > x[best &* stride] || value.isNaN { best = index }
      }
      for index in 0..<length { y[index &* stride] = index == best ? 1 : 0 }
    }
    return .planned { (plan) throws(OperatorError) in
      let shape = plan.shape(0)
      return AxisRows(shape, axis: try resolveAxis(axis, rank: shape.rank)).step(Element.self) { x, y, length in
        line(x, y, length, 1)
      } columns: { x, y, width, rows in
        for column in 0..<width { line(x + column, y + column, rows.length, rows.inner) }
      }
    }
  }
}
