// Softmax and LogSoftmax: exponentials of each row over their sum. https://onnx.ai/onnx/operators/onnx__Softmax.html
// Versions: 1, 11 (negative axis; all axes from `axis` on are one), 13 (one axis, bfloat16).

import ApusGraph
import ApusTensor
import CApusKernels

package struct Softmax: OperatorDefinition {
  package let schema: OperatorSchema
  private let isLogarithm: Bool

  package init(logarithm: Bool = false) {
    isLogarithm = logarithm
    schema = OperatorSchema(
      logarithm ? "LogSoftmax" : "Softmax", versions: [1, 11, 13], inputs: [.required("input", "T")],
      outputs: [.required("output", "T")], attributes: [.int("axis", default: -1)], types: ["T": .floats],
      traits: .isSensitive, layout: .axis(attribute: "axis"), axes: AxisRules.rows(defaultAxis: -1))
  }

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
      context,
      float: { (_) throws(OperatorError) in
        try ElementCandidate.choose(
          .softmax, type: .float32,
          [
            .plain { kernel(axis) { rows in plainStep(rows, Float.self) } },
            .vectors("rows") { kernel(axis) { rows in fastStep(rows) } },
          ])
      },
      double: { (_) throws(OperatorError) in kernel(axis) { rows in plainStep(rows, Double.self) } })
  }

  private func kernel(_ axis: Int, _ step: @escaping @Sendable (AxisRows) -> Step) -> PreparedKernel {
    .planned { (plan) throws(OperatorError) in
      let shape = plan.shape(0)
      return step(AxisRows(shape, axis: try resolveAxis(axis, rank: shape.rank))).overwriting(0)
    }
  }

  func plainStep<Element: Real>(_ rows: AxisRows, _ type: Element.Type) -> Step {
    let isLogarithm = isLogarithm
    @Sendable func line(
      _ x: UnsafePointer<Element>, _ y: UnsafeMutablePointer<Element>, _ length: Int, _ stride: Int
    ) {
      var highest = x[0]
      for index in 1..<max(length, 1) where x[index &* stride] > highest || x[index &* stride].isNaN {
        highest = x[index &* stride]
      }
      var sum: Element = 0
      for index in 0..<length {
        let shifted = x[index &* stride] - highest
        let exponential = Element.exp(shifted)
        sum += exponential
        y[index &* stride] = isLogarithm ? shifted : exponential
      }
      let logarithm = Element.log(sum)
      for index in 0..<length {
        let value = y[index &* stride]
        y[index &* stride] = isLogarithm ? value - logarithm : value / sum
      }
    }
    return rows.step(Element.self, cost: .heavy * 2) { x, y, length in
      line(x, y, length, 1)
    } columns: { x, y, width, rows in
      for column in 0..<width { line(x + column, y + column, rows.length, rows.inner) }
    }.named("plain")
  }

  func fastStep(_ rows: AxisRows) -> Step {
    let table = apus_kernels().pointee
    let (lines, columns) =
      isLogarithm
      ? (table.log_softmax_rows_f32, table.log_softmax_columns_f32)
      : (table.softmax_rows_f32, table.softmax_columns_f32)
    return rows.step(Float.self, cost: .medium * 2) { x, y, count, length in
      lines(count, length, x, y)
    } columns: { x, y, width, rows in
      columns(rows.length, width, x, rows.inner, y)
    }.named("softmax_f32")
  }
}
