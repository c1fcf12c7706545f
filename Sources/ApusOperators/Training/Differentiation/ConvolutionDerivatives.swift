// Derivatives of convolutions, as convolutions. Pads are made explicit: what the windows span is cut out of the padded
// image, so that the shapes of the gradients come out right for any stride.

import ApusGraph
import ApusTensor

let convolutionDerivatives: DerivativeTable = [
  "Conv": .gradients { w, node throws(OperatorError) in
    let g = try node.gradient()
    let (x, weights) = (try node.required(0), try node.required(1))
    let windows = try WindowExtents(&w, node, image: x, windows: g, kernel: w.shapeOf(weights, from: 2))
    let group = try node.int("group")
    var gradients = [ValueID?](repeating: nil, count: 3)
    if node.isWanted(0) {
      let spanned = try w.apply("ConvTranspose", [g, weights], windows.steps + [("group", .int(group))])
      gradients[0] = try windows.cut(spanned, like: x, &w)
    }
    if node.isWanted(1) {
      gradients[1] = try weightGradient(&w, windows, image: windows.padded(x, &w), windowed: g, group: group)
    }
    if node.isWanted(2) { gradients[2] = try w.reduce("ReduceSum", g, [0] + windows.axes, keepsAxes: false) }
    return gradients
  },
  "ConvTranspose": .gradients { w, node throws(OperatorError) in
    let g = try node.gradient()
    let (x, weights) = (try node.required(0), try node.required(1))
    let windows = try WindowExtents(transposing: &w, node, kernel: w.shapeOf(weights, from: 2))
    let group = try node.int("group")
    var gradients = [ValueID?](repeating: nil, count: 3)
    let spanned = try windows.padded(g, &w)
    if node.isWanted(0) {
      gradients[0] = try w.apply("Conv", [spanned, weights], windows.steps + [("group", .int(group))])
    }
    if node.isWanted(1) { gradients[1] = try weightGradient(&w, windows, image: spanned, windowed: x, group: group) }
    if node.isWanted(2) { gradients[2] = try w.reduce("ReduceSum", g, [0] + windows.axes, keepsAxes: false) }
    return gradients
  },
]

/// The gradient of weights [M, C / group, k…] from an image [N, C, span…] and a tensor with one element a window
/// [N, M, windows…]: a convolution of which the images are the channels, with stride and dilation exchanged.
private func weightGradient(
  _ w: inout DerivativeWriter, _ windows: WindowExtents, image: ValueID, windowed: ValueID, group: Int
) throws(OperatorError) -> ValueID {
  let swapped = [1, 0] + windows.axes
  let kernels = try w.transpose(windowed, swapped)
  var channels: ValueID
  if group == 1 {
    channels = try w.transpose(image, swapped)
  } else {
    // [N, G, C/G, …] → [C/G, G·N, …]
    let (batch, spatial) = (try w.extent(image, 0), try w.shapeOf(image, from: 2))
    let each = try w.divide(w.extent(image, 1), w.ints([group]))
    let grouped = try w.reshape(image, w.join([batch, w.ints([group]), each, spatial]))
    let moved = try w.transpose(grouped, [2, 1, 0] + windows.axes.map { $0 + 1 })
    let count = try w.multiply(batch, w.ints([group]))
    channels = try w.reshape(moved, w.join([each, count, spatial]))
  }
  let sums = try w.apply("Conv", [channels, kernels], windows.exchangedSteps + [("group", .int(group))])
  return try w.transpose(sums, swapped)
}
