// AffineGrid: the points of a regular grid under an affine map, for GridSample.
// https://onnx.ai/onnx/operators/onnx__AffineGrid.html
// Versions: 20.

import ApusGraph
import ApusTensor

struct AffineGrid: OperatorDefinition {
  let schema = OperatorSchema(
    "AffineGrid", versions: [20],
    inputs: [.required("theta", "T1"), .required("size", "T2", readWhenPlanning: true)],
    outputs: [.required("grid", "T1")],
    attributes: [.int("align_corners", default: 0)],
    types: ["T1": .floats, "T2": .int64])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let theta = context.shape(0)
    if let theta, theta.count != 3 {
      throw .mismatch("theta has the shape \(theta); expected [batch, 2, 3] or [batch, 3, 4]")
    }
    guard let size = context.values(1) else {
      let rank = context.shape(1)?.first?.known ?? theta?[1].known.map { $0 &+ 2 }
      return context.set(0, context.type(0), .unknown(rank: rank))
    }
    guard size.count == 4 || size.count == 5 else {
      throw .mismatch("size has \(size.count) elements; expected 4 (batch, channels, height, width) or 5 (with depth)")
    }
    let rank = size.count - 2
    let expected = [size[0], Dim(rank), Dim(rank + 1)]
    if let theta, zip(theta, expected).contains(where: { $0.isSurelyDifferent(from: $1) }) {
      throw .mismatch("theta has the shape \(theta); expected \(expected)")
    }
    for extent in size {
      if let known = extent.known, known < 0 { throw .mismatch("size is \(size); expected 0 or more") }
    }
    context.set(0, context.type(0), [size[0]] + size[2...] + [Dim(rank)])
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    try prepareReal(
      context, float: { (context) throws(OperatorError) in try plan(Float.self, context) },
      double: { (context) throws(OperatorError) in try plan(Double.self, context) })
  }

  private func plan<Element: SampledElement & SendableMetatype>(
    _ type: Element.Type, _ context: PrepareContext
  ) throws(OperatorError) -> PreparedKernel {
    let alignsCorners = try context.bool("align_corners")
    return .planned { plan in
      let output = plan.outputShape(0)
      let rank = output.rank - 2
      let lines = output.count(of: 1..<rank)
      let places = output.dims[1...rank].map { extent in
        (0..<extent).map { position($0, extent, alignsCorners) }
      }
      let width = output[rank]
      let partition = Partition(output[0] * lines, of: .medium * width)
      return .parallel(parts: partition.parts) { run, part in
        for unit in partition.range(part) {
          let (image, line) = unit.quotientAndRemainder(dividingBy: lines)
          let theta: UnsafePointer<Element> = run.input(0) + image &* rank &* (rank &+ 1)
          fill(theta, places, line, run.output() + unit &* width &* rank)
        }
      }.named("direct")
    }
  }

  /// The points of one line. `places`: where the elements of each axis lie.
  @inline(__always)
  private func fill<Element: SampledElement>(
    _ theta: UnsafePointer<Element>, _ places: [[Double]], _ line: Int, _ y: UnsafeMutablePointer<Element>
  ) {
    let rank = places.count
    // The map takes x first, which runs along the last axis, and adds up in that order.
    var (start, slope, rest) = (SIMD4<Double>(), SIMD4<Double>(), line)
    var others = (SIMD4<Double>(), SIMD4<Double>())
    for row in 0..<rank {
      start[row] = Double(theta[row &* (rank &+ 1) &+ rank])
      slope[row] = Double(theta[row &* (rank &+ 1)])
    }
    for column in 1..<rank {
      let axis = places[rank &- 1 &- column]
      let place = axis[rest % axis.count]
      rest /= axis.count
      var terms = SIMD4<Double>()
      for row in 0..<rank { terms[row] = Double(theta[row &* (rank &+ 1) &+ column]) * place }
      if column == 1 { others.0 = terms } else { others.1 = terms }
    }
    places[rank &- 1].withUnsafeBufferPointer { along in
      if rank == 2 {
        let (start, slope, other) = (start.lowHalf, slope.lowHalf, others.0.lowHalf)
        for x in along.indices {
          let sum = start + slope * along[x] + other
          (y[2 &* x], y[2 &* x &+ 1]) = (Element(sum[0]), Element(sum[1]))
        }
        return
      }
      for x in along.indices {
        var sum = start + slope * along[x] + others.0
        let point = y + x &* rank
        sum += others.1
        point[0] = Element(sum[0])
        point[1] = Element(sum[1])
        point[2] = Element(sum[2])
      }
    }
  }
}

/// Where element `index` of `count` lies between -1 and 1: their ends are centres of elements, or edges of them. One
/// element alone lies at -1 where the ends are centres, as the function body of the specification has it.
private func position(_ index: Int, _ count: Int, _ alignsCorners: Bool) -> Double {
  if alignsCorners { return count > 1 ? 2 * Double(index) / Double(count - 1) - 1 : -1 }
  return (2 * Double(index) + 1) / Double(count) - 1
}
