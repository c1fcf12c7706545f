// Resize by coordinates: what the inputs and attributes of a node say about each axis, and which input elements an
// output element is made of. https://onnx.ai/onnx/operators/onnx__Resize.html

import ApusGraph
import ApusTensor

enum ResizeMode: Sendable { case nearest, linear, cubic }

/// How one axis is resized.
struct ResizeScale: Sendable {
  var input: Int
  var output: Int
  /// Output extent over input extent, as the model has it; the output extent is the product rounded.
  var scale: Double
  /// The output extent before rounding.
  var exactOutput: Double
  /// The part of the axis that is resized, 0 to 1 for all of it. Read with `tf_crop_and_resize` only.
  var region: (start: Double, end: Double)

  /// True if output element i is input element i.
  func isIdentity(_ coordinates: ResizeCoordinates) -> Bool {
    output == input && abs(scale - 1) <= 1e-9 && (coordinates != .cropAndResize || region == (0, 1))
  }
}

/// `coordinate_transformation_mode`.
enum ResizeCoordinates: String, Sendable {
  case halfPixel = "half_pixel"
  case halfPixelSymmetric = "half_pixel_symmetric"
  case pytorchHalfPixel = "pytorch_half_pixel"
  case alignCorners = "align_corners"
  case asymmetric = "asymmetric"
  case cropAndResize = "tf_crop_and_resize"
  /// Version 11 only.
  case halfPixelForNearest = "tf_half_pixel_for_nn"

  /// The coordinate in the input of output element `position`.
  func original(_ position: Int, _ axis: ResizeScale) -> Double {
    let x = Double(position)
    let last = Double(axis.input - 1)
    let coordinate =
      switch self {
      case .halfPixel: (x + 0.5) / axis.scale - 0.5
      case .halfPixelSymmetric:
        Double(axis.input) / 2 * (1 - Double(axis.output) / axis.exactOutput) + (x + 0.5) / axis.scale - 0.5
      case .pytorchHalfPixel: axis.output > 1 ? (x + 0.5) / axis.scale - 0.5 : 0
      // The specification's own cases divide by the extent before rounding.
      case .alignCorners: axis.output > 1 && axis.exactOutput != 1 ? x * last / (axis.exactOutput - 1) : 0
      case .asymmetric: x / axis.scale
      case .cropAndResize:
        axis.output > 1
          ? axis.region.start * last + x * (axis.region.end - axis.region.start) * last / Double(axis.output - 1)
          : 0.5 * (axis.region.start + axis.region.end) * last
      case .halfPixelForNearest: (x + 0.5) / axis.scale
      }
    // Scales are float32; in that precision 3 / (1/3) is 9 and not the number below it.
    return Double(Float(coordinate))
  }
}

/// `nearest_mode`.
enum ResizeRounding: String, Sendable {
  case preferFloor = "round_prefer_floor"
  case preferCeil = "round_prefer_ceil"
  case floor
  case ceil
  /// Version 10: up where the axis shrinks, down where it grows.
  case ceilIfShrinking = "ceil_if_shrinking"

  func callAsFunction(_ x: Double, shrinking: Bool) -> Double {
    switch self {
    case .preferFloor: (x - 0.5).rounded(.up)
    case .preferCeil: (x + 0.5).rounded(.down)
    case .floor: x.rounded(.down)
    case .ceil: x.rounded(.up)
    case .ceilIfShrinking: x.rounded(shrinking ? .up : .down)
    }
  }
}

/// The attributes of a Resize node.
struct ResizeAttributes: Sendable {
  let mode: ResizeMode
  let coordinates: ResizeCoordinates
  let rounding: ResizeRounding
  let antialias: Bool
  let cubicCoefficient: Double
  let excludesOutside: Bool
  let extrapolation: Float
  let axes: [Int]?
  /// nil: stretch.
  let keepsAspect: Aspect?

  enum Aspect: String, Sendable {
    case notLarger = "not_larger"
    case notSmaller = "not_smaller"
  }

  init(_ context: some OperatorContext) throws(OperatorError) {
    mode =
      switch try context.string("mode", oneOf: ["nearest", "linear", "cubic"]) {
      case "nearest": .nearest
      case "linear": .linear
      default: .cubic
      }
    let transformation = try context.string("coordinate_transformation_mode")
    guard let coordinates = ResizeCoordinates(rawValue: transformation) else {
      throw .invalid(
        "attribute coordinate_transformation_mode is '\(transformation)', which the specification does not know")
    }
    self.coordinates = coordinates
    let nearest = try context.string("nearest_mode")
    guard let rounding = ResizeRounding(rawValue: nearest) else {
      throw .invalid(
        "attribute nearest_mode is '\(nearest)'; expected round_prefer_floor, round_prefer_ceil, floor or ceil")
    }
    self.rounding = rounding
    antialias = try context.bool("antialias")
    if antialias, mode == .nearest { throw .invalid("antialias is for the modes linear and cubic only") }
    cubicCoefficient = Double(try context.float("cubic_coeff_a"))
    excludesOutside = try context.bool("exclude_outside")
    extrapolation = try context.float("extrapolation_value")
    axes = context.optionalInts("axes")
    let policy = try context.string("keep_aspect_ratio_policy", oneOf: ["stretch", "not_larger", "not_smaller"])
    keepsAspect = Aspect(rawValue: policy)
  }

  /// The axes that scales, sizes and regions speak of, in their order.
  func resolvedAxes(rank: Int) throws(OperatorError) -> [Int] {
    guard let axes else { return Array(0..<rank) }
    var resolved: [Int] = []
    for axis in axes {
      let position = try resolveAxis(axis, rank: rank, name: "axes")
      guard !resolved.contains(position) else { throw .mismatch("axes names axis \(position) twice") }
      resolved.append(position)
    }
    return resolved
  }

