// Trilu: one triangle of matrices, zeros elsewhere. https://onnx.ai/onnx/operators/onnx__Trilu.html
// Versions: 14.

import ApusGraph
import ApusTensor

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

struct Trilu: OperatorDefinition {
  let schema = OperatorSchema(
    "Trilu", versions: [14],
    inputs: [.required("input", "T"), .optional("k", "tensor(int64)")], outputs: [.required("output", "T")],
    attributes: [.int("upper", default: 1)],
    types: ["T": .basic, "tensor(int64)": .int64], traits: .movesData)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    if let shape = context.shape(0), shape.count < 2 {
      throw .mismatch("the input has the shape \(shape.text); expected matrices")
    }
    if let count = context.shape(1)?.product.known, count != 1 {
      throw .mismatch("k has \(count) elements; expected one")
    }
    context.copy()
    context.moveValues(of: self)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let isUpper = try context.bool("upper")
    return .moving { plan throws(OperatorError) in
      guard let type = plan.inputs[0] else { throw .invalid("input 0 is missing") }
      let (rows, columns) = (type.shape[type.shape.rank - 2], type.shape[type.shape.rank - 1])
      let width = type.dataType.byteWidth
      let lines = type.count / max(columns, 1)
      let partition = Partition(lines, of: .copying(bytes: columns * width))
      let hasDiagonal = plan.isPresent(1)
      return Step.parallel(parts: type.count == 0 ? 0 : partition.parts) { run, part in
        let k = hasDiagonal ? run.inputBytes(1).loadUnaligned(as: Int.self) : 0
        // Beyond the matrix every diagonal is the same.
        let diagonal = min(max(k, -rows), columns)
        for line in partition.range(part) {
          let edge = min(max(line % rows &+ diagonal &+ (isUpper ? 0 : 1), 0), columns)
          let kept = isUpper ? edge..<columns : 0..<edge
          let source = run.inputBytes(0) + line &* columns &* width
          let target = run.outputBytes() + line &* columns &* width
          if source != UnsafeRawPointer(target) {
            memcpy(target + kept.lowerBound &* width, source + kept.lowerBound &* width, kept.count &* width)
          }
          memset(target, 0, kept.lowerBound &* width)
          memset(target + kept.upperBound &* width, 0, (columns &- kept.upperBound) &* width)
        }
      }.overwriting(0).named("triangle")
    }
  }
}
