// Derivatives of operators that put elements into other places or shapes.

import ApusGraph
import ApusTensor

let movementDerivatives: DerivativeTable = [
  "Reshape": .gradients(sameElements), "Flatten": .gradients(sameElements), "Squeeze": .gradients(sameElements),
  "Unsqueeze": .gradients(sameElements),
  "Transpose": .gradients { w, node throws(OperatorError) in
    let g = try node.gradient()
    guard let permutation = node.optionalInts("perm") else { return [try w.apply("Transpose", [g])] }
    let axes = try permutation.map { axis throws(OperatorError) in try resolveAxis(axis, rank: permutation.count) }
    return [try w.transpose(g, axes.indices.sorted { axes[$0] < axes[$1] })]
  },
  "Expand": .gradients { w, node throws(OperatorError) in
    [try w.unbroadcast(node.gradient(), to: node.required(0))]
  },
  "Concat": .gradients { w, node throws(OperatorError) in
    let inputs = node.node.inputs
    if inputs.count == 1 { return [try node.gradient()] }
    let axis = try node.int("axis")
    var lengths: [ValueID] = []
    for index in inputs.indices { lengths.append(try w.extent(node.required(index), axis)) }
    return try w.apply(
      "Split", [node.gradient(), w.join(lengths)], [("axis", .int(axis))], outputCount: inputs.count)
  },
  "Split": .gradients { w, node throws(OperatorError) in
    var parts: [ValueID] = []
    for (position, gradient) in node.upstream.enumerated() {
      if let gradient {
        parts.append(gradient)
      } else {
        parts.append(try w.zeros(like: w.output(position, of: node)))
      }
    }
    return [try w.apply("Concat", parts, [("axis", .int(node.int("axis")))])]
  },
  "Slice": .gradients(sliceGradient),
  "Pad": .gradients(padGradients),
  "Trilu": .gradients { w, node throws(OperatorError) in
    [try w.apply("Trilu", [node.gradient(), node.input(1)], [("upper", .int(node.int("upper")))])]
  },
  "ReverseSequence": .gradients { w, node throws(OperatorError) in
    [try w.apply("ReverseSequence", [node.gradient(), node.required(1)], node.writtenAttributes)]
  },
  "Tile": .gradients(tileGradient),
  "DepthToSpace": .gradients(pickedGradient), "SpaceToDepth": .gradients(pickedGradient),
  "Compress": .gradients(pickedGradient),
]

extension Application {
  /// The attributes as they stand at the node.
  var writtenAttributes: [(String, AttributeValue)] { node.attributes.entries.map { ($0.name, $0.value) } }
}

extension DerivativeWriter {
  /// The extent of one axis, which may count from the end, as an int64 vector.
  mutating func extent(_ value: ValueID, _ axis: Int) throws(OperatorError) -> ValueID {
    try shapeOf(value, from: axis, to: axis == -1 ? nil : axis &+ 1)
  }
}

/// The gradient of a tensor whose elements stay in order.
private func sameElements(_ w: inout DerivativeWriter, _ node: Application) throws(OperatorError) -> [ValueID?] {
  [try w.reshape(node.gradient(), like: node.required(0))]
}

/// The gradient of a tensor of which an operator picks elements, whichever: the operator itself says which, when it is
/// applied to their positions.
func pickedGradient(_ w: inout DerivativeWriter, _ node: Application) throws(OperatorError) -> [ValueID?] {
  let x = try node.required(0)
  let inputs = [try w.positions(of: x)] + node.node.inputs.dropFirst()
  let picked = try w.apply(node.node.op.name, inputs, node.writtenAttributes)
  return [try w.scatter(node.gradient(), to: picked, of: x)]
}

/// Without steps, zeros around the gradient.
private func sliceGradient(_ w: inout DerivativeWriter, _ node: Application) throws(OperatorError) -> [ValueID?] {
  let x = try node.required(0)
  let g = try node.gradient()
  let steps = node.input(4)
  let hasSteps = steps != nil && w.constant(steps)?.integers?.allSatisfy { $0 == 1 } != true
  let count = w.shape(try node.required(1))?.first?.known
  guard !hasSteps, let count, count > 0 else { return try pickedGradient(&w, node) }
  var axes = w.ints(Array(0..<count))
  if let given = node.input(3) { axes = try w.cast(given, to: .int64) }
  let extents = try w.apply("Gather", [w.shapeOf(x), axes])
  let kept = try w.apply("Gather", [w.shapeOf(g), axes])
  let zero = w.constant(Tensor(scalar: 0))
  let given = try w.cast(node.required(1), to: .int64)
  let counted = try w.choose(w.apply("Less", [given, zero]), w.add(given, extents), given)
  let begin = try w.apply("Max", [w.apply("Min", [counted, extents]), zero])
  let end = try w.subtract(w.subtract(extents, begin), kept)
  return [try w.apply("Pad", [g, w.join([begin, end]), nil, axes])]
}

/// What was added is cut off and what was cut off is zero; the constant gets the rest.
private func padGradients(_ w: inout DerivativeWriter, _ node: Application) throws(OperatorError) -> [ValueID?] {
  guard try node.string("mode") == "constant" else { return try pickedGradient(&w, node) }
  let g = try node.gradient()
  let inner = try w.apply("Pad", [g, w.negate(node.required(1)), nil, node.input(3)])
  guard node.isWanted(2), let constant = node.input(2) else { return [inner] }
  // Sums over ones, not differences of sums, which would cancel.
  let isData = try w.apply(
    "Pad", [w.ones(like: node.required(0)), node.required(1), nil, node.input(3)])
  let added = try w.total(w.clear(g, where: w.test("Equal", isData, 1)))
  return [node.isWanted(0) ? inner : nil, nil, try w.reshape(added, like: constant)]
}

/// Every axis is read as two: the repetitions, which are summed, and the extent.
private func tileGradient(_ w: inout DerivativeWriter, _ node: Application) throws(OperatorError) -> [ValueID?] {
  let x = try node.required(0)
  let rank = try w.rank(x)
  if rank == 0 { return [try node.gradient()] }
  let repeats = try w.unsqueeze(node.required(1), [1])
  let extents = try w.unsqueeze(w.shapeOf(x), [1])
  let pairs = try w.flat(w.apply("Concat", [repeats, extents], [("axis", .int(1))]))
  return [
    try w.reduce("ReduceSum", w.reshape(node.gradient(), pairs), (0..<rank).map { 2 * $0 }, keepsAxes: false)
  ]
}
