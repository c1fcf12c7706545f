// The rules of `TFLiteSimplification`: windows over images that TensorFlow Lite has in simpler forms only.

import ApusGraph
import ApusTensor

extension TFLiteSimplification {
  static let imageRules: [String: Rule] = [
    "ConvTranspose": transposedConvolution, "MaxPool": pooled, "AveragePool": pooled,
    "LpPool": { (node, layers) throws(OperatorError) in
      let (facts, x) = (try layers.facts(node), try layers.operand(node))
      let p = try facts.int("p")
      guard facts.optionalInt("ceil_mode") ?? 0 == 0, p > 0 else { throw .unsupported("ceil_mode is not written") }
      // The mean of powers over all elements of a window, pads included, times how many these are.
      let power = try powers(x, p, layers)
      var attributes = node.attributes.entries.map { ($0.name, $0.value) }.filter { $0.0 != "p" && $0.0 != "ceil_mode" }
      attributes.append(("count_include_pad", .int(1)))
      var mean = Node(OperatorID("AveragePool"), inputs: [power], outputs: node.outputs)
      mean.attributes = Attributes(attributes)
      var sums = try pooled(mean, layers)?.first ?? nil
      if sums == nil { sums = try layers.emit("AveragePool", [power], attributes) }
      guard let result = sums else { return nil }
      let count = try facts.ints("kernel_shape").reduce(1.0) { $0 * Double($1) }
      return [try root(layers.emit("Mul", result, count), p, layers)]
    },
    "GlobalLpPool": { (node, layers) throws(OperatorError) in
      let x = try layers.operand(node)
      let (rank, p) = (try layers.rank(x), try layers.facts(node).int("p"))
      guard rank > 2, p > 0 else { throw .unsupported("images were expected") }
      let sum = try layers.reduce("ReduceSum", powers(x, p, layers), axes: Array(2..<rank), keepsAxes: true)
      return [try root(sum, p, layers)]
    },
  ]

  private static func powers(_ x: ValueID, _ p: Int, _ layers: LayerBuilder) throws(OperatorError) -> ValueID {
    if p == 1 { return try layers.emit("Abs", [x]) }
    return p == 2 ? try layers.emit("Mul", [x, x]) : try layers.emit("Pow", layers.emit("Abs", [x]), Double(p))
  }

  private static func root(_ x: ValueID, _ p: Int, _ layers: LayerBuilder) throws(OperatorError) -> ValueID {
    if p == 1 { return x }
    return p == 2 ? try layers.emit("Sqrt", [x]) : try layers.emit("Pow", x, 1 / Double(p))
  }

  // MARK: - Transposed convolutions

  /// Groups are convolutions of their own, as many as this.
  private static let mostGroups = 256
  /// Weights with zeros between have at most so many elements.
  private static let mostWeights = 1 << 24

  private static let transposedConvolution: Rule = { (node, layers) throws(OperatorError) in
    let facts = try layers.facts(node)
    let groups = facts.optionalInt("group") ?? 1
    let dilations = facts.optionalInts("dilations") ?? []
    let isDilated = dilations.contains { $0 != 1 }
    if groups == 1, !isDilated { return nil }
    let (x, shape) = (try layers.operand(node), try layers.numbers(layers.operand(node, 1)))
    var weights = try layers.operand(node, 1)
    guard groups > 0, groups <= mostGroups, shape.count > 2, shape[0] % groups == 0 else {
      throw .unsupported("transposed convolutions of \(mostGroups) groups at most are written; there are \(groups)")
    }
    var attributes = node.attributes.entries.map { ($0.name, $0.value) }
    if isDilated {
      guard dilations.count == shape.count - 2, dilations.allSatisfy({ $0 > 0 }) else {
        throw .invalid("a positive dilation for each axis was expected; they are \(dilations)")
      }
      weights = try dilated(weights, shape, dilations, layers)
      attributes.removeAll { $0.0 == "dilations" || $0.0 == "kernel_shape" }
    }
    if groups == 1 { return [try layers.emit("ConvTranspose", [x, weights] + node.inputs.dropFirst(2), attributes)] }
    attributes.removeAll { $0.0 == "group" }
    let rows = shape[0] / groups
    let bias = node.inputs.count > 2 ? node.inputs[2] : nil
    let sizes = layers.integers([Int](repeating: rows, count: groups))
    let parts = try layers.emit("Split", [x, sizes], [("axis", .int(1))], outputs: groups)
    let results = try (0..<groups).map { (group) throws(OperatorError) in
      let own = try layers.slice(weights, from: [group * rows], to: [(group + 1) * rows], axes: [0])
      let summand = try bias.map { (value) throws(OperatorError) in
        try layers.slice(value, from: [group * shape[1]], to: [(group + 1) * shape[1]], axes: [0])
      }
      return try layers.emit("ConvTranspose", [parts[group], own, summand], attributes)
    }
    return [try layers.concatenate(results, axis: 1)]
  }

