// MelWeightMatrix: triangular filters that gather frequencies on the mel scale.
// https://onnx.ai/onnx/operators/onnx__MelWeightMatrix.html
// Versions: 17. Computed in float64.

import ApusGraph
import ApusTensor

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

package struct MelWeightMatrix: OperatorDefinition {
  package let schema = OperatorSchema(
    "MelWeightMatrix", versions: [17],
    inputs: [
      .required("num_mel_bins", "T1", readWhenPlanning: true), .required("dft_length", "T1", readWhenPlanning: true),
      .required("sample_rate", "T1", readWhenPlanning: true),
      .required("lower_edge_hertz", "T2", readWhenPlanning: true),
      .required("upper_edge_hertz", "T2", readWhenPlanning: true),
    ],
    outputs: [.required("output", "T3")], attributes: [.int("output_datatype", default: 1)],
    types: ["T1": .indices, "T2": .floats, "T3": .numeric])

  package init() {}

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let bands = context.values(0)?.first ?? .unknown
    let length = context.values(1)?.first ?? .unknown
    for (name, value) in [("num_mel_bins", bands), ("dft_length", length)] {
      if let value = value.known, value < 0 { throw .mismatch("\(name) is \(value); expected 0 or more") }
    }
    context.set(0, try outputDataType(context), [length.dividedRoundingDown(by: 2) + Dim(1), bands])
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try outputDataType(context)
    guard let convert = elementConverter(from: .float64, to: type) else {
      throw .unsupported("MelWeightMatrix has no kernel for \(type)")
    }
    return .planned { (plan) throws(OperatorError) in
      guard let length = plan.integers(1)?.first, let rate = plan.integers(2)?.first,
        let low = MelWeightMatrix.number(plan.tensor(3)), let high = MelWeightMatrix.number(plan.tensor(4))
      else { throw .mismatch("the parameters of the matrix are not known") }
      guard rate > 0 else { throw .mismatch("sample_rate is \(rate); expected at least 1") }
      let shape = plan.outputShape(0)
      let filters = try MelFilters(bands: shape[1], rows: shape[0], length: length, rate: rate, low: low, high: high)
      let width = type.byteWidth
      return Step.serial { run in
        // Zero is zeros in every type.
        memset(run.outputBytes(), 0, shape.elementCount &* width)
        for band in 0..<shape[1] {
          for row in filters.rows(of: band) {
            var value = filters.weight(row: row, band: band)
            if !type.isFloat { value.round(.towardZero) }
            convert(&value, run.outputBytes() + (row &* shape[1] &+ band) &* width, 1)
          }
        }
      }.notReading(0, 1, 2, 3, 4)
    }
  }

  /// The element of a float tensor.
  private static func number(_ tensor: Tensor?) -> Double? {
    guard let tensor, tensor.count > 0, let convert = elementConverter(from: tensor.dataType, to: .float64),
      let aligned = try? Allowance.unlimited.aligned(tensor, to: 8)
    else { return nil }
    var value = 0.0
    convert(aligned.base, &value, 1)
    withExtendedLifetime(aligned) {}
    return value
  }
}

/// The edges of the filters as rows of the spectrum.
private struct MelFilters: Sendable {
  private let edges: [Int]

  init(bands: Int, rows: Int, length: Int, rate: Int, low: Double, high: Double) throws(OperatorError) {
    guard bands < 1 << 24 else { throw OperatorError(.limit, "\(bands) mel bands are beyond the limit of \(1 << 24)") }
    func mel(_ hertz: Double) -> Double { 2595 * Double.log1p(hertz / 700) / Double.log(10) }
    let (first, last) = (mel(low), mel(high))
    let step = (last - first) / Double(bands + 2)
    var edges: [Int] = []
    for index in 0..<bands + 2 {
      let hertz = 700 * Double.expm1((Double(index) * step + first) / 2595 * Double.log(10))
      let edge = ((Double(length) + 1) * hertz / Double(rate)).rounded(.down)
      // The last edge only ends a slope; the others are rows.
      let limit = Double(index == bands + 1 ? rows + 1 : rows)
      guard edge >= 0, edge < limit else {
        throw .mismatch(
          "the mel band at \(hertz) Hz is beyond the spectrum of \(rows) rows",
          remedy: "lower_edge_hertz and upper_edge_hertz must lie between 0 and half the sample rate")
      }
      edges.append(Int(edge))
    }
    self.edges = edges
  }

  /// The rows outside of which a band has no weight.
  func rows(of band: Int) -> Range<Int> {
    let (low, center, high) = (edges[band], edges[band + 1], edges[band + 2])
    return min(low, center)..<max(high, center + 1)
  }

  func weight(row: Int, band: Int) -> Double {
    let (low, center, high) = (edges[band], edges[band + 1], edges[band + 2])
    // Later slopes write over earlier ones, so the falling slope has the say at the center.
    if row >= center && row < high { return Double(high - row) / Double(high - center) }
    if low == center { return row == center ? 1 : 0 }
    if row >= low && row <= center { return Double(row - low) / Double(center - low) }
    return 0
  }
}
