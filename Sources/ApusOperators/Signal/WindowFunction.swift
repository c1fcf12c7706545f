// HannWindow, HammingWindow, BlackmanWindow: sums of cosines over a window.
// https://onnx.ai/onnx/operators/onnx__HannWindow.html, …HammingWindow.html, …BlackmanWindow.html
// Versions: 17. A symmetric window of one sample is 0/0, as the specification's formula has it.

import ApusGraph
import ApusTensor

/// w[n] = a0 - a1 cos(2 pi n / N) + a2 cos(4 pi n / N), with N = size, or size - 1 for a symmetric window.
package struct WindowFunction: OperatorDefinition {
  package let schema: OperatorSchema
  private let coefficients: (Double, Double, Double)

  package static let hann = WindowFunction("HannWindow", 0.5, 0.5, 0)
  package static let hamming = WindowFunction("HammingWindow", 25.0 / 46, 21.0 / 46, 0)
  package static let blackman = WindowFunction("BlackmanWindow", 0.42, 0.5, 0.08)

  private init(_ name: String, _ a0: Double, _ a1: Double, _ a2: Double) {
    coefficients = (a0, a1, a2)
    schema = OperatorSchema(
      name, versions: [17], inputs: [.required("size", "T1", readWhenPlanning: true)],
      outputs: [.required("output", "T2")],
      attributes: [.int("output_datatype", default: 1), .int("periodic", default: 1)],
      types: ["T1": .indices, "T2": .numeric])
  }

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let size = context.values(0)?.first ?? .unknown
    if let size = size.known, size < 0 { throw .mismatch("size is \(size); expected 0 or more") }
    context.set(0, try outputDataType(context), [size])
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try outputDataType(context)
    let isPeriodic = try context.bool("periodic")
    let (a0, a1, a2) = coefficients
    guard let convert = elementConverter(from: .float64, to: type) else {
      throw .unsupported("\(schema.id) has no kernel for \(type)")
    }
    return .planned { plan in
      let size = plan.outputShape(0)[0]
      let period = Double(isPeriodic ? size : size - 1)
      let partition = Partition(size, of: .heavy)
      return Step.parallel(parts: partition.parts) { run, part in
        for index in partition.range(part) {
          let angle = 2 * Double.pi * Double(index) / period
          // In this order the middle of a window is exactly 1, also where it is cut to an integer.
          var value = (a2 * Double.cos(2 * angle) - a1 * Double.cos(angle)) + a0
          if !type.isFloat { value.round(.towardZero) }
          convert(&value, run.outputBytes() + index &* type.byteWidth, 1)
        }
      }.notReading(0)
    }
  }
}

/// The type that the attribute output_datatype names, if the schema allows it.
func outputDataType(_ context: some OperatorContext) throws(OperatorError) -> DataType {
  let value = try context.int("output_datatype")
  guard let type = Int32(exactly: value).flatMap(DataType.init(rawValue:)), TypeSet.numeric.tensors.contains(type)
  else {
    throw .invalid("output_datatype is \(value); expected the number of a numeric type")
  }
  return type
}
