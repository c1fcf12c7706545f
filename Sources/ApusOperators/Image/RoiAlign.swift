// RoiAlign: a grid of interpolated samples over each region of interest, averaged or their maximum taken, a bin each.
// https://onnx.ai/onnx/operators/onnx__RoiAlign.html
// Versions: 10, 16 (coordinate_transformation_mode), 22 (bfloat16).

import ApusGraph
import ApusTensor

struct RoiAlign: OperatorDefinition {
  let schema = OperatorSchema(
    "RoiAlign", versions: [10, 16, 22],
    inputs: [.required("X", "T1"), .required("rois", "T1"), .required("batch_indices", "T2")],
    outputs: [.required("Y", "T1")],
    attributes: [
      .string("coordinate_transformation_mode", default: "half_pixel"), .string("mode", default: "avg"),
      .int("output_height", default: 1), .int("output_width", default: 1), .int("sampling_ratio", default: 0),
      .float("spatial_scale", default: 1),
    ],
    types: ["T1": .floats, "T2": .int64], portable: .moreTypes)

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    // Version 10 had no shift by half a pixel.
    if version == 10 { node.attributes["coordinate_transformation_mode"] = .string("output_half_pixel") }
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let (input, rois, indices) = (context.shape(0), context.shape(1), context.shape(2))
    let (height, width) = (try context.int("output_height"), try context.int("output_width"))
    guard height >= 0, width >= 0, height <= WindowAttributes.limit, width <= WindowAttributes.limit else {
      throw .invalid("the output is to be \(height) by \(width); expected 0 or more")
    }
    let ratio = try context.int("sampling_ratio")
    guard ratio <= 4_096 else {
      throw .unsupported("attribute sampling_ratio is \(ratio); no more than 4096 samples an axis")
    }
    _ = try context.string("mode", oneOf: ["avg", "max"])
    _ = try context.string("coordinate_transformation_mode", oneOf: ["half_pixel", "output_half_pixel"])
    if let input, input.count != 4 {
      throw .mismatch("the input has the shape \(input); expected [batch, channels, height, width]")
    }
    if let rois, rois.count != 2 || (rois[1].known ?? 4) != 4 {
      throw .mismatch("rois has the shape \(rois); expected [regions, 4]")
    }
    if let indices, indices.count != 1 || indices[0].isSurelyDifferent(from: rois?[0] ?? .unknown) {
      throw .mismatch("batch_indices has the shape \(indices); expected [\(rois?[0] ?? .unknown)]")
    }
    let count = rois?[0] ?? indices?[0] ?? .unknown
    context.set(0, context.type(0), [count, input?[1] ?? .unknown, Dim(height), Dim(width)])
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    try prepareReal(
      context,
      float: { (context) throws(OperatorError) in
        try plan(Float.self, .float32, context) { RegionChannels($0.align, regions: $0.regions).step }
      },
      double: { (context) throws(OperatorError) in try plan(Double.self, .float64, context) { _ in nil } })
  }

  private func plan<Element: SampledElement & SendableMetatype>(
    _ type: Element.Type, _ dataType: DataType, _ context: PrepareContext,
    channels: @escaping @Sendable (RegionFacts<Element>) -> Step?
  ) throws(OperatorError) -> PreparedKernel {
    let offset: Element = try context.string("coordinate_transformation_mode") == "half_pixel" ? 0.5 : 0
    let takesMaximum = try context.string("mode") == "max"
    let ratio = try context.int("sampling_ratio")
    let scale = Element(try context.float("spatial_scale"))
    let candidates: [RegionFacts<Element>.Candidate] = [
      RegionFacts.Candidate("plain") {
        .cost(.loops(operations: Double($0.regions) * Double($0.align.channels)))
      } make: {
        $0.align.step(regions: $0.regions)
      },
      RegionFacts.Candidate("channels", types: [.float32]) {
        RegionChannels.refusal($0).map { .refused($0) }
          ?? .cost(.vectors(operations: Double($0.regions) * Double($0.align.channels)))
      } make: {
        channels($0)
      },
    ]
    return .planned { (plan) throws(OperatorError) in
      let (input, output) = (plan.shape(0), plan.outputShape(0))
      let align = RegionAlign(
        batch: input[0], channels: input[1], height: input[2], width: input[3], binRows: output[2],
        binColumns: output[3],
        scale: scale, offset: offset, samplingRatio: ratio, takesMaximum: takesMaximum)
      return try RegionFacts<Element>.Candidate.choose(
        .regionAlignment, for: RegionFacts(elementType: dataType, align: align, regions: output[0]), candidates)
    }
  }
}

struct RegionAlign<Element: SampledElement>: Sendable {
  let batch: Int
  let channels: Int
  let height: Int
  let width: Int
  let binRows: Int
  let binColumns: Int
  let scale: Element
  let offset: Element
  let samplingRatio: Int
  let takesMaximum: Bool

  /// The samples along one axis of one region.
  struct Axis {
    private let start: Element
    private let bin: Element
    /// Samples of a bin.
    let count: Element
    private let extent: Int

