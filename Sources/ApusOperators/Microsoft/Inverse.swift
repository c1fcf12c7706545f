// Inverse: inverses of square matrices.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.Inverse Versions: 1.
// Computed in float64 by elimination with partial pivoting; a singular matrix gives what its division gives.

import ApusGraph
import ApusTensor

struct Inverse: OperatorDefinition {
  let schema = OperatorSchema(
    "Inverse", domain: "com.microsoft", versions: [1], inputs: [.required("X", "T")], outputs: [.required("Y", "T")],
    types: ["T": .ieeeFloats])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.copy()
    guard let shape = context.shape(0) else { return }
    guard shape.count >= 2, !shape[shape.count - 1].isSurelyDifferent(from: shape[shape.count - 2]) else {
      throw .mismatch("the input is \(shape.text); expected square matrices")
    }
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    try StagedKernel.prepare(context, [.float16: .float64, .float32: .float64]) { (_) throws(OperatorError) in
      .planned { plan in
        let side = plan.shape(0)[plan.shape(0).rank - 1]
        let area = side * side
        let count = area == 0 ? 0 : plan.shape(0).elementCount / area
        let partition = Partition(count, of: .medium * area * side)
        return .parallel(parts: count == 0 ? 0 : partition.parts, scratchBytes: partition.parts * area * 8) {
          run, part in
          let work = run.scratch.assumingMemoryBound(to: Double.self) + part &* area
          for index in partition.range(part) {
            work.update(from: run.input(0, as: Double.self) + index &* area, count: area)
            Inverse.invert(work, run.output(0, as: Double.self) + index &* area, side)
          }
        }.named("elimination")
      }
    }
  }

  /// Writes the inverse of a matrix in rows, which is overwritten.
  private static func invert(_ a: UnsafeMutablePointer<Double>, _ y: UnsafeMutablePointer<Double>, _ side: Int) {
    for index in 0..<side * side { y[index] = index % (side + 1) == 0 ? 1 : 0 }
    for column in 0..<side {
      var pivot = column
      for row in column..<side where a[row * side + column].magnitude > a[pivot * side + column].magnitude {
        pivot = row
      }
      if pivot != column {
        for index in 0..<side {
          swap(&a[pivot * side + index], &a[column * side + index])
          swap(&y[pivot * side + index], &y[column * side + index])
        }
      }
      let factor = 1 / a[column * side + column]
      for index in 0..<side {
        a[column * side + index] *= factor
        y[column * side + index] *= factor
      }
      for row in 0..<side where row != column {
        let multiple = a[row * side + column]
        if multiple == 0 { continue }
        for index in 0..<side {
          a[row * side + index] -= multiple * a[column * side + index]
          y[row * side + index] -= multiple * y[column * side + index]
        }
      }
    }
  }
}
