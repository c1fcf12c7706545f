// The windows of convolutions and poolings: the pads of ONNX as SAME or VALID, and the rest as an operator before.

import ApusGraph
import ApusTensor

/// Windows over the spatial axes of an image whose channels are last.
struct TFLiteWindow {
  var kernel: [Int]
  var strides: [Int]
  var dilations: [Int]
  /// Elements before and behind the spatial axes; none where the padding is SAME.
  var before: [Int]
  var after: [Int]
  var isSame: Bool
  /// How much of `after` is there because windows reach beyond the end.
  var beyond: [Int] = []

  /// The byte of the schema.
  var padding: TFLiteOptions.Value { .byte(isSame ? 0 : 1) }
  var isPadded: Bool { (before + after).contains { $0 != 0 } }

  /// The windows of `node` over images of the spatial extents `extents`, whose results have the extents `results`.
  /// Without `takesSame`, pads are numbers even where they are those of SAME.
  init(
    _ node: TFLiteNode, kernel: [Int], extents: [Dim], results: [Dim], takesSame: Bool = true
  ) throws(OperatorError) {
    let axes = kernel.count
    self.kernel = kernel
    strides = node.optionalInts("strides") ?? [Int](repeating: 1, count: axes)
    dilations = node.optionalInts("dilations") ?? [Int](repeating: 1, count: axes)
    (before, after, isSame) = ([Int](repeating: 0, count: axes), [Int](repeating: 0, count: axes), false)
    guard strides.count == axes, dilations.count == axes, extents.count == axes, results.count == axes,
      (kernel + strides + dilations).allSatisfy({ $0 > 0 && $0 < 1 << 24 })
    else { throw .invalid("windows of \(axes) axes with positive sizes were expected") }
    let known = extents.concrete?.dims
    switch node.optionalString("auto_pad") ?? "NOTSET" {
    case "VALID": break
    case "SAME_UPPER" where takesSame: isSame = true
    case "SAME_UPPER", "SAME_LOWER":
      guard let known else { throw .unsupported("pads of this kind take extents that are numbers") }
      let isUpper = node.optionalString("auto_pad") == "SAME_UPPER"
      for axis in 0..<axes {
        let total = sameTotal(axis, known[axis])
        before[axis] = isUpper ? total / 2 : total - total / 2
        after[axis] = total - before[axis]
      }
    default:
      if let pads = node.optionalInts("pads") {
        guard pads.count == 2 * axes, pads.allSatisfy({ $0 > -1 << 24 && $0 < 1 << 24 }) else {
          throw .invalid("two pads for each of \(axes) axes were expected; they are \(pads)")
        }
        (before, after) = (Array(pads[..<axes]), Array(pads[axes...]))
      }
    }
    guard let known else {
      if (before + after).contains(where: { $0 < 0 }) { throw .unsupported("negative pads are not written") }
      return
    }
    // Windows that reach beyond the end, as ceil_mode has them.
    beyond = [Int](repeating: 0, count: axes)
    for axis in 0..<axes where !isSame {
      guard let count = results[axis].known, known[axis] < 1 << 32, count < 1 << 32 else { continue }
      let reach = (count - 1) * strides[axis] + span(axis)
      beyond[axis] = max(reach - known[axis] - before[axis] - after[axis], 0)
      after[axis] += beyond[axis]
    }
    if (before + after).contains(where: { $0 < 0 }) { throw .unsupported("negative pads are not written") }
    if takesSame { takeSame(known, results) }
  }

  /// The extent that a window covers.
  func span(_ axis: Int) -> Int { (kernel[axis] - 1) * dilations[axis] + 1 }

  /// The pads that SAME puts around an axis.
  private func sameTotal(_ axis: Int, _ extent: Int) -> Int {
    guard extent < 1 << 32 else { return 0 }
    let results = (extent + strides[axis] - 1) / strides[axis]
    return max((results - 1) * strides[axis] + span(axis) - extent, 0)
  }

  /// SAME in the place of pads that are its own.
  private mutating func takeSame(_ known: [Int], _ results: [Dim]) {
    guard isPadded else { return }
    for axis in kernel.indices {
      let total = sameTotal(axis, known[axis])
      guard known[axis] < 1 << 32, results[axis].known == (known[axis] + strides[axis] - 1) / strides[axis],
        before[axis] == total / 2, after[axis] == total - total / 2
      else { return }
    }
    isSame = true
    (before, after) = (before.map { _ in 0 }, after.map { _ in 0 })
  }
}

extension TFLiteNode {
  /// Images of two spatial axes: an axis of one element before those of one.
  func image(_ tensor: Int, _ shape: [Dim]) throws(OperatorError) -> (tensor: Int, shape: [Dim]) {
    guard shape.count == 3 else { return (tensor, shape) }
    let wide = [shape[0], Dim(1)] + shape[1...]
    let codes = isCoded ? try scale(0) : nil
    return (
      try step("EXPAND_DIMS", [tensor, work.constant(Tensor(scalar: Int32(1)))], wide, quantization: codes), wide
    )
  }

  /// An image with elements around its spatial axes: zeros, or the least number of the type.
  func padded(
    _ image: (tensor: Int, shape: [Dim]), _ window: TFLiteWindow, least: Bool = false
  ) throws(OperatorError) -> (tensor: Int, shape: [Dim]) {
    guard window.isPadded else { return image }
    var shape = image.shape
    var pads = [0, 0]
    for axis in window.kernel.indices {
      shape[axis + 1] = shape[axis + 1] + Dim(window.before[axis] + window.after[axis])
      pads += [window.before[axis], window.after[axis]]
    }
    let list = work.constant(Tensor((pads + [0, 0]).map { Int32(clamping: $0) }, shape: [shape.count, 2]), "pads")
    let codes = isCoded ? try scale(0) : nil
    guard least else {
      return (try step("PAD", [image.tensor, list], shape, quantization: codes), shape)
    }
    let filling =
      codes.map { work.constant(Tensor(scalar: Int8.min), "filling", $0) } ?? number(-Float.greatestFiniteMagnitude)
    return (try step("PADV2", [image.tensor, list, filling], shape, quantization: codes), shape)
  }
}
