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
    if try context.type(0).isFloat {
      let imputed = (context.optionalFloats("imputed_value_floats") ?? []).map { Double($0) }
      guard !imputed.isEmpty else { throw .invalid("attribute imputed_value_floats (floats) is missing") }
      let replaced = Double(try context.float("replaced_value_float"))
      return try FeatureKernel.prepare(
        context,
        check: { (columns) throws(OperatorError) in
          try FeatureKernel.check(imputed.count, columns: columns, "imputed_value_floats")
        },
        body: { values, count, first, columns in
          var column = first
          for index in 0..<count {
            let isMissing = replaced.isNaN ? values[index].isNaN : values[index] == replaced
            if isMissing { values[index] = imputed.count == 1 ? imputed[0] : imputed[column] }
            column = column &+ 1 == columns ? 0 : column &+ 1
          }
        })
    }
    return try integers(context)
  }

  private func integers(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let imputed = context.optionalInts("imputed_value_int64s") ?? []
    guard !imputed.isEmpty else { throw .invalid("attribute imputed_value_int64s (ints) is missing") }
    let replaced = try context.int("replaced_value_int64")
    return try FeatureKernel.prepare(
      context, lane: .int64, as: Int.self,
      check: { (columns) throws(OperatorError) in
        try FeatureKernel.check(imputed.count, columns: columns, "imputed_value_int64s")
      },
      body: { values, count, first, columns in
        for index in 0..<count where values[index] == replaced {
          values[index] = imputed.count == 1 ? imputed[0] : imputed[(first &+ index) % columns]
        }
      })
  }
}
