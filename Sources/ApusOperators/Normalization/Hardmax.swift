// Hardmax: 1 at the first maximum of each row, 0 elsewhere. https://onnx.ai/onnx/operators/onnx__Hardmax.html
// Versions: 1, 11 (negative axis; all axes from `axis` on are one), 13 (one axis, bfloat16). NaN counts as the maximum.

import ApusGraph
import ApusTensor
import CApusKernels

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
      context,
      float: { (_) throws(OperatorError) in
        try ElementCandidate.choose(
          .hardmax, type: .float32, [.plain { kernel(axis, Float.self) }, .vectors("rows") { rows(axis) }])
      },
      double: { (_) throws(OperatorError) in kernel(axis, Double.self) })
  }

  /// The maxima of a block of rows, and where they stand.
  private func rows(_ axis: Int) -> PreparedKernel {
    let kernels = VectorKernels.current
    let width = AxisRows.blockWidth
    return .planned { (plan) throws(OperatorError) in
      let shape = plan.shape(0)
      return AxisRows(shape, axis: try resolveAxis(axis, rank: shape.rank)).step(Float.self) { x, y, count, length in
        let table = kernels.table
        y.update(repeating: 0, count: count &* length)
        Hardmax.withPlaces(width) { maxima, places in
          var first = 0
          while first < count {
            let n = min(width, count &- first)
            let source = x + first &* length
            table.pointee.fold_rows_f32(APUS_FOLD_MAX, n, length, source, length, maxima)
            table.pointee.find_rows_f32(n, length, source, length, maxima, false, places)
            for row in 0..<n { y[(first &+ row) &* length &+ Int(places[row])] = 1 }
            first &+= n
          }
        }
      } columns: { x, y, columns, rows in
        let table = kernels.table
        for row in 0..<rows.length { (y + row &* rows.inner).update(repeating: 0, count: columns) }
        Hardmax.withPlaces(width) { maxima, places in
          table.pointee.fold_columns_f32(APUS_FOLD_MAX, rows.length, columns, x, rows.inner, maxima)
          table.pointee.find_columns_f32(rows.length, columns, x, rows.inner, maxima, false, places)
          for column in 0..<columns { y[Int(places[column]) &* rows.inner &+ column] = 1 }
        }
      }.named("rows")
    }
  }

  /// Memory on the stack for maxima and their places.
  @inline(__always)
  private static func withPlaces(
    _ count: Int, _ body: (_ maxima: UnsafeMutablePointer<Float>, _ places: UnsafeMutablePointer<Int64>) -> Void
  ) {
    withUnsafeTemporaryAllocation(of: Float.self, capacity: count) { maxima in
      withUnsafeTemporaryAllocation(of: Int64.self, capacity: count) { places in
        guard let maxima = maxima.baseAddress, let places = places.baseAddress else { return }
        body(maxima, places)
      }
    }
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
