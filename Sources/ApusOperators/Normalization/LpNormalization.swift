// LpNormalization: each row over its 1- or 2-norm; a row of zeros stays.
// https://onnx.ai/onnx/operators/onnx__LpNormalization.html Versions: 1, 22 (bfloat16).

import ApusGraph
import ApusTensor
import CApusKernels

package struct LpNormalization: OperatorDefinition {
  package let schema = OperatorSchema(
    "LpNormalization", versions: [1, 22], inputs: [.required("input", "T")], outputs: [.required("output", "T")],
    attributes: [.int("axis", default: -1), .int("p", default: 2)], types: ["T": .floats], traits: .isSensitive,
    portable: .moreTypes)

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
            .vectors("rows") { LpNormalization.rows(kernels, axis, isSquare: isSquare) },
          ])
      },
      double: { (_) throws(OperatorError) in LpNormalization.kernel(Double.self, axis, isSquare: isSquare) })
  }

  private static func rows(_ kernels: VectorKernels, _ axis: Int, isSquare: Bool) -> PreparedKernel {
    let fold = isSquare ? APUS_FOLD_SUM_SQUARES : APUS_FOLD_SUM_ABS
    let width = AxisRows.blockWidth
    /// Norms of sums; what has a norm of 0 is divided by infinity.
    @Sendable func finish(_ norms: UnsafeMutablePointer<Float>, _ count: Int) {
      for index in 0..<count {
        let norm = isSquare ? norms[index].squareRoot() : norms[index]
        norms[index] = norm == 0 ? .infinity : norm
      }
    }
    return .planned { (plan) throws(OperatorError) in
      let shape = plan.shape(0)
      return AxisRows(shape, axis: try resolveAxis(axis, rank: shape.rank)).step(Float.self) { x, y, count, length in
        let table = kernels.table
        withUnsafeTemporaryAllocation(of: Float.self, capacity: width) { block in
          guard let norms = block.baseAddress else { return }
          var first = 0
          while first < count {
            // Rows that are still at hand when they are divided.
            let n = min(width, max(1, 4096 / length), count &- first)
            table.pointee.fold_rows_f32(fold, n, length, x + first &* length, length, norms)
            finish(norms, n)
            for row in 0..<n {
              let place = (first &+ row) &* length
              table.pointee.div_f32_vs(length, x + place, norms + row, y + place)
            }
            first &+= n
          }
        }
      } columns: { x, y, columns, rows in
        let table = kernels.table
        withUnsafeTemporaryAllocation(of: Float.self, capacity: width) { block in
          guard let norms = block.baseAddress else { return }
          table.pointee.fold_columns_f32(fold, rows.length, columns, x, rows.inner, norms)
          finish(norms, columns)
          for row in 0..<rows.length {
            table.pointee.div_f32_vv(columns, x + row &* rows.inner, norms, y + row &* rows.inner)
          }
        }
      }.named("rows").overwriting(0)
    }
  }

  private static func kernel<Element: Real>(_ type: Element.Type, _ axis: Int, isSquare: Bool) -> PreparedKernel {
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
        divide(x, y, length, 1, by: strided(x, length, 1))
      } columns: { x, y, width, rows in
        for column in 0..<width {
          let length = strided(x + column, rows.length, rows.inner)
          divide(x + column, y + column, rows.length, rows.inner, by: length)
        }
      }.overwriting(0)
    }
  }
}
