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
      outputs: [.required("output", "T")], attributes: [.int("axis", default: -1)], types: ["T": .floats])
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
      for index in 0..<length { sum += Element.exp(x[index &* stride] - highest) }
      let logarithm = Element.log(sum)
      for index in 0..<length {
        let shifted = x[index &* stride] - highest
        y[index &* stride] = isLogarithm ? shifted - logarithm : Element.exp(shifted) / sum
      }
    }
    return rows.step(Element.self, cost: .heavy * 2) { x, y, length in
      line(x, y, length, 1)
    } columns: { x, y, width, rows in
      for column in 0..<width { line(x + column, y + column, rows.length, rows.inner) }
    }.named("plain")
  }

  func fastStep(_ rows: AxisRows) -> Step {
    let kernels = VectorKernels.current
    let isLogarithm = isLogarithm
    return rows.step(Float.self, cost: .medium * 2) { x, y, length in
      if isLogarithm {
        kernels.table.pointee.log_softmax_f32(length, x, y, 1, nil)
      } else {
        kernels.table.pointee.softmax_f32(length, x, y, 1, nil)
      }
    } columns: { x, y, width, rows in
      Softmax.columns(kernels, isLogarithm, x, y, width, rows)
    }.named("softmax_f32")
  }

  /// Rows whose elements lie apart, `width` of them side by side.
  private static func columns(
    _ kernels: VectorKernels, _ isLogarithm: Bool, _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>,
    _ width: Int, _ rows: AxisRows
  ) {
    let table = kernels.table
    withUnsafeTemporaryAllocation(of: Float.self, capacity: 3 * AxisRows.blockWidth) { work in
      guard let highest = work.baseAddress else { return }
      let (sums, line) = (highest + AxisRows.blockWidth, highest + 2 * AxisRows.blockWidth)
      highest.update(from: x, count: width)
      for index in 1..<max(rows.length, 1) {
        table.pointee.max_f32_vv(width, highest, x + index &* rows.inner, highest)
      }
      sums.update(repeating: 0, count: width)
      for index in 0..<rows.length {
        let target = y + index &* rows.inner
        table.pointee.sub_f32_vv(width, x + index &* rows.inner, highest, target)
        if isLogarithm {
          table.pointee.exp_f32(width, target, line, nil)
          table.pointee.accumulate_f32(width, line, sums)
        } else {
          table.pointee.exp_f32(width, target, target, nil)
          table.pointee.accumulate_f32(width, target, sums)
        }
      }
      if isLogarithm { table.pointee.log_f32(width, sums, sums, nil) }
      for index in 0..<rows.length {
        let target = y + index &* rows.inner
        if isLogarithm {
          table.pointee.sub_f32_vv(width, target, sums, target)
        } else {
          table.pointee.div_f32_vv(width, target, sums, target)
        }
      }
    }
  }
}