  /// Constant weights with zeros between those of a window.
  private static func dilated(
    _ weights: ValueID, _ shape: [Int], _ dilations: [Int], _ layers: LayerBuilder
  ) throws(OperatorError) -> ValueID {
    guard let floats = layers.constant(weights)?.elements(as: Float.self) else {
      throw .unsupported("weights of a dilated transposed convolution should be constants of float32")
    }
    var wide = shape
    var count = shape[0]
    for (axis, extent) in shape.enumerated() {
      guard extent > 0, axis < 2 || dilations[axis - 2] < 1 << 15, extent < 1 << 24 else {
        throw .unsupported("windows of this size are not written")
      }
      if axis >= 2 { wide[axis] = (extent - 1) * dilations[axis - 2] + 1 }
      if axis == 0 { continue }
      let (product, overflows) = count.multipliedReportingOverflow(by: wide[axis])
      guard !overflows, product <= mostWeights else { throw .unsupported("windows of this size are not written") }
      count = product
    }
    var result = [Float](repeating: 0, count: count)
    var place = [Int](repeating: 0, count: shape.count)
    for number in floats {
      var index = 0
      for axis in shape.indices { index = index * wide[axis] + place[axis] * (axis < 2 ? 1 : dilations[axis - 2]) }
      if result.indices.contains(index) { result[index] = number }
      for axis in shape.indices.reversed() {
        place[axis] += 1
        if place[axis] < shape[axis] { break }
        place[axis] = 0
      }
    }
    return layers.constant(Tensor(result, shape: Shape(wide)))
  }

  // MARK: - Pooling

  /// The windows of a pooling, an entry for each axis that they move along.
  private struct Windows {
    var kernel: [Int]
    var strides: [Int]
    var dilations: [Int]
    var pads: [Int]?

    /// Those of some axes.
    func along(_ axes: Range<Int>) -> Windows {
      let rank = kernel.count
      return Windows(
        kernel: Array(kernel[axes]), strides: Array(strides[axes]), dilations: Array(dilations[axes]),
        pads: pads.map { pads in axes.map { pads[$0] } + axes.map { pads[$0 + rank] } })
    }

    /// With an axis behind that stays as it is.
    var withStill: Windows {
      Windows(
        kernel: kernel + [1], strides: strides + [1], dilations: dilations + [1],
        pads: pads.map { [$0[0], 0, $0[1], 0] })
    }
  }

  /// Windows over three axes move along two of them and then along the third; dilated ones are slices.
  private static let pooled: Rule = { (node, layers) throws(OperatorError) in
    let (facts, x) = (try layers.facts(node), try layers.operand(node))
    if node.outputs.count > 1 { throw .unsupported("the places of the largest elements are not written") }
    let rank = try layers.rank(x) - 2
    let ones = [Int](repeating: 1, count: max(rank, 0))
    let isExplicit = (facts.optionalString("auto_pad") ?? "NOTSET") == "NOTSET"
    let windows = Windows(
      kernel: try facts.ints("kernel_shape"), strides: facts.optionalInts("strides") ?? ones,
      dilations: facts.optionalInts("dilations") ?? ones, pads: isExplicit ? facts.optionalInts("pads") : nil)
    let list = [windows.kernel, windows.strides, windows.dilations]
    guard list.allSatisfy({ $0.count == rank && $0.allSatisfy { $0 > 0 && $0 < 1 << 16 } }),
      windows.pads.map({ $0.count == 2 * rank && $0.allSatisfy { $0 >= 0 && $0 < 1 << 16 } }) ?? true
    else { throw .invalid("windows of \(rank) axes with positive sizes were expected") }
    let isDilated = zip(windows.kernel, windows.dilations).contains { $0 > 1 && $1 > 1 }
    if rank <= 2, !isDilated { return nil }
    if rank <= 2 { return [try pool(node, facts, x, windows, layers)] }
    guard rank == 3 else { throw .unsupported("poolings over one to three axes are written; there are \(rank)") }
    let shape = try layers.shape(x)
    let sizes = try TFLiteNode.numbers(Array(shape.dropFirst()))
    guard sizes.allSatisfy({ $0 < 1 << 24 }) else { throw .unsupported("images of this size are not written") }
    let planes = try layers.reshape(x, to: [shape[0], Dim(sizes[0] * sizes[1])] + shape[3...])
    let flat = try pool(node, facts, planes, windows.along(1..<3), layers)
    let area = try TFLiteNode.numbers(Array(layers.shape(flat).dropFirst(2)))
    let columns = try layers.reshape(flat, to: [shape[0], shape[1], shape[2], Dim(area[0] * area[1])])
    let result = try pool(node, facts, columns, windows.along(0..<1).withStill, layers)
    let depth = try layers.extent(result, 2)
    return [try layers.reshape(result, to: [shape[0], shape[1], Dim(depth), Dim(area[0]), Dim(area[1])])]
  }

