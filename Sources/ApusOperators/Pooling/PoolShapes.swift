// What the pools with a window have in common: attributes, inference, extents, elements.

import ApusGraph
import ApusTensor

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// The attributes of a pool in the newest version, but for its own, and the versions that two of them came with.
func poolAttributes(ceilModeSince: Int = 1, dilationsSince: Int = 1) -> [AttributeSchema] {
  [
    .string("auto_pad", default: "NOTSET"), .int("ceil_mode", default: 0).since(ceilModeSince),
    .onesByDefault("dilations").since(dilationsSince), .required("kernel_shape", .ints), .optional("pads", .ints),
    .onesByDefault("strides"),
  ]
}

/// The layout of a pool's images.
struct PoolLayout: Sendable {
  /// True: batch, spatial axes, channels.
  var channelsLast = false

  /// The shape of the output; nil while the rank of the input is unknown.
  func outputShape(_ context: InferenceContext) throws(OperatorError) -> [Dim]? {
    guard let input = context.shape(0) else { return nil }
    let rank = input.count
    let attributes = try WindowAttributes(context, rank: rank - 2)
    guard let kernel = attributes.kernel else { throw .invalid("attribute kernel_shape is empty") }
    let spatial = Array(channelsLast ? input[1..<(rank - 1)] : input[2...])
    let extents = try attributes.outputExtents(input: spatial, kernel: kernel.map { Dim($0) })
    return channelsLast ? [input[0]] + extents + [input[rank - 1]] : Array(input[..<2]) + extents
  }

  /// The windows of a node that is being planned.
  func geometry(_ attributes: NodeAttributes, _ context: PlanContext) throws(OperatorError) -> WindowGeometry {
    let (input, output) = (context.shape(0), context.outputShape(0))
    let window = try attributes.window(rank: input.rank - 2)
    guard let kernel = window.kernel, output.rank == input.rank else {
      throw .invalid("attribute kernel_shape is empty")
    }
    let spatial = channelsLast ? 1..<(input.rank - 1) : 2..<input.rank
    return window.geometry(
      input: SpatialExtents(of: input, spatial), kernel: kernel, output: SpatialExtents(of: output, spatial))
  }
}

/// Floats that powers are taken of.
protocol PoolElement: ConvolutionElement, BinaryFloatingPoint {
  static func power(_ base: Self, _ exponent: Self) -> Self
}

extension Float: PoolElement {
  static func power(_ base: Float, _ exponent: Float) -> Float { powf(base, exponent) }
}
extension Double: PoolElement {
  static func power(_ base: Double, _ exponent: Double) -> Double { pow(base, exponent) }
}

/// The norm that LpPool and GlobalLpPool take: the p-th root of the sum of p-th powers of magnitudes.
struct LpNorm: Sendable {
  let p: Double

  /// Version 1 has p as a float: where that is no whole number, it stands here after the upgrade.
  static let fraction = AttributeSchema.optional("fractional_p", .float)

  init(_ context: some OperatorContext) throws(OperatorError) {
    if let fraction = context.optionalFloat(LpNorm.fraction.name) {
      p = Double(fraction)
      guard p > 0, p.isFinite else { throw .invalid("attribute p is \(p); expected a number above 0") }
    } else {
      p = Double(try context.int("p"))
      guard p >= 1 else { throw .invalid("attribute p is \(Int(p)); expected 1 or more") }
    }
  }

  @inline(__always) func add<Element: PoolElement>(_ value: Element, to sum: Element) -> Element {
    switch p {
    case 1: sum + value.magnitude
    case 2: sum + value * value
    default: sum + Element.power(value.magnitude, Element(p))
    }
  }

  func root<Element: PoolElement>(_ sum: Element) -> Element {
    switch p {
    case 1: sum
    case 2: sum.squareRoot()
    default: Element.power(sum, 1 / Element(p))
    }
  }

  /// Version 1 has p as a float.
  static func upgrade(_ node: inout Node, from version: Int) throws(OperatorError) {
    guard version == 1, case .float(let p)? = node.attributes["p"] else { return }
    if p == p.rounded(), p >= 1, p < 16_777_216 {
      node.attributes["p"] = .int(Int(p))
    } else {
      _ = node.attributes.remove("p")
      node.attributes[fraction.name] = .float(p)
    }
  }
}
