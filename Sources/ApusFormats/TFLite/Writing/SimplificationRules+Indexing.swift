// The rules of `TFLiteSimplification`: elements by their places. All become Gather, GatherND or ScatterND.

import ApusGraph
import ApusTensor

extension TFLiteSimplification {
  static let indexingRules: [String: Rule] = [
    "GatherElements": { (node, layers) throws(OperatorError) in
      let (data, indices) = (try layers.operand(node), try layers.cast(layers.operand(node, 1), to: .int64))
      let rank = try layers.rank(data)
      let axis = try resolveAxis(layers.facts(node).int("axis"), rank: rank)
      if rank == 1 { return [try layers.emit("Gather", [data, indices], [("axis", .int(0))])] }
      let shape = try layers.numbers(indices)
      return [try layers.emit("GatherND", [data, layers.coordinates(indices, shape, axis: axis)])]
    },
    "ScatterElements": { (node, layers) throws(OperatorError) in
      let (data, indices) = (try layers.operand(node), try layers.cast(layers.operand(node, 1), to: .int64))
      let facts = try layers.facts(node)
      let axis = try resolveAxis(facts.int("axis"), rank: layers.rank(data))
      let places = try layers.coordinates(indices, layers.numbers(indices), axis: axis)
      let reduction = facts.optionalString("reduction") ?? "none"
      return [
        try layers.emit(
          "ScatterND", [data, places, layers.operand(node, 2)], [("reduction", .string(reduction))])
      ]
    },
    "GatherND": { (node, layers) throws(OperatorError) in
      let batches = try layers.facts(node).optionalInt("batch_dims") ?? 0
      if batches == 0 { return nil }
      let (data, indices) = (try layers.operand(node), try layers.operand(node, 1))
      let shape = try layers.numbers(indices)
      guard batches > 0, batches < shape.count else { throw .invalid("batch_dims is \(batches)") }
      let outer = try layers.grids(Array(shape.dropLast()), axes: 0..<batches, like: indices)
      return [try layers.emit("GatherND", [data, layers.concatenate([outer, indices], axis: shape.count - 1)])]
    },
    "Compress": { (node, layers) throws(OperatorError) in
      let (x, condition) = (try layers.operand(node), try layers.operand(node, 1))
      let places = try layers.reshape(layers.emit("NonZero", [condition]), [-1])
      guard let given = try layers.facts(node).optionalInt("axis") else {
        return [try layers.emit("Gather", [layers.reshape(x, [-1]), places], [("axis", .int(0))])]
      }
      let axis = try resolveAxis(given, rank: layers.rank(x))
      return [try layers.emit("Gather", [x, places], [("axis", .int(axis))])]
    },
    "Hardmax": { (node, layers) throws(OperatorError) in
      let x = try layers.operand(node)
      let axis = try resolveAxis(layers.facts(node).int("axis"), rank: layers.rank(x))
      let place = try layers.emit("ArgMax", [x], [("axis", .int(axis)), ("keepdims", .int(0))])
      let depth = layers.integers([try layers.extent(x, axis)])
      let values = try layers.cast(layers.constant(Tensor([Float(0), 1])), to: layers.type(x) ?? .float32)
      return [try layers.emit("OneHot", [place, depth, values], [("axis", .int(axis))])]
    },
    "TopK": topK, "ArgMax": lastExtreme, "ArgMin": lastExtreme, "EyeLike": eye,
  ]

  /// The largest of the last axis, to which another one comes.
  private static let topK: Rule = { (node, layers) throws(OperatorError) in
    let (facts, x) = (try layers.facts(node), try layers.operand(node))
    let rank = try layers.rank(x)
    let axis = try resolveAxis(facts.int("axis"), rank: rank)
    if axis == rank - 1 { return nil }
    var order = Array(0..<rank)
    order.swapAt(axis, rank - 1)
    let largest = try facts.int("largest")
    let found = try layers.emit(
      "TopK", [layers.transpose(x, order), layers.operand(node, 1)], [("axis", .int(-1)), ("largest", .int(largest))],
      outputs: 2)
    return try found.map { (value) throws(OperatorError) in try layers.transpose(value, order) }
  }

