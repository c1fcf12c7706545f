// Resize: an image in another size, by nearest element, linear or cubic interpolation.
// https://onnx.ai/onnx/operators/onnx__Resize.html
// Versions: 10 (scales only), 11 (roi, sizes, coordinate modes), 13, 18 (antialias, axes, aspect policy), 19
// (half_pixel_symmetric).

import ApusGraph
import ApusTensor

package struct Resize: OperatorDefinition {
  package let schema = OperatorSchema(
    "Resize", versions: [10, 11, 13, 18, 19],
    inputs: [
      .required("X", "T"), .optional("roi", "T2", readWhenPlanning: true),
      .optional("scales", "tensor(float)", readWhenPlanning: true),
      .optional("sizes", "tensor(int64)", readWhenPlanning: true),
    ],
    outputs: [.required("Y", "T")],
    attributes: [
      .int("antialias", default: 0).since(18), .optional("axes", .ints).since(18),
      .string("coordinate_transformation_mode", default: "half_pixel"), .float("cubic_coeff_a", default: -0.75),
      .int("exclude_outside", default: 0), .float("extrapolation_value", default: 0),
      .string("keep_aspect_ratio_policy", default: "stretch").since(18),
      .string("mode", default: "nearest"), .string("nearest_mode", default: "round_prefer_floor"),
    ],
    types: [
      "T": .allBeforeBFloat16 + [.bfloat16], "T2": .ieeeFloats, "tensor(float)": [.float32], "tensor(int64)": .int64,
    ],
    // True of nearest, the only mode for strings.
    traits: .movesData, layout: .axes(attribute: "axes") { Resize.isUsualWithChannelsLast($0) },
    axes: AxisRules.resize, codes: .keeps)

  /// Other runtimes, which may be given the optimized model, interpolate images of two axes whose channels are last by
  /// linear filters only.
  private static func isUsualWithChannelsLast(_ node: NodeFacts) -> Bool {
    switch node.optionalString("mode") ?? "nearest" {
    case "nearest": true
    case "linear": node.shape(0).map { $0.count <= 4 } ?? false
    default: false
    }
  }

  package init() {}

  package func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    guard version == 10, let x = node.inputs.first else { return }
    node.inputs = [x, nil] + node.inputs.dropFirst()
    node.attributes["coordinate_transformation_mode"] = .string("asymmetric")
    node.attributes["nearest_mode"] = .string("ceil_if_shrinking")
  }

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let attributes = try ResizeAttributes(context)
    if context.type(0) == .string, attributes.mode != .nearest {
      throw .mismatch("strings can be resized with the mode nearest only")
    }
    if context.type(0) == .string, attributes.coordinates == .cropAndResize, attributes.extrapolation != 0 {
      throw .mismatch("strings have no extrapolation_value \(attributes.extrapolation); expected 0")
    }
    guard let input = context.shape(0) else { return context.set(0, context.type(0), nil) }
    let axes = try attributes.resolvedAxes(rank: input.count)
    var shape = input
    let (scales, sizes) = (isGiven(context, 2), isGiven(context, 3))
    if scales == false, sizes == false { throw .invalid("neither scales nor sizes are given") }
    if scales == true, sizes == true { throw .invalid("both scales and sizes are given; expected one of them") }
    for axis in axes { shape[axis] = .unknown }
    if sizes != false, let values = context.values(3) {
      try expect(count: values.count, axes, "sizes")
      if let known = values.concrete?.dims, known.contains(where: { $0 < 0 }) {
        throw .mismatch("sizes are \(known); expected 0 or more")
      }
      try inferSizes(&shape, input, axes, values, attributes)
    } else if scales != false, let values = context.constant(2)?.elements(as: Float.self) {
      try expect(count: values.count, axes, "scales")
      for (axis, scale) in zip(axes, values) { shape[axis] = try scaled(input[axis], by: scale) }
    }
    context.set(0, context.type(0), shape)
  }

  /// True if the input has elements, false if it is absent or empty, nil if that is not known.
  private func isGiven(_ context: InferenceContext, _ input: Int) -> Bool? {
    guard context.isPresent(input) else { return false }
    guard let shape = context.shape(input) else { return nil }
    guard shape.count == 1, let count = shape[0].known else { return shape.count == 1 ? nil : true }
    return count > 0
  }

  private func expect(count: Int, _ axes: [Int], _ name: String) throws(OperatorError) {
    guard count == axes.count else {
      throw .mismatch("\(name) has \(count) elements; expected \(axes.count), one for each axis")
    }
  }

  private func inferSizes(
    _ shape: inout [Dim], _ input: [Dim], _ axes: [Int], _ sizes: [Dim], _ attributes: ResizeAttributes
  ) throws(OperatorError) {
    if attributes.keepsAspect == nil {
      for (axis, size) in zip(axes, sizes) { shape[axis] = size }
    } else if let extents = axes.map({ input[$0] }).concrete?.dims, let known = sizes.concrete?.dims {
      let result = attributes.aspectScale(input: extents, sizes: known)?.extents ?? known
      for (axis, size) in zip(axes, result) { shape[axis] = Dim(size) }
    }
  }

  private func scaled(_ extent: Dim, by scale: Float) throws(OperatorError) -> Dim {
    guard scale > 0, scale.isFinite else { throw .mismatch("a scale is \(scale); expected a number above 0") }
    if let extent = extent.known { return ResizeAttributes.scaledExtent(extent, scale).map { Dim($0) } ?? .unknown }
    if scale == scale.rounded(), scale < 65_536 { return extent * Dim(Int(scale)) }
    let inverse = 1 / scale
    // Exact only for halves, quarters and so on.
    if inverse == inverse.rounded(), inverse < 65_536, inverse.significandBitPattern == 0 {
      return extent.dividedRoundingDown(by: Dim(Int(inverse)))
    }
    return .unknown
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let attributes = try ResizeAttributes(context)
    if attributes.mode == .nearest { return .planned(NearestResize(attributes: attributes)) }
    switch try context.type(0) {
    case .float32, .complex64: return try filterFloats(attributes)
    case .float64, .complex128: return FilterResize<Double>(attributes: attributes).prepared
    case .string: throw .mismatch("strings can be resized with the mode nearest only")
    case let type:
      // The other inputs are read while planning, in the types they have.
      func staged(_ wide: DataType) throws(OperatorError) -> PreparedKernel {
        try StagedKernel.prepare(context, [type: wide], operands: [0]) { (_) throws(OperatorError) in
          wide == .float32 ? try filterFloats(attributes) : FilterResize<Double>(attributes: attributes).prepared
        }
      }
      if type.isFloat { return try staged(.float32) }
      guard type.bits <= 16, case .planned(let narrow) = try staged(.float32),
        case .planned(let wide) = try staged(.float64)
      else { return try staged(.float64) }
      return .planned(ExactResize(attributes: attributes, bits: type.bits, narrow: narrow, wide: wide))
    }
  }

  private func filterFloats(_ attributes: ResizeAttributes) throws(OperatorError) -> PreparedKernel {
    try ElementCandidate.choose(
      .resize, type: .float32,
      [
        .plain { FilterResize<Float>(attributes: attributes).prepared },
        .vectors("rows") { .planned(ResizeRows(attributes: attributes)) },
      ])
  }
}

