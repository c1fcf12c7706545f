// The axis rules of operators: products, operators on images, movements. What each says is in the words of its
// specification: which index of which operand is which index of another.

import ApusGraph
import ApusTensor

/// Rules that several operators share, or that would crowd the file of one.
enum AxisRules {
  /// Axes from the front in the order in which they are named, each once; nil if one is none.
  private static func positions(_ axes: [Int], rank: Int) -> [Int]? {
    let positions = axes.compactMap { try? resolveAxis($0, rank: rank) }
    return positions.count == axes.count && Set(positions).count == axes.count ? positions : nil
  }

  // MARK: - Products

  /// Conv: X [batch, C, …], W [M, C / group, …], B [M], Y [batch, M, …].
  static let convolution: AxisRule = { node in
    guard let weights = node.shape(1), weights.count > 2, let outputs = weights[0].known, let inner = weights[1].known,
      case let groups = node.optionalInt("group") ?? 1, groups >= 1, outputs % groups == 0
    else { return nil }
    var rule = AxisLinks()
    rule.weights = [.init(input: 1, outputAxis: 0, inputAxis: 1)]
    rule.link(.output(0, 1), .input(1, 0))
    if node.isPresent(2) { rule.link(.input(2, 0), .input(1, 0)) }
    if groups > 1, inner == 1 {
      // A channel makes channels of its own: with it goes its group.
      rule.links.append(.init(.input(1, 0), .input(0, 1), block: outputs / groups))
      rule.rewrites.append(.attribute("group", extentOf: .input(0, 1)))
    } else {
      // All groups lose the channel at the same place, and stay equally large.
      rule.links.append(.init(.input(0, 1), .input(1, 1), period: inner))
      if groups > 1 { rule.links.append(.init(.input(1, 0), .input(1, 0), period: outputs / groups)) }
    }
    return rule
  }

  /// ConvTranspose: W [C, M / group, …].
  static let transposedConvolution: AxisRule = { node in
    guard let weights = node.shape(1), weights.count > 2, let inputs = weights[0].known, let inner = weights[1].known,
      case let groups = node.optionalInt("group") ?? 1, groups >= 1, inputs % groups == 0
    else { return nil }
    var rule = AxisLinks()
    rule.weights = [.init(input: 1, outputAxis: 1, inputAxis: 0)]
    rule.link(.input(0, 1), .input(1, 0))
    if node.isPresent(2) { rule.link(.input(2, 0), .output(0, 1)) }
    if groups > 1, inputs == groups {
      rule.links.append(.init(.output(0, 1), .input(1, 0), block: inner))
      rule.rewrites.append(.attribute("group", extentOf: .input(0, 1)))
      if inner == 1 { rule.weights = [.init(input: 1, outputAxis: 0, inputAxis: 1)] }
    } else {
      rule.links.append(.init(.output(0, 1), .input(1, 1), period: inner))
      if groups > 1 { rule.links.append(.init(.input(1, 0), .input(1, 0), period: inputs / groups)) }
    }
    return rule
  }

  /// Gemm: Y = A·B + C, each factor perhaps transposed.
  static let gemm: AxisRule = { node in
    guard node.shape(0)?.count == 2, node.shape(1)?.count == 2, let output = node.outputShape(0) else { return nil }
    let (rows, depth) = node.optionalInt("transA") ?? 0 != 0 ? (1, 0) : (0, 1)
    let (terms, columns) = node.optionalInt("transB") ?? 0 != 0 ? (1, 0) : (0, 1)
    var rule = AxisLinks()
    rule.link(.input(0, depth), .input(1, terms))
    rule.summed = [.input(0, depth), .input(1, terms)]
    rule.link(.output(0, 0), .input(0, rows))
    rule.link(.output(0, 1), .input(1, columns))
    rule.linkBroadcast(.input(2), node.shape(2), to: .output(0), output)
    rule.weights = [
      .init(input: 1, outputAxis: columns, inputAxis: terms), .init(input: 0, outputAxis: rows, inputAxis: depth),
    ]
    return rule
  }

