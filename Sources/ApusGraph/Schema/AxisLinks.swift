// How the axes of a node's operands hang together: what must go with an index of one axis when that is taken away.

import ApusTensor

/// The links of one node, as its operator states them for the shapes that are known.
///
/// The promise: where some indices of linked axes are taken away from all operands alike, and the node is changed by
/// `rewrites`, the elements that are left are what they were. Along `summed` axes this holds where the elements that
/// are taken away were 0 in one of the factors. An axis that is not mentioned must stay whole.
package struct AxisLinks: Sendable {
  package enum Operand: Sendable, Hashable { case input(Int), output(Int) }

  /// An axis of an operand, counted from the front.
  package struct Axis: Sendable, Hashable {
    package var operand: Operand
    package var axis: Int

    package init(_ operand: Operand, _ axis: Int) { (self.operand, self.axis) = (operand, axis) }
    package static func input(_ input: Int, _ axis: Int) -> Axis { Axis(.input(input), axis) }
    package static func output(_ output: Int, _ axis: Int) -> Axis { Axis(.output(output), axis) }
  }

  /// Index `first + k` of one axis goes with index `otherFirst + k / block % period` of another, for `count` of them.
  package struct Link: Sendable, Hashable {
    package var axis: Axis
    package var other: Axis
    package var first = 0
    package var otherFirst = 0
    /// nil: all of the axis from `first` on.
    package var count: Int?
    package var block = 1
    package var period = Int.max

    package init(
      _ axis: Axis, _ other: Axis, first: Int = 0, otherFirst: Int = 0, count: Int? = nil, block: Int = 1,
      period: Int = .max
    ) {
      (self.axis, self.other, self.first, self.otherFirst) = (axis, other, first, otherFirst)
      (self.count, self.block, self.period) = (count, block, period)
    }

    /// True if every index goes with the same index of the other axis.
    package var isPlain: Bool { first == 0 && otherFirst == 0 && count == nil && block == 1 && period == .max }
  }

  /// What must be said anew when extents have changed.
  package enum Rewrite: Sendable, Hashable {
    /// An element of a constant input is the extent of an axis where it is positive.
    case extent(input: Int, position: Int, of: Axis)
    /// An element of a constant input is an index of an axis: as many indices as are left before it.
    case boundary(input: Int, position: Int, of: Axis, index: Int)
    /// An input is the list of the extents that all outputs have along an axis, in place of an attribute.
    case outputExtents(input: Int, axis: Int, replacing: String)
    /// An integer attribute is the extent of an axis.
    case attribute(String, extentOf: Axis)
  }

  /// An operand that may be a weight of a product. Every element belongs to one channel that is computed, an index of
  /// `outputAxis`, and to one term of its sum, an index of `inputAxis` and of all other axes.
  package struct Weight: Sendable, Hashable {
    package var input: Int
    package var outputAxis: Int
    package var inputAxis: Int

    package init(input: Int, outputAxis: Int, inputAxis: Int) {
      (self.input, self.outputAxis, self.inputAxis) = (input, outputAxis, inputAxis)
    }
  }

  package var links: [Link] = []
  /// Axes over which products are summed: they need no partner in an output.
  package var summed: [Axis] = []
  package var rewrites: [Rewrite] = []
  package var weights: [Weight] = []
  /// True if output 0 has the elements of input 0 in the same order, in another shape.
  package var isReshaping = false

  package init() {}

  package mutating func link(_ axis: Axis, _ other: Axis) { links.append(Link(axis, other)) }
}

/// The links of a node; nil if what is known of it does not tell.
package typealias AxisRule = @Sendable (NodeFacts) -> AxisLinks?

extension NodeFacts {
  /// What the operator says, or what follows from what becomes of it in another order of axes.
  package var axisLinks: AxisLinks {
    if let rule = schema.axes { return rule(self) ?? AxisLinks() }
    switch schema.layout {
    case .elementwise(let condition): return condition(self) ? AxisLinks(sameAxesOf: self) : AxisLinks()
    case .broadcasting: return AxisLinks(broadcasting: self)
    case .reducing: return AxisLinks(reducing: self)
    case .reshaping:
      var links = AxisLinks()
      links.isReshaping = true
      return links
    case .fixed, .along, .axis, .axes, .axesInput, .images, .orderless: return AxisLinks()
    }
  }
}

extension AxisLinks {
  /// Input 0 and output 0 have the same axes, but for `excluded`.
  package init(sameAxesOf node: NodeFacts, except excluded: Set<Int> = []) {
    self.init()
    guard let before = node.shape(0), let after = node.outputShape(0), before.count == after.count else { return }
    for axis in before.indices where !excluded.contains(axis) { link(.input(0, axis), .output(0, axis)) }
  }

  /// Every input is broadcast to output 0.
  package init(broadcasting node: NodeFacts) {
    self.init()
    guard let output = node.outputShape(0) else { return }
    for input in node.node.inputs.indices where node.isPresent(input) {
      linkBroadcast(.input(input), node.shape(input), to: .output(0), output)
    }
  }

  /// The axes of one operand that are as long as those of another, from the last ones on.
  package mutating func linkBroadcast(
    _ operand: Operand, _ shape: [Dim]?, to other: Operand, _ target: [Dim], dropping dropped: Int = 0
  ) {
    guard let shape, shape.count <= target.count else { return }
    let offset = target.count - shape.count
    for axis in 0..<max(shape.count - dropped, 0) where shape[axis].isSame(as: target[axis + offset]) {
      link(Axis(operand, axis), Axis(other, axis + offset))
    }
  }

  /// Input 1 names the axes that are reduced.
  fileprivate init(reducing node: NodeFacts) {
    self.init()
    guard let shape = node.shape(0), let output = node.outputShape(0) else { return }
    var reduced = Set(0..<shape.count)
    if node.isPresent(1) {
      guard let given = node.integers(1), let axes = try? resolveAxes(given, rank: shape.count) else { return }
      if !axes.isEmpty { reduced = Set(axes) }
      if axes.isEmpty, node.optionalInt("noop_with_empty_axes") ?? 0 != 0 { reduced = [] }
    } else if node.optionalInt("noop_with_empty_axes") ?? 0 != 0 {
      reduced = []
    }
    let keeps = node.optionalInt("keepdims") ?? 1 != 0
    var place = 0
    for axis in shape.indices {
      if !reduced.contains(axis), place < output.count { link(.input(0, axis), .output(0, place)) }
      if keeps || !reduced.contains(axis) { place += 1 }
    }
  }
}