/// Filters of integers of few bits: in float32 where every sum is exact there, otherwise in float64.
private struct ExactResize: Kernel {
  let attributes: ResizeAttributes
  let bits: Int
  let narrow: any Kernel
  let wide: any Kernel

  /// Of a float32.
  private static let precision = 24

  func plan(_ context: PlanContext) throws(OperatorError) -> Step {
    try isExact(context) ? narrow.plan(context) : wide.plan(context)
  }

  /// Each axis adds the bits behind the point of its weights, and what their sum is more than 1.
  private func isExact(_ context: PlanContext) throws(OperatorError) -> Bool {
    // What lies outside is converted to the type of the elements, by other rules where that has no place for it.
    if context.outputShape(0).elementCount == 0 || !(attributes.extrapolation.magnitude < 128) { return false }
    var needed = bits
    for filter in try attributes.filters(context) {
      guard let added = filter.exactBits(atMost: ExactResize.precision) else { return false }
      needed += added
    }
    return needed <= ExactResize.precision
  }
}

extension ResizeAttributes {
  /// How every axis is resized, from the values of the inputs.
  func scales(_ plan: PlanContext) throws(OperatorError) -> [ResizeScale] {
    let (input, output) = (plan.shape(0), plan.outputShape(0))
    let axes = try resolvedAxes(rank: input.rank)
    var scales = zip(input, output).map {
      ResizeScale(input: $0, output: $1, scale: 1, exactOutput: Double($1), region: (0, 1))
    }
    let roi = plan.tensor(1).flatMap { $0.floats }
    let given = plan.tensor(2)?.elements(as: Float.self).flatMap { $0.isEmpty ? nil : $0 }
    let sizes = plan.integers(3)
    let aspect = given == nil ? sizes.flatMap { aspectScale(input: axes.map { input[$0] }, sizes: $0) } : nil
    for (position, axis) in axes.enumerated() {
      let extent = Double(input[axis])
      if let given, position < given.count {
        scales[axis].scale = Double(given[position])
        scales[axis].exactOutput = scales[axis].scale * extent
      } else if let aspect {
        scales[axis].scale = aspect.scale
        scales[axis].exactOutput = aspect.scale * extent
      } else {
        scales[axis].scale = Double(output[axis]) / extent
      }
      scales[axis].region = try region(roi, position, of: axes.count)
    }
    if output.elementCount > 0, input.elementCount == 0 {
      throw .mismatch("an input of shape \(input) has no elements to make the shape \(output) of")
    }
    return scales
  }

  /// The filters of the axes that change, for an output that has elements.
  func filters(_ plan: PlanContext) throws(OperatorError) -> [ResizeFilter] {
    var filters: [ResizeFilter] = []
    for (axis, scale) in try scales(plan).enumerated() where !scale.isIdentity(coordinates) {
      filters.append(try ResizeFilter(axis: axis, scale, self))
    }
    return filters
  }
}

extension Tensor {
  /// The elements of a float tensor in double precision; nil for other types.
  fileprivate var floats: [Double]? {
    elementConverter(from: dataType, to: .float64).flatMap {
      try? converted(to: .float64, $0, .unlimited).elements(as: Double.self)
    }
  }
}