  /// The last place is the first one of the elements in the other direction.
  private static let lastExtreme: Rule = { (node, layers) throws(OperatorError) in
    let (facts, x) = (try layers.facts(node), try layers.operand(node))
    if facts.optionalInt("select_last_index") ?? 0 == 0 { return nil }
    let axis = try resolveAxis(facts.int("axis"), rank: layers.rank(x))
    let extent = try layers.extent(x, axis)
    let place = try layers.emit(
      node.op.name, [layers.reversed(x, axis)], [("axis", .int(axis)), ("keepdims", .int(facts.int("keepdims")))])
    return [try layers.emit("Sub", [layers.constant(Tensor(scalar: Int64(extent - 1))), place])]
  }

  private static let eye: Rule = { (node, layers) throws(OperatorError) in
    let (facts, x) = (try layers.facts(node), try layers.operand(node))
    let shape = try layers.numbers(x)
    let offset = try facts.int("k")
    guard shape.count == 2, let output = node.outputs.first ?? nil, let type = layers.type(output),
      shape.allSatisfy({ $0 < 1 << 12 }), abs(offset) < 1 << 12
    else { throw .unsupported("a matrix of few rows and columns was expected") }
    let ones = (0..<shape[0]).flatMap { row in (0..<shape[1]).map { Float($0 == row + offset ? 1 : 0) } }
    return [try layers.cast(layers.constant(Tensor(ones, shape: Shape(shape))), to: type)]
  }
}

extension LayerBuilder {
  /// Tables of places have at most so many numbers.
  private static let largestTable = 1 << 24

  /// The extents of a value, which must be numbers.
  func numbers(_ value: ValueID) throws(OperatorError) -> [Int] { try TFLiteNode.numbers(shape(value)) }

  /// The value with the elements along an axis in the other direction.
  func reversed(_ value: ValueID, _ axis: Int) throws(OperatorError) -> ValueID {
    try slice(value, from: [Int(Int32.max)], to: [-Int(Int32.max)], axes: [axis], steps: [-1])
  }

  /// For each index along `axis` the place that it means, as coordinates of all axes.
  fileprivate func coordinates(
    _ indices: ValueID, _ shape: [Int], axis: Int
  ) throws(OperatorError) -> ValueID {
    var parts: [ValueID] = []
    if axis > 0 { parts.append(try grids(shape, axes: 0..<axis, like: indices)) }
    parts.append(try unsqueeze(indices, [shape.count]))
    if axis + 1 < shape.count { parts.append(try grids(shape, axes: (axis + 1)..<shape.count, like: indices)) }
    return try concatenate(parts, axis: shape.count)
  }

  /// Coordinates along some axes of each place of a shape, behind its axes.
  fileprivate func grids(_ shape: [Int], axes: Range<Int>, like indices: ValueID) throws(OperatorError) -> ValueID {
    var count = axes.count
    for extent in shape {
      let (product, overflows) = count.multipliedReportingOverflow(by: extent)
      guard !overflows, product <= Self.largestTable else {
        throw .unsupported("a table of the places of \(shape) is too large")
      }
      count = product
    }
    var numbers: [Int64] = []
    numbers.reserveCapacity(count)
    var place = [Int](repeating: 0, count: shape.count)
    for _ in 0..<(count / max(axes.count, 1)) {
      for axis in axes { numbers.append(Int64(place[axis])) }
      for axis in shape.indices.reversed() {
        place[axis] += 1
        if place[axis] < shape[axis] { break }
        place[axis] = 0
      }
    }
    let table = constant(Tensor(numbers, shape: Shape(shape + [axes.count])))
    return try cast(table, to: type(indices) ?? .int64)
  }
}