  /// The part of an axis that is resized, from the input `roi`.
  func region(_ roi: [Double]?, _ position: Int, of count: Int) throws(OperatorError) -> (start: Double, end: Double) {
    guard coordinates == .cropAndResize else { return (0, 1) }
    guard let roi, roi.count == 2 * count else {
      throw .mismatch("roi has \(roi?.count ?? 0) elements; tf_crop_and_resize needs \(2 * count)")
    }
    return (roi[position], roi[count + position])
  }
}

// MARK: - Extents

extension ResizeAttributes {
  /// The extent of an axis after scaling, rounded as in the specification's own shape inference.
  static func scaledExtent(_ extent: Int, _ scale: Float) -> Int? {
    let product = (Float(extent) * scale).rounded(.down)
    return product >= 0 && product < 0x1p62 ? Int(product) : nil
  }

  /// One scale a named axis that fits `sizes` under the aspect policy, and the extents it leads to; nil to stretch.
  func aspectScale(input: [Int], sizes: [Int]) -> (scale: Double, extents: [Int])? {
    guard let keepsAspect, !input.contains(0) else { return nil }
    let ratios = zip(sizes, input).map { Double($0) / Double($1) }
    guard let scale = keepsAspect == .notLarger ? ratios.min() : ratios.max() else { return nil }
    // Beyond 2^62 no tensor has a place; the planner says so.
    return (scale, input.map { Int(Swift.min((scale * Double($0) + 0.5).rounded(.down), 0x1p62)) })
  }
}

// MARK: - Filters

/// What the output elements along one axis are made of: `taps` input elements each, with their weights.
struct ResizeFilter: Sendable {
  let axis: Int
  let input: Int
  let output: Int
  let taps: Int
  /// Input positions, in range; `taps` an output element.
  let positions: [Int]
  /// As many; none for the nearest element.
  let weights: [Double]
  /// True for output elements that lie outside of the input and take the extrapolation value; empty if there are none.
  let isOutside: [Bool]

  /// Weights of one axis beyond which there is no plan.
  private static let limit = 1 << 26

  init(axis: Int, _ scale: ResizeScale, _ attributes: ResizeAttributes) throws(OperatorError) {
    self.axis = axis
    (input, output) = (scale.input, scale.output)
    let stretch = attributes.antialias ? min(scale.scale, 1) : 1
    let reach: Double = attributes.mode == .cubic ? 2 : 1
    // Elements from the one at or before the coordinate, outwards as far as the filter reaches.
    let before = attributes.mode == .nearest ? 0 : -Int(max((-reach / stretch).rounded(.down), -0x1p30)) - 1
    taps = attributes.mode == .nearest ? 1 : 2 * before + 2
    guard output <= ResizeFilter.limit / taps else {
      throw OperatorError(
        .limit, "axis \(axis) is resized from \(input) to \(output) elements, which is beyond the limit")
    }
    var positions: [Int] = []
    var weights: [Double] = []
    var isOutside: [Bool] = []
    positions.reserveCapacity(output * taps)
    weights.reserveCapacity(attributes.mode == .nearest ? 0 : output * taps)
    for element in 0..<output {
      let x = attributes.coordinates.original(element, scale)
      if attributes.coordinates == .cropAndResize { isOutside.append(!(x >= 0 && x <= Double(scale.input - 1))) }
      // Far outside everything is the edge; the bounds also keep the conversion to an integer safe.
      let bounded = x.isNaN ? 0 : Swift.min(Swift.max(x, -4), Double(scale.input) + 4)
      if attributes.mode == .nearest {
        positions.append(
          Swift.min(Swift.max(Int(attributes.rounding(bounded, shrinking: scale.scale < 1)), 0), scale.input - 1))
        continue
      }
      let first = Int(bounded.rounded(.down)) - before
      let start = weights.count
      for position in first..<first + taps {
        let isMissing = attributes.excludesOutside && (position < 0 || position >= scale.input)
        weights.append(isMissing ? 0 : attributes.weight((Double(position) - bounded) * stretch))
        positions.append(Swift.min(Swift.max(position, 0), scale.input - 1))
      }
      guard attributes.antialias || attributes.excludesOutside else { continue }
      let sum = weights[start...].reduce(0, +)
      if sum != 0 { for index in start..<weights.count { weights[index] /= sum } }
    }
    (self.positions, self.weights) = (positions, weights)
    self.isOutside = isOutside.contains(true) ? isOutside : []
  }
}

extension ResizeFilter {
  /// The bits that sums with these weights have more than the elements: behind the point and in front of it. nil for
  /// more than `limit`.
  func exactBits(atMost limit: Int) -> Int? {
    var behind = 0
    var largest = 1.0
    for first in stride(from: 0, to: weights.count, by: taps) {
      var sum = 0.0
      for weight in weights[first..<first + taps] {
        sum += weight.magnitude
        func isWhole(_ scaled: Double) -> Bool { scaled == scaled.rounded() }
        while behind <= limit, !isWhole(weight * Double(1 << behind)) { behind += 1 }
      }
      largest = Swift.max(largest, sum)
    }
    guard behind <= limit, largest < Double(1 << limit) else { return nil }
    return behind + Int(largest.exponent) + (largest.significand > 1 ? 1 : 0)
  }
}

extension ResizeAttributes {
  /// The weight of an element at a distance from the coordinate.
  fileprivate func weight(_ distance: Double) -> Double {
    let d = abs(distance)
    guard mode == .cubic else { return Swift.max(1 - d, 0) }
    let a = cubicCoefficient
    if d <= 1 { return ((a + 2) * d - (a + 3)) * d * d + 1 }
    return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0
  }
}
