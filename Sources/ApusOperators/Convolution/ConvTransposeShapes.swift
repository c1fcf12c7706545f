// The attributes and extents of ConvTranspose, where windows slide over the output.

import ApusGraph
import ApusTensor

/// The attributes of ConvTranspose that decide extents, checked.
struct TransposeAttributes: Sendable {
  let window: WindowAttributes
  let outputPadding: [Int]
  /// The extents that the model asks for; the pads follow from them.
  let outputShape: [Int]?

  init(_ context: some OperatorContext, rank: Int) throws(OperatorError) {
    window = try WindowAttributes(context, rank: rank)
    let padding = context.optionalInts("output_padding").flatMap { $0.isEmpty ? nil : $0 }
    outputPadding = padding ?? [Int](repeating: 0, count: rank)
    guard outputPadding.count >= rank, outputPadding.allSatisfy({ $0 >= 0 && $0 <= WindowAttributes.limit }) else {
      throw .invalid("attribute output_padding is \(outputPadding); expected \(rank) numbers of at least 0")
    }
    // Some exporters write batch and channels too.
    let given = context.optionalInts("output_shape").flatMap { $0.isEmpty ? nil : Array($0.suffix(rank)) }
    if let given, given.count != rank || !given.allSatisfy({ $0 >= 0 && $0 <= WindowAttributes.limit }) {
      throw .invalid("attribute output_shape is \(given); expected \(rank) extents")
    }
    outputShape = given
  }

  /// The extents without any pads.
  private func fullExtent(_ axis: Int, input: Dim, kernel: Dim) -> Dim {
    (input - 1) * Dim(window.strides[axis]) + Dim(outputPadding[axis]) + (kernel - 1) * Dim(window.dilations[axis]) + 1
  }

  func outputExtents(input: [Dim], kernel: [Dim]) throws(OperatorError) -> [Dim] {
    if let outputShape { return outputShape.map { Dim($0) } }
    var extents: [Dim] = []
    for axis in 0..<window.rank {
      if window.autoPad == .sameUpper || window.autoPad == .sameLower {
        extents.append(input[axis] * Dim(window.strides[axis]))
        continue
      }
      let pads = Dim(window.padBegin[axis]) + Dim(window.padEnd[axis])
      let extent = fullExtent(axis, input: input[axis], kernel: kernel[axis]) - pads
      if let known = extent.known, known < 0 {
        throw .mismatch(
          "spatial axis \(axis) of the output would have the extent \(known): the pads are larger than the rest")
      }
      extents.append(extent)
    }
    return extents
  }

  /// The windows over the output; window i belongs to input element i.
  func geometry(input: [Int], kernel: [Int], output: [Int]) -> WindowGeometry {
    var begin = window.padBegin
    if outputShape != nil || window.autoPad == .sameUpper || window.autoPad == .sameLower {
      for axis in 0..<window.rank {
        let full = fullExtent(axis, input: Dim(input[axis]), kernel: Dim(kernel[axis])).known ?? output[axis]
        let total = full &- output[axis]
        begin[axis] = window.autoPad == .sameUpper ? total >> 1 : total &- total >> 1
      }
    }
    return WindowGeometry(
      input: SpatialExtents(output), output: SpatialExtents(input),
      WindowForm(
        kernel: kernel, strides: window.strides, dilations: window.dilations, padBegin: begin,
        padEnd: [Int](repeating: 0, count: window.rank)))
  }
}
