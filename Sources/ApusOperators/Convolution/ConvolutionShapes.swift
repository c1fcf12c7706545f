// What Conv, ConvInteger, QLinearConv and the channels-last convolution have in common: attributes, inference, extents.

import ApusGraph
import ApusTensor

/// The attributes of a convolution in every version of the specification.
let convolutionAttributes: [AttributeSchema] = [
  .string("auto_pad", default: "NOTSET"), .onesByDefault("dilations"), .int("group", default: 1),
  .optional("kernel_shape", .ints), .optional("pads", .ints), .onesByDefault("strides"),
]

/// The multiply-adds of a convolution: one for each element of the result and of the weights for it.
func convolutionProducts(weights: Int) -> NodeFormula {
  { facts in
    guard let weights = facts.shape(weights), let output = facts.outputShape(0) else { return .unknown }
    return output.product * Array(weights.dropFirst()).product
  }
}

/// Access to the attributes of a node after preparation, without its constants.
final class NodeAttributes: OperatorContext, Sendable {
  let node: Node
  let schema: OperatorSchema

  /// For the rank that the first input has when the kernel is prepared.
  private let window: WindowAttributes?
  /// The attribute group; nil if there is none.
  let group: Int?

  init(_ context: PrepareContext) {
    (node, schema) = (context.node, context.schema)
    window = context.rank(0).flatMap { try? WindowAttributes(context, rank: $0 - 2) }
    group = context.optionalInt("group")
  }

  /// The attributes of the window. Read once, where the rank is known: every plan asks for them.
  func window(rank: Int) throws(OperatorError) -> WindowAttributes {
    if let window, window.rank == rank { return window }
    return try WindowAttributes(self, rank: rank)
  }
}

/// Where a convolution finds its operands, and how its images are laid out.
struct ConvolutionOperands: Sendable {
  var x = 0
  var w = 1
  var bias: Int?
  /// True: batch, spatial axes, channels. The weights are in the specification's layout always.
  var channelsLast = false
  var layout: ImageLayout { channelsLast ? .channelsLast : .planar }

  /// The output's type and shape. Throws where channels, groups, kernel or bias do not fit.
  func infer(_ context: inout InferenceContext, outputType: DataType?) throws(OperatorError) {
    let (input, weights) = (context.shape(x), context.shape(w))
    let group = try ConvolutionOperands.positive(group: try context.int("group"))
    guard let rank = input?.count ?? weights?.count else { return context.set(0, outputType, nil) }
    if let input, let weights, input.count != weights.count {
      throw .mismatch("the input has rank \(input.count) and the weights have rank \(weights.count); expected the same")
    }
    let attributes = try WindowAttributes(context, rank: rank - 2)
    var kernel = weights.map { Array($0[2...]) } ?? [Dim](repeating: .unknown, count: rank - 2)
    if let given = attributes.kernel {
      for (axis, extent) in given.enumerated() where kernel[axis].isSurelyDifferent(from: Dim(extent)) {
        throw .mismatch("kernel_shape is \(given), but the weights have the extents \(kernel)")
      }
      kernel = given.map { Dim($0) }
    }
    let channels = input.map { channelsLast ? $0[rank - 1] : $0[1] } ?? .unknown
    if let weights {
      if channels.isSurelyDifferent(from: weights[1] * Dim(group)) {
        throw .mismatch(
          "the input has \(channels) channels; expected \(weights[1] * Dim(group)): \(weights[1]) for each of "
            + "\(group) groups")
      }
      if let count = weights[0].known, count % group != 0 {
        throw .mismatch("\(count) output channels do not divide into \(group) groups")
      }
      if let bias, let shape = context.shape(bias), shape.count != 1 || shape[0].isSurelyDifferent(from: weights[0]) {
        throw .mismatch("the bias has the shape \(shape); expected [\(weights[0])]")
      }
    }
    let spatial = input.map { Array(channelsLast ? $0[1..<(rank - 1)] : $0[2...]) }
    let extents = try attributes.outputExtents(
      input: spatial ?? [Dim](repeating: .unknown, count: rank - 2), kernel: kernel)
    let batch = input?[0] ?? .unknown
    let outputChannels = weights?[0] ?? .unknown
    context.set(0, outputType, channelsLast ? [batch] + extents + [outputChannels] : [batch, outputChannels] + extents)
  }

  /// The windows of a node that is being prepared; nil where they depend on sizes that are not known yet.
  func windows(_ attributes: NodeAttributes, _ context: PrepareContext) throws(OperatorError) -> WindowForm? {
    guard let kernel = context.shape(w)?.dropFirst(2).map(\.known), !kernel.isEmpty, !kernel.contains(nil) else {
      return nil
    }
    return try attributes.window(rank: kernel.count).form(kernel: kernel.compactMap { $0 })
  }

  /// The resolved extents of a node that is being planned. `windows`: those that were known when it was prepared.
  func resolve(
    _ attributes: NodeAttributes, _ context: PlanContext, windows: WindowForm? = nil
  ) throws(OperatorError) -> Convolution {
    let (input, weights, output) = (context.shape(x), context.shape(w), context.outputShape(0))
    let rank = input.rank
    guard rank >= 3, weights.rank == rank, output.rank == rank else {
      throw .mismatch(
        "the input has rank \(rank) and the weights have rank \(weights.rank); expected the same, 3 or more")
    }
    let spatial = channelsLast ? 1..<(rank - 1) : 2..<rank
    let (from, to) = (SpatialExtents(of: input, spatial), SpatialExtents(of: output, spatial))
    // A shape that the file declares for weights may not be the one they have.
    let geometry =
      if let windows, weights.dims.dropFirst(2).elementsEqual(windows.kernel) {
        WindowGeometry(input: from, output: to, windows)
      } else {
        try attributes.window(rank: rank - 2).geometry(
          input: from, kernel: Array(weights.dims[2...]), output: to)
      }
    return Convolution(
      batch: input[0], channels: channelsLast ? input[rank - 1] : input[1], outputChannels: weights[0],
      groups: try ConvolutionOperands.positive(group: attributes.group ?? 1), channelsPerGroup: weights[1],
      geometry: geometry)
  }

  private static func positive(group: Int) throws(OperatorError) -> Int {
    guard group >= 1, group <= WindowAttributes.limit else {
      throw .invalid("attribute group is \(group); expected a positive number")
    }
    return group
  }
}

/// A convolution with all extents known and checked.
struct Convolution: Sendable {
  let batch: Int
  let channels: Int
  let outputChannels: Int
  let groups: Int
  let channelsPerGroup: Int
  let geometry: WindowGeometry

  var outputChannelsPerGroup: Int { outputChannels / groups }
  var outputCount: Int { batch &* outputChannels &* geometry.outputCount }
  /// A multiply-add counts as two.
  var operations: Int { 2 &* outputCount &* channelsPerGroup &* geometry.tapCount }
}
