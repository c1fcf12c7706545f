// Det: determinants of square matrices. https://onnx.ai/onnx/operators/onnx__Det.html
// Versions: 11, 22 (bfloat16). Computed in float64 by elimination with partial pivoting; 1 for a matrix of no rows.

import ApusGraph
import ApusTensor

package struct Det: OperatorDefinition {
  package let schema = OperatorSchema(
    "Det", versions: [11, 22], inputs: [.required("X", "T")], outputs: [.required("Y", "T")], types: ["T": .floats],
    portable: .moreTypes)

  package init() {}

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    guard let shape = context.shape(0) else { return context.set(0, context.type(0), nil) }
    guard shape.count >= 2, !shape[shape.count - 1].isSurelyDifferent(from: shape[shape.count - 2]) else {
      throw .mismatch("the input is \(shape); expected square matrices")
    }
    context.set(0, context.type(0), Array(shape.dropLast(2)))
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let toDouble: [DataType: DataType] = [.float16: .float64, .bfloat16: .float64, .float32: .float64]
    return try StagedKernel.prepare(context, toDouble) { (_) throws(OperatorError) in
      .planned { plan in
        let shape = plan.shape(0)
        let side = shape[shape.rank - 1]
        let area = side * side
        let count = plan.outputShape(0).elementCount
        let partition = Partition(count, of: .medium * area * side)
        return .parallel(parts: count == 0 ? 0 : partition.parts, scratchBytes: partition.parts * area * 8) {
          run, part in
          let work = run.scratch.assumingMemoryBound(to: Double.self) + part &* area
          for index in partition.range(part) {
            work.update(from: run.input(0, as: Double.self) + index &* area, count: area)
            run.output(0, as: Double.self)[index] = Det.determinant(work, side)
          }
        }.named("elimination")
      }
    }
  }

  /// The determinant of a matrix in rows, which is overwritten.
  private static func determinant(_ matrix: UnsafeMutablePointer<Double>, _ side: Int) -> Double {
    var result = 1.0
    for column in 0..<side {
      var pivot = column
      for row in column..<side where matrix[row * side + column].magnitude > matrix[pivot * side + column].magnitude {
        pivot = row
      }
      let value = matrix[pivot * side + column]
      if value == 0 { return 0 }
      result *= pivot == column ? value : -value
      if pivot != column {
        for index in column..<side { swap(&matrix[pivot * side + index], &matrix[column * side + index]) }
      }
      for row in column + 1..<side {
        let factor = matrix[row * side + column] / value
        if factor == 0 { continue }
        for index in column + 1..<side { matrix[row * side + index] -= factor * matrix[column * side + index] }
      }
    }
    return result
  }
}