    init(_ low: Element, _ high: Element, bins: Int, extent: Int, isAtLeastOne: Bool, samplingRatio: Int) {
      start = low
      let length = isAtLeastOne ? Element.maximum(high - low, 1) : high - low
      bin = length / Element(bins)
      count = samplingRatio > 0 ? Element(samplingRatio) : Element.maximum(bin.rounded(.up), 0)
      self.extent = extent
    }

    func coordinate(_ index: Int, bin number: Int) -> Element {
      start + Element(number) * bin + (Element(index) + 0.5) * bin / count
    }

    /// The samples of a bin that can lie in the image; a region may be far larger than the image.
    func samples(bin number: Int) -> Range<Int> {
      let step = bin / count
      let origin = start + Element(number) * bin
      // Where the samples enter and leave the image; backwards where the region is turned around.
      let (enter, leave) = ((-1 - origin) / step, (Element(extent) - origin) / step)
      let low = Element.maximum(0, Element.minimum(count, Element.minimum(enter, leave).rounded(.down) - 1))
      let high = Element.maximum(low, Element.minimum(count, Element.maximum(enter, leave).rounded(.up) + 1))
      guard high - low < 0x1p24, high < 0x1p30 else { return 0..<0 }
      return low.integer..<high.integer
    }

    /// The two elements around a coordinate, with the weight of the second; nil outside.
    func place(_ coordinate: Element) -> (low: Int, high: Int, weight: Element)? {
      guard coordinate >= -1, coordinate <= Element(extent), extent > 0 else { return nil }
      let inside = Element.maximum(coordinate, 0)
      let low = inside.integer
      if low >= extent - 1 { return (extent - 1, extent - 1, 0) }
      return (low, low + 1, inside - Element(low))
    }
  }

  /// Region by region, channel by channel, sample by sample.
  func step(regions: Int) -> Step {
    let partition = Partition(regions &* channels, of: .medium * 2 * binRows * binColumns)
    return .parallel(parts: partition.parts) { run, part in
      for unit in partition.range(part) { self.run(run, region: unit / channels, channel: unit % channels) }
    }.named("direct")
  }

  /// The image of a region; nil if there is none, which fails the run.
  func image(_ run: RunContext, _ region: Int) -> Int? {
    let image = run.input(2, as: Int.self)[region]
    if image >= 0, image < batch { return image }
    run.fail("batch_indices[\(region)] is \(image); expected 0 to \(batch - 1)")
    return nil
  }

  /// The samples of a region.
  func axes(_ roi: UnsafePointer<Element>) -> (rows: Axis, columns: Axis) {
    let columns = Axis(
      roi[0] * scale - offset, roi[2] * scale - offset, bins: binColumns, extent: width, isAtLeastOne: offset == 0,
      samplingRatio: samplingRatio)
    let rows = Axis(
      roi[1] * scale - offset, roi[3] * scale - offset, bins: binRows, extent: height, isAtLeastOne: offset == 0,
      samplingRatio: samplingRatio)
    return (rows, columns)
  }

  private func run(_ run: RunContext, region: Int, channel: Int) {
    guard let image = image(run, region) else { return }
    let (rows, columns) = axes(run.input(1) + region &* 4)
    let x: UnsafePointer<Element> = run.input(0) + (image &* channels &+ channel) &* height &* width
    let y: UnsafeMutablePointer<Element> = run.output() + (region &* channels &+ channel) &* binRows &* binColumns
    for row in 0..<binRows {
      for column in 0..<binColumns { y[row &* binColumns &+ column] = bin(x, rows, row, columns, column) }
    }
  }

  /// Samples outside the image count as 0.
  private func bin(_ x: UnsafePointer<Element>, _ rows: Axis, _ row: Int, _ columns: Axis, _ column: Int) -> Element {
    let (rowSamples, columnSamples) = (rows.samples(bin: row), columns.samples(bin: column))
    var sum: Element = 0
    var best: Element = -.infinity
    var inside: Element = 0
    for i in rowSamples {
      guard let v = rows.place(rows.coordinate(i, bin: row)) else { continue }
      for j in columnSamples {
        guard let h = columns.place(columns.coordinate(j, bin: column)) else { continue }
        inside += 1
        let a = (1 - v.weight) * (1 - h.weight) * x[v.low &* width &+ h.low]
        let b = (1 - v.weight) * h.weight * x[v.low &* width &+ h.high]
        let c = v.weight * (1 - h.weight) * x[v.high &* width &+ h.low]
        let d = v.weight * h.weight * x[v.high &* width &+ h.high]
        sum += a + b + c + d
        // The maximum is over the weighted elements, not over their sums, as in the reference.
        best = Element.maximum(best, Element.maximum(Element.maximum(a, b), Element.maximum(c, d)))
      }
    }
    let total = rows.count * columns.count
    if takesMaximum { return inside < total || inside == 0 ? Element.maximum(best, 0) : best }
    return sum / Element.maximum(total, 1)
  }
}
