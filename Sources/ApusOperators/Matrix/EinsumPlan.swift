// Plans an Einsum: operands as strided views, contracted two at a time by matrix products.

import ApusGraph
import ApusTensor

/// An operand or an intermediate result: labelled axes with strides in elements, from the start of some memory.
struct EinsumView: Sendable {
  struct Axis: Sendable {
    var label: EinsumEquation.Label
    var extent: Int
    var stride: Int
  }

  var place: StepSequence.Operand
  var axes: [Axis]

  func axis(_ label: EinsumEquation.Label) -> Axis? { axes.first { $0.label == label } }
  func has(_ label: EinsumEquation.Label) -> Bool { axis(label) != nil }

  /// Axes under row-major strides; 0 for an extent of 1, which may meet a larger one.
  static func dense(_ axes: [Axis], at place: StepSequence.Operand) -> EinsumView {
    var stride = 1
    var result = axes
    for index in axes.indices.reversed() {
      result[index].stride = axes[index].extent == 1 ? 0 : stride
      stride &*= axes[index].extent
    }
    return EinsumView(place: place, axes: result)
  }

  var count: Int { axes.reduce(1) { $0 &* $1.extent } }

  /// The axes of `labels` as one axis (extent, stride), if the strides allow it; labels that are missing do not count.
  func merged(_ labels: [EinsumEquation.Label]) -> (extent: Int, stride: Int)? {
    var result: (extent: Int, stride: Int)?
    for label in labels.reversed() {
      guard let axis = axis(label), axis.extent != 1 else { continue }
      guard let inner = result else {
        result = (axis.extent, axis.stride)
        continue
      }
      if axis.stride != inner.extent * inner.stride { return nil }
      result = (inner.extent * axis.extent, inner.stride)
    }
    return result ?? (1, 1)
  }
}

/// Builds the steps of one Einsum for one set of shapes.
struct EinsumPlan {
  private let type: DataType
  private let extents: [EinsumEquation.Label: Int]
  private let output: [EinsumEquation.Label]
  private let usesPanels: Bool
  private var views: [EinsumView]
  private var sequence = StepSequence()

  /// `usesPanels`: float32 products on the packed micro-kernels.
  static func step(
    _ equation: EinsumEquation, shapes: [Shape], type: DataType, usesPanels: Bool
  ) throws(OperatorError) -> Step {
    var plan = EinsumPlan(equation, shapes: shapes, type: type, usesPanels: usesPanels)
    return try plan.build()
  }

  private init(_ equation: EinsumEquation, shapes: [Shape], type: DataType, usesPanels: Bool) {
    (self.type, output, self.usesPanels) = (type, equation.output, usesPanels)
    var extents: [EinsumEquation.Label: Int] = [:]
    for (term, shape) in zip(equation.terms, shapes) {
      // An extent of 1 meets any other.
      for (label, extent) in zip(term, shape) where extents[label] ?? 1 == 1 { extents[label] = extent }
    }
    self.extents = extents
    views = []
    for (index, (term, shape)) in zip(equation.terms, shapes).enumerated() {
      var axes: [EinsumView.Axis] = []
      let strides = shape.strides
      for (dim, label) in term.enumerated() {
        let stride = shape[dim] == 1 ? 0 : strides[dim]
        if let first = axes.firstIndex(where: { $0.label == label }) {
          // A label twice in one term runs along the diagonal.
          axes[first].stride += stride
          if axes[first].extent == 1 { axes[first].extent = shape[dim] }
        } else {
          axes.append(EinsumView.Axis(label: label, extent: shape[dim], stride: stride))
        }
      }
      views.append(EinsumView(place: .input(index), axes: axes))
    }
  }

  private mutating func build() throws(OperatorError) -> Step {
    while views.count > 1 {
      let (first, second) = nextPair()
      let right = views.remove(at: second)
      let left = views.remove(at: first)
      views.append(try contract(left, right))
    }
    let axes = output.map { EinsumView.Axis(label: $0, extent: extents[$0] ?? 1, stride: 0) }
    try finish(views[0], into: .dense(axes, at: .output(0)))
    return sequence.step.named("einsum")
  }

  /// The labels that somebody needs after the operands at `first` and `second` are one.
  private func needed(without first: Int, _ second: Int) -> Set<EinsumEquation.Label> {
    var labels = Set(output)
    for (index, view) in views.enumerated() where index != first && index != second {
      labels.formUnion(view.axes.map(\.label))
    }
    return labels
  }

