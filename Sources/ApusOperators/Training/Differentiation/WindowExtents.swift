// The extents of sliding windows as values of the graph, where shapes may be known only when a model runs.

import ApusGraph
import ApusTensor

/// The windows of a convolution or pool: attributes, and extents as int64 vectors with one number a spatial axis.
///
/// Window i covers the elements i·stride + k·dilation of an image with `begin` elements of padding before it. The
/// extent of what all windows cover together is `span`; it is less than the padded image where the last elements fill
/// no window.
struct WindowExtents {
  let attributes: WindowAttributes
  let begin: ValueID
  let span: ValueID
  /// The positions of the spatial axes.
  let axes: [Int]

  /// - Parameters:
  ///   - image: What the windows slide over, [N, C, spatial…].
  ///   - windows: A tensor with one element a window in its spatial axes.
  ///   - kernel: The extents of one window.
  init(
    _ w: inout DerivativeWriter, _ node: Application, image: ValueID, windows: ValueID, kernel: ValueID
  ) throws(OperatorError) {
    let rank = try w.rank(image)
    attributes = try WindowAttributes(node, rank: rank - 2)
    axes = Array(2..<rank)
    span = try WindowExtents.span(&w, attributes, windows: windows, kernel: kernel)
    let isUpper = attributes.autoPad == .sameUpper
    guard isUpper || attributes.autoPad == .sameLower else {
      begin = w.ints(attributes.padBegin)
      return
    }
    let missing = try w.subtract(span, w.shapeOf(image, from: 2))
    begin = try WindowExtents.half(&w, w.apply("Max", [missing, w.ints([0])]), roundingUp: !isUpper)
  }

  /// The windows of a ConvTranspose node, which slide over its output.
  init(transposing w: inout DerivativeWriter, _ node: Application, kernel: ValueID) throws(OperatorError) {
    let (input, output) = (try node.required(0), try w.output(0, of: node))
    let rank = try w.rank(input)
    let transposed = try TransposeAttributes(node, rank: rank - 2)
    attributes = transposed.window
    axes = Array(2..<rank)
    span = try WindowExtents.span(&w, attributes, windows: input, kernel: kernel)
    let isUpper = attributes.autoPad == .sameUpper
    guard transposed.outputShape != nil || isUpper || attributes.autoPad == .sameLower else {
      begin = w.ints(attributes.padBegin)
      return
    }
    let full = try w.add(span, w.ints(Array(transposed.outputPadding.prefix(rank - 2))))
    begin = try WindowExtents.half(&w, w.subtract(full, w.shapeOf(output, from: 2)), roundingUp: !isUpper)
  }

  /// (windows - 1)·stride + (kernel - 1)·dilation + 1.
  private static func span(
    _ w: inout DerivativeWriter, _ attributes: WindowAttributes, windows: ValueID, kernel: ValueID
  ) throws(OperatorError) -> ValueID {
    let one = w.ints([1])
    let steps = try w.multiply(w.subtract(w.shapeOf(windows, from: 2), one), w.ints(attributes.strides))
    let reach = try w.multiply(w.subtract(kernel, one), w.ints(attributes.dilations))
    return try w.add(w.add(steps, reach), one)
  }

  /// Half of a sum of pads. It may be negative, so the division rounds towards minus infinity by adding what is even.
  private static func half(
    _ w: inout DerivativeWriter, _ total: ValueID, roundingUp: Bool
  ) throws(OperatorError) -> ValueID {
    let odd = try w.apply("Mod", [total, w.ints([2])])
    let lower = try w.divide(w.subtract(total, odd), w.ints([2]))
    return roundingUp ? try w.add(lower, odd) : lower
  }

  /// The image with its padding, cut or filled with zeros to the span.
  func padded(_ image: ValueID, _ w: inout DerivativeWriter) throws(OperatorError) -> ValueID {
    try fit(image, &w, offset: begin, extents: span)
  }

  /// The part of a tensor that spans the windows which is the image `like`.
  func cut(_ spanned: ValueID, like image: ValueID, _ w: inout DerivativeWriter) throws(OperatorError) -> ValueID {
    try fit(spanned, &w, offset: w.negate(begin), extents: w.shapeOf(image, from: 2))
  }

  /// A tensor of other spatial extents: `offset` zeros before the old elements, which may be negative.
  private func fit(
    _ value: ValueID, _ w: inout DerivativeWriter, offset: ValueID, extents: ValueID
  ) throws(OperatorError) -> ValueID {
    let end = try w.subtract(w.subtract(extents, w.shapeOf(value, from: 2)), offset)
    return try w.apply("Pad", [value, w.join([offset, end]), nil, w.ints(axes)])
  }

  /// Strides and dilations as attributes, without pads.
  var steps: [(String, AttributeValue)] {
    [("strides", .ints(attributes.strides)), ("dilations", .ints(attributes.dilations))]
  }
  /// The same with strides and dilations in each other's place.
  var exchangedSteps: [(String, AttributeValue)] {
    [("strides", .ints(attributes.dilations)), ("dilations", .ints(attributes.strides))]
  }
}
