// Normalizer: rows divided by their norm. https://onnx.ai/onnx/operators/onnx_aionnxml_Normalizer.html
// Versions: 1.

import ApusGraph
import ApusTensor

struct Normalizer: OperatorDefinition {
  let schema = OperatorSchema(
    "Normalizer", domain: "ai.onnx.ml", versions: [1],
    inputs: [.required("X", "T")],
    outputs: [.required("Y", "tensor(float)")],
    attributes: [.string("norm", default: "MAX")],
    types: ["T": featureTypes, "tensor(float)": [.float32]])

  func infer(_ context: inout InferenceContext) throws(OperatorError) { context.set(0, .float32, context.shape(0)) }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let norm = try context.string("norm", oneOf: ["MAX", "L1", "L2"])
    let type = try context.type(0)
    guard let load = Lane.float64.load(type), let store = Lane.float64.store(.float32) else {
      throw context.unsupportedType(type)
    }
    return .planned { (plan) throws(OperatorError) in
      let columns = FeatureKernel.columns(plan.shape(0))
      let rows = columns == 0 ? 0 : plan.shape(0).elementCount / columns
      let partition = Partition(rows, of: .medium * columns)
      let partBytes = (columns * 8 + 63) / 64 * 64
      return .parallel(parts: rows == 0 ? 0 : partition.parts, scratchBytes: partBytes * partition.parts) { run, part in
        let values = (run.scratch + part &* partBytes).assumingMemoryBound(to: Double.self)
        for row in partition.range(part) {
          load(run.inputBytes(0), row &* columns, values, columns)
          let divisor = Normalizer.norm(norm, values, columns)
          // A row whose norm is zero stays as it is.
          if divisor != 0 { for column in 0..<columns { values[column] /= divisor } }
          store(values, run.outputBytes(0), row &* columns, columns)
        }
      }
    }
  }

  private static func norm(_ name: String, _ values: UnsafePointer<Double>, _ count: Int) -> Double {
    var result = 0.0
    switch name {
    case "L1": for index in 0..<count { result += abs(values[index]) }
    case "L2":
      for index in 0..<count { result += values[index] * values[index] }
      result = result.squareRoot()
    default:
      // The largest element, not the largest magnitude: so says the formula of the specification.
      result = -.infinity
      for index in 0..<count { result = max(result, values[index]) }
    }
    return result
  }
}