  /// The two operands whose product grows the least over them.
  private func nextPair() -> (Int, Int) {
    if views.count == 2 { return (0, 1) }
    var best = (growth: Double.infinity, pair: (0, 1))
    for first in views.indices {
      for second in views.indices where second > first {
        let kept = needed(without: first, second)
        let labels = Set((views[first].axes + views[second].axes).map(\.label)).intersection(kept)
        let size = labels.reduce(1.0) { $0 * Double(extents[$1] ?? 1) }
        let growth = size - Double(views[first].count) - Double(views[second].count)
        if growth < best.growth { best = (growth, (first, second)) }
      }
    }
    return best.pair
  }

  // MARK: - Two operands

  private mutating func contract(_ first: EinsumView, _ second: EinsumView) throws(OperatorError) -> EinsumView {
    var kept = Set(output)
    for view in views { kept.formUnion(view.axes.map(\.label)) }
    // What only one side has and nobody needs is summed before; an extent of 1 against a larger one is repeated.
    let left = try summed(first) { kept.contains($0) || second.has($0) }
    let right = try summed(second) { kept.contains($0) || first.has($0) }
    let order = output + kept.subtracting(output).sorted()
    func has(_ view: EinsumView, _ label: EinsumEquation.Label) -> Bool {
      view.axis(label).map { $0.extent != 1 } ?? false
    }
    let labels = order.filter { left.has($0) || right.has($0) }
    let both = labels.filter { has(left, $0) && has(right, $0) }
    // An axis of extent 1 on both sides that one of them lacks is of the other.
    let leftOnly = labels.filter { !both.contains($0) && (has(left, $0) || (left.has($0) && !has(right, $0))) }
    let rightOnly = labels.filter { !both.contains($0) && !leftOnly.contains($0) }
    let contracted = left.axes.map(\.label).filter { !kept.contains($0) && right.has($0) }
    let shared = contracted.filter { has(left, $0) && has(right, $0) }
    // A contracted axis that one side repeats: the other side is summed along it by the product itself.
    if shared.count < contracted.count || shared.isEmpty {
      return try multiplied(left, right, labels: labels, contracted: contracted)
    }
    // By the equation, not by extents, so that one row has the bits that it has among others.
    let isDot = order.allSatisfy { left.has($0) == right.has($0) }
    // The side whose own axes come first in the result is the left one.
    if let l = leftOnly.first, let r = rightOnly.first, let x = order.firstIndex(of: l),
      let y = order.firstIndex(of: r), y < x
    {
      return try product(right, left, batch: both, rows: rightOnly, columns: leftOnly, depth: shared, isDot: isDot)
    }
    return try product(left, right, batch: both, rows: leftOnly, columns: rightOnly, depth: shared, isDot: isDot)
  }

  private mutating func product(
    _ left: EinsumView, _ right: EinsumView, batch: [EinsumEquation.Label], rows: [EinsumEquation.Label],
    columns: [EinsumEquation.Label], depth: [EinsumEquation.Label], isDot: Bool
  ) throws(OperatorError) -> EinsumView {
    var (left, right) = (left, right)
    if left.merged(rows) == nil || left.merged(depth) == nil { left = try dense(left, batch + rows + depth) }
    // The order of the contracted axes must be the same on both sides.
    if right.merged(columns) == nil || right.merged(depth) == nil { right = try dense(right, batch + depth + columns) }
    guard let m = left.merged(rows), let k = left.merged(depth), let n = right.merged(columns),
      let depthRight = right.merged(depth)
    else { throw .unsupported("the operands cannot be brought into rows and columns") }
    // Extents of the operands: another one may have more than 1 where both have 1.
    let axes = (batch + rows + columns).map { label in
      let own = left.axis(label)?.extent ?? 1
      return EinsumView.Axis(label: label, extent: own == 1 ? right.axis(label)?.extent ?? 1 : own, stride: 0)
    }
    let result = try newView(axes)
    let batches = GemmBatch(
      extents: batch.map { extents[$0] ?? 1 }, a: batch.map { left.axis($0)?.stride ?? 0 },
      b: batch.map { right.axis($0)?.stride ?? 0 })
    let leftLayout = MatrixLayout(rowStride: m.stride, columnStride: k.stride)
    let rightLayout = MatrixLayout(rowStride: depthRight.stride, columnStride: n.stride)
    let step: Step
    if usesPanels && type == .float32 && !isDot {
      step = GemmPlan(
        m: m.extent, n: n.extent, k: k.extent, left: leftLayout, right: .unpacked(rightLayout, scale: 1), batch: batches
      ).step()
    } else {
      let plain = PlainProduct(
        m: m.extent, n: n.extent, k: k.extent, left: leftLayout, right: rightLayout, batch: batches)
      guard let plain = (isDot ? plain.dotStep(type) : nil) ?? plain.step(type) else {
        throw .unsupported("Einsum has no kernel for \(type)")
      }
      step = plain
    }
    sequence.append(step, inputs: [left.place, right.place], outputs: [result.place])
    return result
  }