  /// A pooling over one or two axes.
  private static func pool(
    _ node: Node, _ facts: NodeFacts, _ x: ValueID, _ windows: Windows, _ layers: LayerBuilder
  ) throws(OperatorError) -> ValueID {
    let isMost = node.op.name == "MaxPool"
    if zip(windows.kernel, windows.dilations).contains(where: { $0 > 1 && $1 > 1 }) {
      return try slices(node, facts, x, windows, layers)
    }
    var attributes: [(String, AttributeValue)] = [
      ("kernel_shape", .ints(windows.kernel)), ("strides", .ints(windows.strides)),
      ("ceil_mode", .int(facts.optionalInt("ceil_mode") ?? 0)),
    ]
    if let pads = windows.pads { attributes.append(("pads", .ints(pads))) }
    if let mode = facts.optionalString("auto_pad"), mode != "NOTSET" { attributes.append(("auto_pad", .string(mode))) }
    if !isMost { attributes.append(("count_include_pad", .int(facts.optionalInt("count_include_pad") ?? 0))) }
    return try layers.emit(node.op.name, [x], attributes)
  }

  /// Dilated windows of more elements are refused.
  private static let mostSlices = 64

  /// A pooling as what is computed of each element of its windows.
  private static func slices(
    _ node: Node, _ facts: NodeFacts, _ x: ValueID, _ windows: Windows, _ layers: LayerBuilder
  ) throws(OperatorError) -> ValueID {
    let isMost = node.op.name == "MaxPool"
    let axes = windows.kernel.count
    let pads = windows.pads ?? [Int](repeating: 0, count: 2 * axes)
    let isPadded = pads.contains { $0 != 0 }
    guard facts.optionalInt("ceil_mode") ?? 0 == 0, layers.type(x) == .float32,
      ["NOTSET", "VALID"].contains(facts.optionalString("auto_pad") ?? "NOTSET"),
      isMost || !isPadded || facts.optionalInt("count_include_pad") ?? 0 != 0,
      windows.kernel.reduce(1, *) <= mostSlices
    else {
      throw .unsupported("dilations with ceil_mode, auto_pad, pads that do not count or large windows are not written")
    }
    var padded = x
    if isPadded {
      let list = [0, 0] + pads[..<axes] + [0, 0] + pads[axes...]
      let filling = layers.scalar(isMost ? -Float.greatestFiniteMagnitude : 0)
      padded = try layers.emit("Pad", [x, layers.integers(list), filling])
    }
    let extents = try TFLiteNode.numbers(Array(layers.shape(padded).dropFirst(2)))
    let spans = (0..<axes).map { (axis: Int) -> Int in (windows.kernel[axis] - 1) * windows.dilations[axis] + 1 }
    guard (0..<axes).allSatisfy({ extents[$0] >= spans[$0] }) else { throw .unsupported("no window fits") }
    let reach = (0..<axes).map { (axis: Int) -> Int in
      let steps: Int = (extents[axis] - spans[axis]) / windows.strides[axis]
      return steps * windows.strides[axis] + 1
    }
    var result: ValueID?
    var place = [Int](repeating: 0, count: axes)
    for _ in 0..<windows.kernel.reduce(1, *) {
      let starts = (0..<axes).map { place[$0] * windows.dilations[$0] }
      let part = try layers.slice(
        padded, from: starts, to: (0..<axes).map { starts[$0] + reach[$0] }, axes: Array(2..<(axes + 2)),
        steps: windows.strides)
      result = try result.map { (sum) throws(OperatorError) in try layers.emit(isMost ? "Max" : "Add", [sum, part]) }
      result = result ?? part
      for axis in (0..<axes).reversed() {
        place[axis] += 1
        if place[axis] < windows.kernel[axis] { break }
        place[axis] = 0
      }
    }
    guard let result else { throw .inconsistency("windows without elements") }
    return isMost ? result : try layers.emit("Mul", result, 1 / Double(windows.kernel.reduce(1, *)))
  }
}
