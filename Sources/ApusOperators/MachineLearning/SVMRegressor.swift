// SVMRegressor: support vector regression and one-class detection of anomalies. Versions: 1.
// https://onnx.ai/onnx/operators/onnx_aionnxml_SVMRegressor.html

import ApusGraph
import ApusTensor

struct SVMRegressor: OperatorDefinition {
  let schema = OperatorSchema(
    "SVMRegressor", domain: "ai.onnx.ml", versions: [1],
    inputs: [.required("X", "T")],
    outputs: [.required("Y", "tensor(float)")],
    attributes: [
      .optional("coefficients", .floats), .optional("kernel_params", .floats),
      .string("kernel_type", default: "LINEAR"),
      .int("n_supports", default: 0), .int("one_class", default: 0), .string("post_transform", default: "NONE"),
      .optional("rho", .floats), .optional("support_vectors", .floats),
    ],
    types: ["T": featureTypes, "tensor(float)": [.float32]])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, .float32, [try RowModelKernel.rows(context), 1])
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    try context.type(0) == .float64
      ? RowModelKernel.prepareRegressor(model(context, Double.self, .float64), context)
      : RowModelKernel.prepareRegressor(model(context, Float.self, .float32), context)
  }

  private func model<Scalar>(
    _ context: PrepareContext, _: Scalar.Type, _ lane: Lane
  ) throws(OperatorError) -> SupportRegression<Scalar> {
    let supports = try context.int("n_supports")
    let coefficients = context.optionalFloats("coefficients") ?? []
    guard let rho = context.optionalFloats("rho")?.first else { throw .invalid("attribute rho (floats) is missing") }
    var kernel = try SupportKernel(context)
    // Without vectors the coefficients are the weights of the features.
    if supports == 0 { kernel.kind = .linear }
    guard supports >= 0, supports == 0 || coefficients.count >= supports else {
      throw .invalid("\(coefficients.count) coefficients for \(supports) support vectors")
    }
    return SupportRegression(
      vectors: try SupportVectors(
        context.type(0), lane: lane, kernel: kernel, count: max(supports, 1),
        elements: supports == 0 ? coefficients : context.optionalFloats("support_vectors") ?? []),
      weights: supports == 0 ? [1] : coefficients.map { Double($0) }, rho: Double(rho),
      isOneClass: try context.bool("one_class"), transform: try PostTransform(context))
  }
}

private struct SupportRegression<Scalar: BinaryFloatingPoint & SIMDScalar & Sendable>: RowModel {
  let vectors: SupportVectors<Scalar>
  let weights: [Double]
  let rho: Double
  let isOneClass: Bool
  let transform: PostTransform

  var scoreCount: Int { 1 }
  func check(columns: Int) throws(OperatorError) { try vectors.check(columns: columns) }
  func scratchBytes(columns: Int) -> Int { vectors.scratchBytes(columns: columns) }
  func cost(columns: Int) -> Cost { vectors.cost(columns: columns) }

  func run(
    _ rows: UnsafeRawPointer, count: Int, columns: Int, scores: UnsafeMutablePointer<Double>,
    classes: UnsafeMutablePointer<Int>, scratch: UnsafeMutableRawPointer
  ) {
    for row in 0..<count {
      let values = vectors.values(rows, index: row, columns: columns, scratch: scratch)
      var sum = rho
      weights.withUnsafeBufferPointer { weights in
        if let weights = weights.baseAddress { sum += dotProduct(weights, UnsafePointer(values), vectors.count) }
      }
      scores[row] = isOneClass ? (sum > 0 ? 1 : -1) : sum
      if !isOneClass { transform.apply(scores + row, 1) }
    }
  }
}
