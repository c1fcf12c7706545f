// Imputer: puts values in the place of missing ones. https://onnx.ai/onnx/operators/onnx_aionnxml_Imputer.html
// Versions: 1.

import ApusGraph
import ApusTensor

struct Imputer: OperatorDefinition {
  let schema = OperatorSchema(
    "Imputer", domain: "ai.onnx.ml", versions: [1],
    inputs: [.required("X", "T")],
    outputs: [.required("Y", "T")],
    attributes: [
      .optional("imputed_value_floats", .floats), .optional("imputed_value_int64s", .ints),
      .float("replaced_value_float", default: 0), .int("replaced_value_int64", default: 0),
    ],
    types: ["T": featureTypes])

  func infer(_ context: inout InferenceContext) throws(OperatorError) { context.copy() }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try context.type(0)
    if type.isFloat {
      let imputed = context.optionalFloats("imputed_value_floats") ?? []
      guard !imputed.isEmpty else { throw .invalid("attribute imputed_value_floats (floats) is missing") }
      let replaced = try context.float("replaced_value_float")
      return Imputer.kernel(floats: imputed, replaced: replaced, isDouble: type == .float64)
    }
    let imputed = context.optionalInts("imputed_value_int64s") ?? []
    guard !imputed.isEmpty else { throw .invalid("attribute imputed_value_int64s (ints) is missing") }
    let replaced = try context.int("replaced_value_int64")
    let name = "imputed_value_int64s"
    if type == .int64 {
      return Imputer.kernel(name, imputed.count, { Imputer.impute($0, $1, $2, $3, imputed) { $0 == replaced } })
    }
    let narrow = imputed.map { Int32(truncatingIfNeeded: $0) }
    return Imputer.kernel(name, imputed.count, { Imputer.impute($0, $1, $2, $3, narrow) { Int($0) == replaced } })
  }

  private static func kernel(floats: [Float], replaced: Float, isDouble: Bool) -> PreparedKernel {
    let name = "imputed_value_floats"
    let (doubles, isNaN) = (floats.map { Double($0) }, replaced.isNaN)
    return switch (isDouble, isNaN) {
    case (false, false): kernel(name, floats.count, { impute($0, $1, $2, $3, floats) { $0 == replaced } })
    case (false, true): kernel(name, floats.count, { impute($0, $1, $2, $3, floats) { $0 != $0 } })
    case (true, false): kernel(name, floats.count, { impute($0, $1, $2, $3, doubles) { $0 == Double(replaced) } })
    case (true, true): kernel(name, floats.count, { impute($0, $1, $2, $3, doubles) { $0 != $0 } })
    }
  }

  /// y[i] = x[i], or where that is missing the one value, or that of column `column` + i.
  private typealias Loop =
    @Sendable (_ x: UnsafeRawPointer, _ y: UnsafeMutableRawPointer, _ column: Int, _ count: Int) -> Void

  /// What a `Loop` does; `isMissing` becomes a part of it.
  @inline(__always)
  private static func impute<Element: BitwiseCopyable>(
    _ x: UnsafeRawPointer, _ y: UnsafeMutableRawPointer, _ column: Int, _ count: Int, _ imputed: [Element],
    _ isMissing: (Element) -> Bool
  ) {
    let (x, y) = (x.assumingMemoryBound(to: Element.self), y.assumingMemoryBound(to: Element.self))
    imputed.withUnsafeBufferPointer { imputed in
      guard let values = imputed.baseAddress else { return }
      if imputed.count == 1 {
        let value = values[0]
        for index in 0..<count { y[index] = isMissing(x[index]) ? value : x[index] }
      } else {
        let own = values + column
        for index in 0..<count { y[index] = isMissing(x[index]) ? own[index] : x[index] }
      }
    }
  }

  private static func kernel(_ name: String, _ values: Int, _ loop: @escaping Loop) -> PreparedKernel {
    .planned { (plan) throws(OperatorError) in
      let columns = FeatureKernel.columns(plan.shape(0))
      try FeatureKernel.check(values, columns: columns, name)
      let width = plan.inputs[0]?.dataType.byteWidth ?? 1
      let partition = Partition(plan.shape(0).elementCount, of: .light * 2)
      return .parallel(parts: partition.parts) { run, part in
        let range = partition.range(part)
        var start = range.lowerBound
        while start < range.upperBound {
          let column = values == 1 ? 0 : start % columns
          let left = range.upperBound &- start
          let count = values == 1 ? left : min(columns &- column, left)
          loop(run.inputBytes(0) + start &* width, run.outputBytes(0) + start &* width, column, count)
          start &+= count
        }
      }
    }
  }
}
