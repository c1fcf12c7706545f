// Derivatives of pools.

import ApusGraph
import ApusTensor

let poolingDerivatives: DerivativeTable = [
  "MaxPool": .gradients { w, node throws(OperatorError) in
    let x = try node.required(0)
    let attributes = try WindowAttributes(node, rank: w.rank(x) - 2)
    for (axis, kernel) in (attributes.kernel ?? []).enumerated() {
      let reach = (kernel - 1) * attributes.dilations[axis]
      guard attributes.padBegin[axis] <= reach, attributes.padEnd[axis] <= reach else {
        throw .unsupported("there is no derivative rule for MaxPool with windows that lie in the padding wholly")
      }
    }
    let indices: ValueID
    if try node.bool("storage_order") {
      // These positions count by columns; the rule needs them by rows.
      let byRows = node.writtenAttributes.filter { $0.0 != "storage_order" }
      indices = try w.apply("MaxPool", [x], byRows, outputCount: 2)[1]
    } else {
      indices = try w.output(1, of: node)
    }
    return [try w.scatter(node.gradient(), to: indices, of: x)]
  },
  "AveragePool": .gradients { w, node throws(OperatorError) in
    let (x, g) = (try node.required(0), try node.gradient())
    let pool = try PlanePool(&w, node)
    let plane = try w.filled(1, w.join([w.ints([1, 1]), w.shapeOf(x, from: 2)]), w.type(x))
    // What the pool makes of ones, over how many elements a window has: one over what the pool divides by.
    let mean = try w.apply("AveragePool", [plane], node.writtenAttributes)
    let share = try w.divide(mean, pool.sums(plane, &w))
    return [try pool.spread(w.multiply(pool.planes(g, &w), share), &w)]
  },
  "LpPool": .gradients { w, node throws(OperatorError) in
    let (x, g) = (try node.required(0), try node.gradient())
    let pool = try PlanePool(&w, node)
    let p = try node.int("p")
    let magnitude = try w.apply("Abs", [x])
    let share = try w.normShare(g, w.output(0, of: node), p)
    let sums = try pool.spread(pool.planes(share, &w), &w)
    return [try w.multiply(sums, w.multiply(w.power(magnitude, p - 1), w.apply("Sign", [x])))]
  },
  "GlobalAveragePool": .expansion { w, node throws(OperatorError) in
    let x = try node.required(0)
    return [try w.reduce("ReduceMean", x, Array(2..<w.rank(x)))]
  },
  "GlobalMaxPool": .expansion { w, node throws(OperatorError) in
    let x = try node.required(0)
    return [try w.reduce("ReduceMax", x, Array(2..<w.rank(x)))]
  },
  "GlobalLpPool": .gradients { w, node throws(OperatorError) in
    let (x, g) = (try node.required(0), try node.gradient())
    let p = try node.int("p")
    let slope = try w.multiply(w.power(w.apply("Abs", [x]), p - 1), w.apply("Sign", [x]))
    return [try w.multiply(slope, w.normShare(g, w.output(0, of: node), p))]
  },
]

extension DerivativeWriter {
  /// x^n for a whole number n.
  fileprivate mutating func power(_ x: ValueID, _ n: Int) throws(OperatorError) -> ValueID {
    switch n {
    case 0: try ones(like: x)
    case 1: x
    default: try apply("Pow", [x, scalar(Double(n), like: x)])
    }
  }

  /// g · y^(1-p), and 0 where the norm y is.
  fileprivate mutating func normShare(_ g: ValueID, _ y: ValueID, _ p: Int) throws(OperatorError) -> ValueID {
    if p == 1 { return g }
    return try clear(divide(g, power(y, p - 1)), where: test("Equal", y, 0))
  }
}

/// The windows of a pool over images of one channel each: [N·C, 1, spatial…].
private struct PlanePool {
  private let windows: WindowExtents
  private let image: ValueID
  private let kernel: [Int]
  private let ones: ValueID

  init(_ w: inout DerivativeWriter, _ node: Application) throws(OperatorError) {
    image = try node.required(0)
    kernel = try node.ints("kernel_shape")
    let output = try w.output(0, of: node)
    windows = try WindowExtents(&w, node, image: image, windows: output, kernel: w.ints(kernel))
    ones = try w.filled(1, w.ints([1, 1] + kernel), w.type(image))
  }

  func planes(_ value: ValueID, _ w: inout DerivativeWriter) throws(OperatorError) -> ValueID {
    let count = try w.multiply(w.extent(value, 0), w.extent(value, 1))
    return try w.reshape(value, w.join([count, w.ints([1]), w.shapeOf(value, from: 2)]))
  }

  /// The sum of every window of planes of the extents of the image.
  func sums(_ planes: ValueID, _ w: inout DerivativeWriter) throws(OperatorError) -> ValueID {
    try w.apply("Conv", [windows.padded(planes, &w), ones], windows.steps)
  }

  /// The image of which each element is the sum of the windows, in planes, that cover it.
  func spread(_ values: ValueID, _ w: inout DerivativeWriter) throws(OperatorError) -> ValueID {
    let spanned = try w.apply("ConvTranspose", [values, ones], windows.steps)
    return try w.reshape(windows.cut(spanned, like: image, &w), like: image)
  }
}
