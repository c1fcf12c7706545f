// MaxRoiPool: the largest elements of a grid of bins over each region of interest.
// https://onnx.ai/onnx/operators/onnx__MaxRoiPool.html
// Versions: 1, 22 (bfloat16).

import ApusGraph
import ApusTensor

struct MaxRoiPool: OperatorDefinition {
  let schema = OperatorSchema(
    "MaxRoiPool", versions: [1, 22],
    inputs: [.required("X", "T"), .required("rois", "T")],
    outputs: [.required("Y", "T")],
    attributes: [.required("pooled_shape", .ints), .float("spatial_scale", default: 1)],
    types: ["T": .floats], portable: .moreTypes)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let pooled = try MaxRoiPool.pooledShape(context)
    let (input, rois) = (context.shape(0), context.shape(1))
    if let input, input.count != 4 {
      throw .mismatch("the input has the shape \(input); expected [batch, channels, height, width]")
    }
    if let rois, rois.count != 2 || (rois[1].known ?? 5) != 5 {
      throw .mismatch("rois has the shape \(rois); expected [regions, 5]")
    }
    context.set(0, context.type(0), [rois?[0] ?? .unknown, input?[1] ?? .unknown] + pooled.map { Dim($0) })
  }

  private static func pooledShape(_ context: some OperatorContext) throws(OperatorError) -> [Int] {
    guard let shape = try WindowAttributes.extents("pooled_shape", context, count: 2) else {
      throw .invalid("attribute pooled_shape is empty")
    }
    return shape
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    try prepareReal(
      context, float: { (context) throws(OperatorError) in try plan(Float.self, context) },
      double: { (context) throws(OperatorError) in try plan(Double.self, context) })
  }

  private func plan<Element: PoolElement & SampledElement>(
    _ type: Element.Type, _ context: PrepareContext
  ) throws(OperatorError) -> PreparedKernel {
    let scale = Element(try context.float("spatial_scale"))
    return .planned { plan in
      let (input, output) = (plan.shape(0), plan.outputShape(0))
      let pool = RegionPool(
        batch: input[0], channels: input[1], height: input[2], width: input[3], pooledHeight: output[2],
        pooledWidth: output[3], scale: scale)
      let units = output[0] &* output[1]
      let partition = Partition(units, of: .light * 2 * input[2] * input[3])
      return .parallel(parts: partition.parts) { run, part in
        for unit in partition.range(part) { pool.run(run, region: unit / output[1], channel: unit % output[1]) }
      }.named("direct")
    }
  }
}

private struct RegionPool<Element: PoolElement & SampledElement>: Sendable {
  let batch: Int
  let channels: Int
  let height: Int
  let width: Int
  let pooledHeight: Int
  let pooledWidth: Int
  let scale: Element

  func run(_ run: RunContext, region: Int, channel: Int) {
    let roi: UnsafePointer<Element> = run.input(1) + region &* 5
    guard roi[0] >= 0, roi[0] < Element(batch) else {
      return run.fail("region \(region) names image \(roi[0]); expected 0 to \(batch - 1)")
    }
    let x: UnsafePointer<Element> = run.input(0) + (roi[0].integer &* channels &+ channel) &* height &* width
    let y: UnsafeMutablePointer<Element> =
      run.output() + (region &* channels &+ channel) &* pooledHeight &* pooledWidth
    let (left, top) = (pixel(roi[1]), pixel(roi[2]))
    // Regions without extent count as one pixel.
    let binHeight = Element(Swift.max(pixel(roi[4]) &- top &+ 1, 1)) / Element(pooledHeight)
    let binWidth = Element(Swift.max(pixel(roi[3]) &- left &+ 1, 1)) / Element(pooledWidth)
    for row in 0..<pooledHeight {
      let rows = bin(row, size: binHeight, start: top, extent: height)
      for column in 0..<pooledWidth {
        let columns = bin(column, size: binWidth, start: left, extent: width)
        var best: Element = rows.isEmpty || columns.isEmpty ? 0 : -.infinity
        for h in rows {
          for w in columns where x[h &* width &+ w] > best { best = x[h &* width &+ w] }
        }
        y[row &* pooledWidth &+ column] = best
      }
    }
  }

  /// The nearest pixel to a coordinate of the image, far outside for what is not a number or too large.
  private func pixel(_ coordinate: Element) -> Int {
    let scaled = (coordinate * scale).rounded(.toNearestOrAwayFromZero)
    return scaled > -1e9 && scaled < 1e9 ? scaled.integer : scaled > 0 ? 1_000_000_000 : -1_000_000_000
  }

  private func bin(_ index: Int, size: Element, start: Int, extent: Int) -> Range<Int> {
    let low = (Element(index) * size).rounded(.down).integer &+ start
    let high = (Element(index &+ 1) * size).rounded(.up).integer &+ start
    let first = Swift.min(Swift.max(low, 0), extent)
    return first..<Swift.max(first, Swift.min(high, extent))
  }
}