  // MARK: - The parts of it

  /// Memory for an intermediate result: the output of the node if this is its last form.
  private mutating func newView(_ axes: [EinsumView.Axis]) throws(OperatorError) -> EinsumView {
    if views.isEmpty && axes.allSatisfy({ $0.extent == extents[$0.label] ?? 1 })
      && axes.map(\.label).filter({ extents[$0] != 1 }) == output.filter({ extents[$0] != 1 })
    {
      return .dense(axes, at: .output(0))
    }
    return .dense(axes, at: try reserve(axes))
  }

  /// Memory for the elements of `axes`.
  private mutating func reserve(_ axes: [EinsumView.Axis]) throws(OperatorError) -> StepSequence.Operand {
    let shape = Shape(axes.map(\.extent))
    guard let count = shape.checkedElementCount else {
      throw .mismatch("an intermediate result would have the shape \(shape), which no memory holds")
    }
    return sequence.reserve(bytes: count * type.byteWidth)
  }

  /// The same elements in rows, axes in the order of `labels`; those that the view lacks are left out.
  private mutating func dense(
    _ view: EinsumView, _ labels: [EinsumEquation.Label]
  ) throws(OperatorError) -> EinsumView {
    let axes = labels.compactMap { view.axis($0) }
    let target = EinsumView.dense(axes, at: try reserve(axes))
    try copy(EinsumView(place: view.place, axes: axes), to: target)
    return target
  }

  /// Copies all elements; both views have the same axes in the same order.
  private mutating func copy(_ source: EinsumView, to target: EinsumView) throws(OperatorError) {
    let copy = try MovementCopy(
      from: .input(0), width: type.byteWidth, extents: target.axes.map(\.extent),
      sourceStrides: source.axes.map(\.stride),
      targetStrides: target.axes.map(\.stride))
    let partition = copy.partition
    let step = Step.parallel(parts: copy.count == 0 ? 0 : partition.parts) { run, part in
      copy.run(from: run.inputBytes(0), to: run.outputBytes(), partition.range(part))
    }
    sequence.append(step, inputs: [source.place], outputs: [target.place])
  }

  /// The view summed over the axes that `isKept` refuses.
  private mutating func summed(
    _ view: EinsumView, _ isKept: (EinsumEquation.Label) -> Bool
  ) throws(OperatorError) -> EinsumView {
    if view.axes.allSatisfy({ isKept($0.label) || $0.extent == 1 }) {
      return EinsumView(place: view.place, axes: view.axes.filter { isKept($0.label) })
    }
    let kept = view.axes.filter { isKept($0.label) }
    let target = EinsumView.dense(kept, at: try reserve(kept))
    let step = try StridedTerms(
      extents: kept.map(\.extent), left: kept.map(\.stride), right: kept.map { _ in 0 },
      sumExtents: view.axes.filter { !isKept($0.label) }.map(\.extent),
      sumLeft: view.axes.filter { !isKept($0.label) }.map(\.stride), sumRight: [], hasRight: false
    ).step(type)
    sequence.append(step, inputs: [view.place, .none], outputs: [target.place])
    return target
  }

  /// The product element by element, summed along `contracted`.
  private mutating func multiplied(
    _ left: EinsumView, _ right: EinsumView, labels: [EinsumEquation.Label], contracted: [EinsumEquation.Label]
  ) throws(OperatorError) -> EinsumView {
    let result = try newView(labels.map { EinsumView.Axis(label: $0, extent: extents[$0] ?? 1, stride: 0) })
    func strides(_ view: EinsumView, _ labels: [EinsumEquation.Label]) -> [Int] {
      labels.map { view.axis($0)?.stride ?? 0 }
    }
    let step = try StridedTerms(
      extents: labels.map { extents[$0] ?? 1 }, left: strides(left, labels), right: strides(right, labels),
      sumExtents: contracted.map { extents[$0] ?? 1 }, sumLeft: strides(left, contracted),
      sumRight: strides(right, contracted), hasRight: true
    ).step(type)
    sequence.append(step, inputs: [left.place, right.place], outputs: [result.place])
    return result
  }

  /// Brings the last view into the output.
  private mutating func finish(_ view: EinsumView, into target: EinsumView) throws(OperatorError) {
    if case .output = view.place { return }
    let labels = output
    let view = try summed(view) { labels.contains($0) }
    let axes = target.axes.map { view.axis($0.label) ?? EinsumView.Axis(label: $0.label, extent: $0.extent, stride: 0) }
    try copy(EinsumView(place: view.place, axes: axes), to: target)
  }
}