  /// MatMul, as of NumPy.
  static let matMul: AxisRule = { node in
    guard let a = node.shape(0), let b = node.shape(1), let output = node.outputShape(0), !a.isEmpty, !b.isEmpty
    else { return nil }
    let (depth, terms) = (a.count - 1, max(b.count - 2, 0))
    var rule = AxisLinks()
    rule.link(.input(0, depth), .input(1, terms))
    rule.summed = [.input(0, depth), .input(1, terms)]
    let columns = b.count > 1 ? 1 : 0
    if b.count > 1 {
      rule.link(.output(0, output.count - 1), .input(1, b.count - 1))
      rule.weights.append(.init(input: 1, outputAxis: b.count - 1, inputAxis: terms))
    }
    if a.count > 1 {
      rule.link(.output(0, output.count - 1 - columns), .input(0, a.count - 2))
      rule.weights.append(.init(input: 0, outputAxis: a.count - 2, inputAxis: depth))
    }
    let batch = Array(output.dropLast((a.count > 1 ? 1 : 0) + columns))
    rule.linkBroadcast(.input(0), Array(a.dropLast(2)), to: .output(0), batch)
    rule.linkBroadcast(.input(1), Array(b.dropLast(2)), to: .output(0), batch)
    return rule
  }

  /// RNN, GRU, LSTM: W [directions, gates · hidden, inputs], R [directions, gates · hidden, hidden]. The hidden state
  /// is read by all gates, so nothing is linked.
  static let recurrent: AxisRule = { _ in
    var rule = AxisLinks()
    rule.weights = [1, 2].map { .init(input: $0, outputAxis: 1, inputAxis: 2) }
    return rule
  }

  // MARK: - Images

  /// Every plane of a batch and channel by itself.
  static let planes: AxisRule = { node in
    guard let shape = node.shape(0), shape.count >= 2 else { return nil }
    // Positions of elements count from the first channel on.
    if node.outputShape(1) != nil { return nil }
    return AxisLinks(sameAxesOf: node, except: Set(2..<shape.count))
  }

  /// Every plane by itself, with parameters of its channel in the other inputs.
  static let planesWithParameters: AxisRule = { node in
    guard let shape = node.shape(0), shape.count >= 2, node.outputShape(1) == nil,
      node.optionalInt("training_mode") ?? 0 == 0
    else { return nil }
    var rule = AxisLinks(sameAxesOf: node, except: Set(2..<shape.count))
    for input in 1..<max(node.node.inputs.count, 1) where node.isPresent(input) {
      rule.link(.input(input, 0), .input(0, 1))
    }
    return rule
  }

  /// Resize: axes that stay as long as they are.
  static let resize: AxisRule = { node in
    guard let before = node.shape(0), let after = node.outputShape(0), before.count == after.count,
      node.optionalString("keep_aspect_ratio_policy") ?? "stretch" == "stretch",
      node.optionalString("coordinate_transformation_mode") != "tf_crop_and_resize",
      let axes = positions(node.optionalInts("axes") ?? Array(before.indices), rank: before.count)
    else { return nil }
    var scales = node.isPresent(2) ? node.constant(2)?.elements(as: Float.self) : nil
    if node.isPresent(2), scales == nil { return nil }
    // None are given as an empty list, too.
    if scales?.isEmpty ?? false { scales = nil }
    if node.isPresent(3), node.constant(3) == nil { return nil }
    var rule = AxisLinks()
    for axis in before.indices where before[axis].isSame(as: after[axis]) {
      if let place = axes.firstIndex(of: axis) {
        if let scales, !scales.indices.contains(place) || scales[place] != 1 { continue }
        if node.isPresent(3) { rule.rewrites.append(.extent(input: 3, position: place, of: .output(0, axis))) }
      }
      rule.link(.input(0, axis), .output(0, axis))
    }
    return rule
  }

  // MARK: - Rows

  /// Softmax and its like: the rows along one axis, each by itself.
  static func rows(defaultAxis: Int) -> AxisRule {
    { node in
      guard let shape = node.shape(0),
        let axis = try? resolveAxis(node.optionalInt("axis") ?? defaultAxis, rank: shape.count)
      else { return nil }
      return AxisLinks(sameAxesOf: node, except: [axis])
    }
  }

  /// Normalizations over the last axes: what lies before them is by itself.
  static let leadingAxes: AxisRule = { node in
    guard let shape = node.shape(0), node.outputShape(1) == nil, node.outputShape(2) == nil,
      let axis = try? resolveAxis(node.optionalInt("axis") ?? -1, rank: shape.count)
    else { return nil }
    return AxisLinks(sameAxesOf: node, except: Set(axis..<shape.count))
  }

  // MARK: - Movements

  static let concat: AxisRule = { node in
    guard let output = node.outputShape(0),
      let axis = try? resolveAxis(node.optionalInt("axis") ?? 0, rank: output.count)
    else { return nil }
    var rule = AxisLinks()
    var first: Int? = 0
    for input in node.node.inputs.indices {
      guard let shape = node.shape(input), shape.count == output.count else { return nil }
      for other in output.indices where other != axis { rule.link(.input(input, other), .output(0, other)) }
      guard let start = first, let extent = shape[axis].known else {
        first = nil
        continue
      }
      rule.links.append(.init(.input(input, axis), .output(0, axis), otherFirst: start))
      first = start + extent
    }
    return rule
  }

