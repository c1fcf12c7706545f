// Derivatives of operators on images and grids that are linear in their input.

import ApusGraph
import ApusTensor

let imageDerivatives: DerivativeTable = [
  "Resize": .gradients(resizeGradient),
  "CenterCropPad": .gradients { w, node throws(OperatorError) in
    // What was cropped is padded, around the same centre.
    let x = try node.required(0)
    guard let axes = node.optionalInts("axes") else {
      return [try w.apply("CenterCropPad", [node.gradient(), w.shapeOf(x)])]
    }
    var extents: [ValueID] = []
    for axis in axes { extents.append(try w.extent(x, axis)) }
    return [try w.apply("CenterCropPad", [node.gradient(), w.join(extents)], [("axes", .ints(axes))])]
  },
  "AffineGrid": .expansion { w, node throws(OperatorError) in
    // The map of no change gives the coordinates that all others are applied to.
    let (theta, size) = (try node.required(0), try node.required(1))
    let axes = try w.rank(w.output(0, of: node)) - 2
    let eye = try w.apply("EyeLike", [w.filled(0, w.ints([axes, axes + 1]), w.type(theta))])
    let batch = try w.extent(theta, 0)
    let repeated = try w.apply("Expand", [eye, w.join([batch, w.ints([1, 1])])])
    let points = try w.apply("AffineGrid", [repeated, size], node.writtenAttributes)
    let count = try w.apply("ReduceProd", [w.shapeOf(points, from: 1, to: -1)])
    let flat = try w.reshape(points, w.join([batch, count, w.ints([axes])]))
    let ones = try w.ones(like: w.apply("Slice", [flat, w.ints([0]), w.ints([1]), w.ints([2])]))
    let columns = try w.apply("Concat", [flat, ones], [("axis", .int(2))])
    return [try w.reshape(w.apply("MatMul", [columns, w.transpose(theta, [0, 2, 1])]), like: points)]
  },
  "MaxUnpool": .gradients { w, node throws(OperatorError) in
    guard node.input(2) == nil else {
      throw .unsupported("there is no derivative rule for MaxUnpool with the input output_shape")
    }
    let places = try w.flat(node.required(1))
    return [try w.reshape(w.apply("Gather", [w.flat(node.gradient()), places]), like: node.required(0))]
  },
  "RotaryEmbedding": .gradients { w, node throws(OperatorError) in
    guard !node.isWanted(1), !node.isWanted(2) else {
      throw .unsupported("there is no derivative rule for RotaryEmbedding with respect to its caches")
    }
    // Turned back by the same angles.
    let sine = try w.negate(node.required(2))
    return [
      try w.apply("RotaryEmbedding", [node.gradient(), node.required(1), sine, node.input(3)], node.writtenAttributes)
    ]
  },
]

/// Resize is a matrix along each axis. The operator itself says which: it is applied to the rows of the unit matrix.
private func resizeGradient(_ w: inout DerivativeWriter, _ node: Application) throws(OperatorError) -> [ValueID?] {
  let (x, y) = (try node.required(0), try w.output(0, of: node))
  let rank = try w.rank(x)
  guard try node.string("keep_aspect_ratio_policy") == "stretch" else {
    throw .unsupported("there is no derivative rule for Resize with a keep_aspect_ratio_policy")
  }
  let axes = try (node.optionalInts("axes") ?? Array(0..<rank)).map { axis throws(OperatorError) in
    try resolveAxis(axis, rank: rank)
  }
  let isBySize = node.input(3).map { w.shape($0)?.first?.known != 0 } ?? false
  let isCropped = try node.string("coordinate_transformation_mode") == "tf_crop_and_resize"
  let scales = w.constant(node.input(2))?.elements(as: Float.self)
  var attributes = node.writtenAttributes.filter { !["axes", "extrapolation_value"].contains($0.0) }
  attributes += [("axes", .ints([1])), ("extrapolation_value", .float(0))]
  var gradient = try node.gradient()
  for (position, axis) in axes.enumerated() {
    if !isCropped {
      if !isBySize, let scales, position < scales.count, scales[position] == 1 { continue }
      if isBySize, let a = w.shape(x)?[axis], let b = w.shape(y)?[axis], a.isSame(as: b) { continue }
    }
    let extent = try w.extent(x, axis)
    let unit = try w.apply("EyeLike", [w.filled(0, w.join([extent, extent]), w.type(x))])
    var inputs: [ValueID?] = [unit, nil, nil, nil]
    if isCropped, let roi = node.input(1) {
      inputs[1] = try w.apply("Gather", [roi, w.ints([position, position + axes.count])])
    }
    if isBySize {
      inputs[3] = try w.extent(y, axis)
    } else {
      inputs[2] = try w.apply("Gather", [node.required(2), w.ints([position])])
    }
    let matrix = try w.apply("Resize", inputs, attributes)
    var swapped = Array(0..<rank)
    swapped.swapAt(axis, rank - 1)
    let moved = try w.apply("MatMul", [w.transpose(gradient, swapped), w.transpose(matrix, [1, 0])])
    gradient = try w.transpose(moved, swapped)
  }
  return [gradient]
}
