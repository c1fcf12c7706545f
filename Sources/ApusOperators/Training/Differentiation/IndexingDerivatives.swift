// Derivatives of operators that pick or place elements by indices.

import ApusGraph
import ApusTensor

let indexingDerivatives: DerivativeTable = [
  "Gather": .gradients(gatherGradient),
  "GatherElements": .gradients { w, node throws(OperatorError) in
    let zeros = try w.zeros(like: node.required(0))
    return [
      try w.apply(
        "ScatterElements", [zeros, node.required(1), node.gradient()],
        [("axis", .int(node.int("axis"))), ("reduction", .string("add"))])
    ]
  },
  "GatherND": .gradients(pickedGradient),
  "ScatterElements": .gradients { w, node throws(OperatorError) in
    let g = try node.gradient()
    let indices = try node.required(1)
    let axis: [(String, AttributeValue)] = [("axis", .int(try node.int("axis")))]
    var data: ValueID? = g
    if node.isWanted(0), try node.replaces() {
      data = try w.apply("ScatterElements", [g, indices, w.zeros(like: node.required(2))], axis)
    }
    return [data, nil, node.isWanted(2) ? try w.apply("GatherElements", [g, indices], axis) : nil]
  },
  "ScatterND": .gradients { w, node throws(OperatorError) in
    let g = try node.gradient()
    let indices = try node.required(1)
    var data: ValueID? = g
    if node.isWanted(0), try node.replaces() {
      data = try w.apply("ScatterND", [g, indices, w.zeros(like: node.required(2))])
    }
    return [data, nil, node.isWanted(2) ? try w.apply("GatherND", [g, indices]) : nil]
  },
  "TopK": .gradients { w, node throws(OperatorError) in
    let zeros = try w.zeros(like: node.required(0))
    return [
      try w.apply(
        "ScatterElements", [zeros, w.output(1, of: node), node.gradient()], [("axis", .int(node.int("axis")))])
    ]
  },
]

extension Application {
  /// True if updates take the place of data, false if they are added to it.
  fileprivate func replaces() throws(OperatorError) -> Bool {
    switch try string("reduction") {
    case "none": return true
    case "add": return false
    case let reduction:
      throw .unsupported("there is no derivative rule for \(schema.id) with the reduction '\(reduction)'")
    }
  }
}

/// The indices become one axis, in the place of the axis that they pick from, and are repeated along all others.
private func gatherGradient(_ w: inout DerivativeWriter, _ node: Application) throws(OperatorError) -> [ValueID?] {
  let (x, indices) = (try node.required(0), try node.required(1))
  let rank = try w.rank(x)
  let axis = try resolveAxis(node.int("axis"), rank: rank)
  let count = try w.reshape(w.apply("Size", [indices]), w.ints([1]))
  var parts: [ValueID] = [count]
  if axis > 0 { parts.insert(try w.shapeOf(x, to: axis), at: 0) }
  if axis + 1 < rank { parts.append(try w.shapeOf(x, from: axis + 1)) }
  let shape = try w.join(parts)
  let column = try w.join([count] + (axis + 1 < rank ? [w.ints([Int](repeating: 1, count: rank - axis - 1))] : []))
  let places = try w.apply("Expand", [w.reshape(indices, column), shape])
  return [
    try w.apply(
      "ScatterElements", [w.zeros(like: x), places, w.reshape(node.gradient(), shape)],
      [("axis", .int(axis)), ("reduction", .string("add"))])
  ]
}