  static let split: AxisRule = { node in
    guard let shape = node.shape(0), let axis = try? resolveAxis(node.optionalInt("axis") ?? 0, rank: shape.count),
      !node.isPresent(1) || node.constant(1) != nil
    else { return nil }
    var rule = AxisLinks()
    var first = 0
    for output in node.node.outputs.indices {
      guard let part = node.outputShape(output), let extent = part[axis].known else { return nil }
      for other in shape.indices where other != axis { rule.link(.output(output, other), .input(0, other)) }
      rule.links.append(.init(.output(output, axis), .input(0, axis), otherFirst: first))
      first += extent
    }
    rule.rewrites = [.outputExtents(input: 1, axis: axis, replacing: "num_outputs")]
    return rule
  }

  static let slice: AxisRule = { node in
    guard let shape = node.shape(0), let output = node.outputShape(0), let starts = node.integers(1),
      let ends = node.integers(2), !node.isPresent(3) || node.integers(3) != nil,
      let axes = positions(node.integers(3) ?? Array(starts.indices), rank: shape.count)
    else { return nil }
    if node.isPresent(4), node.integers(4) == nil { return nil }
    let steps = node.integers(4) ?? [Int](repeating: 1, count: axes.count)
    guard starts.count == axes.count, ends.count == axes.count, steps.count == axes.count else { return nil }
    var rule = AxisLinks()
    for axis in shape.indices {
      guard let place = axes.firstIndex(of: axis) else {
        rule.link(.output(0, axis), .input(0, axis))
        continue
      }
      guard steps[place] == 1, let extent = shape[axis].known, let count = output[axis].known, count > 0 else {
        continue
      }
      let start = min(max(starts[place] < 0 ? starts[place] + extent : starts[place], 0), extent)
      rule.links.append(.init(.output(0, axis), .input(0, axis), otherFirst: start))
      rule.rewrites += [
        .boundary(input: 1, position: place, of: .input(0, axis), index: start),
        .boundary(input: 2, position: place, of: .input(0, axis), index: start + count),
      ]
    }
    return rule
  }

  static let pad: AxisRule = { node in
    guard let shape = node.shape(0), let pads = node.integers(1), !node.isPresent(3) || node.integers(3) != nil,
      let axes = positions(node.integers(3) ?? Array(shape.indices), rank: shape.count),
      pads.count == 2 * axes.count
    else { return nil }
    let padded = axes.indices.filter { pads[$0] != 0 || pads[$0 + axes.count] != 0 }.map { axes[$0] }
    return AxisLinks(sameAxesOf: node, except: Set(padded))
  }

  static let transpose: AxisRule = { node in
    guard let shape = node.shape(0),
      let order = positions(node.optionalInts("perm") ?? shape.indices.reversed(), rank: shape.count),
      order.count == shape.count
    else { return nil }
    var rule = AxisLinks()
    for (axis, source) in order.enumerated() { rule.link(.output(0, axis), .input(0, source)) }
    return rule
  }

  /// Reshape: extents that the shape names are named anew. One that is computed must not be a number by chance.
  static let reshape: AxisRule = { node in
    guard let output = node.outputShape(0), let target = node.values(1), target.count == output.count else {
      return nil
    }
    if node.constant(1) == nil {
      for (axis, value) in target.enumerated() {
        guard let known = value.known, known > 1, output[axis].known != nil else { continue }
        return nil
      }
    }
    var rule = AxisLinks()
    rule.isReshaping = true
    if node.constant(1) != nil {
      rule.rewrites = output.indices.map { .extent(input: 1, position: $0, of: .output(0, $0)) }
    }
    return rule
  }

  /// Gather: the axes of the data but the one along which it looks up.
  static let gather: AxisRule = { node in
    guard let data = node.shape(0), let indices = node.shape(1),
      let axis = try? resolveAxis(node.optionalInt("axis") ?? 0, rank: data.count)
    else { return nil }
    var rule = AxisLinks()
    for other in data.indices where other != axis {
      rule.link(.output(0, other < axis ? other : other + indices.count - 1), .input(0, other))
    }
    return rule
  }

  /// Output 0 is input 0, in the same places.
  static let sameAxes: AxisRule = { AxisLinks(sameAxesOf: $0) }
}
