// Slice: a box of elements at regular steps. https://onnx.ai/onnx/operators/onnx__Slice.html
// Versions: 1 (starts, ends, axes as attributes), 10 (as inputs, with steps), 11 (negative axes), 13 (bfloat16).

import ApusGraph
import ApusTensor

struct Slice: OperatorDefinition {
  let schema = OperatorSchema(
    "Slice", versions: [1, 10, 11, 13],
    inputs: [
      .required("data", "T"),
      .required("starts", "Tind", readWhenPlanning: true).since(10, before: .optional("starts", .ints)),
      .required("ends", "Tind", readWhenPlanning: true).since(10, before: .optional("ends", .ints)),
      .optional("axes", "Tind", readWhenPlanning: true).since(10, before: .optional("axes", .ints)),
      .optional("steps", "Tind", readWhenPlanning: true).since(10),
    ],
    outputs: [.required("output", "T")],
    types: ["T": .basic, "Tind": .indices], traits: .rearranges,
    identity: .sameShape { !$0.isPresent(4) || $0.integers(4)?.allSatisfy { $0 > 0 } ?? false },
    layout: .axesInput(3), axes: AxisRules.slice)

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    guard version == 1 else { return }
    for (position, name) in ["starts", "ends", "axes"].enumerated() {
      node.makeInput(ofInts: name, at: position + 1, in: builder)
    }
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    guard var shape = context.shape(0) else { return context.set(0, context.type(0), nil) }
    let given: [Int]
    switch context.axes(3) {
    case .known(let axes): given = axes
    case .absent:
      guard let count = context.length(1) ?? context.length(2) else { fallthrough }
      guard count <= shape.count else {
        throw .mismatch("\(count) starts for the \(shape.count) axes of the shape \(shape.text)")
      }
      given = Array(0..<count)
    case .unknown: return context.set(0, context.type(0), .unknown(rank: shape.count))
    }
    var axes: [Int] = []
    for axis in given { axes.append(try resolveAxis(axis, rank: shape.count, name: "axes")) }
    // The specification leaves repeated axes open.
    guard Set(axes).count == axes.count else { throw .mismatch("axes \(given) names an axis twice") }
    let (starts, ends) = (context.values(1), context.values(2))
    let steps = context.isPresent(4) ? context.integers(4) : [Int](repeating: 1, count: axes.count)
    for (name, count) in [("starts", starts?.count), ("ends", ends?.count), ("steps", steps?.count)] {
      guard let count, count != axes.count else { continue }
      throw .mismatch("\(count) \(name) for \(axes.count) axes")
    }
    for (index, axis) in axes.enumerated() {
      if steps?[index] == 0 { throw .mismatch("steps[\(index)] is 0") }
      guard let start = starts?[index], let end = ends?[index], let step = steps?[index] else {
        shape[axis] = .unknown
        continue
      }
      shape[axis] = SliceRange.extent(start: start, end: end, step: step, of: shape[axis])
    }
    context.set(0, context.type(0), shape)
    context.moveValues(of: self)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .moving(takingRows: true) { plan throws(OperatorError) in
      guard let input = plan.inputs[0], let starts = plan.integers(1), let ends = plan.integers(2) else {
        throw .invalid("data, starts or ends is missing")
      }
      let axes = plan.integers(3) ?? Array(starts.indices)
      let steps = plan.integers(4) ?? [Int](repeating: 1, count: axes.count)
      guard starts.count == axes.count, ends.count == axes.count, steps.count == axes.count else {
        throw .mismatch("\(starts.count) starts, \(ends.count) ends and \(steps.count) steps for \(axes.count) axes")
      }
      var strides = input.shape.strides
      var offset = 0
      for (index, axis) in axes.enumerated() {
        let axis = try resolveAxis(axis, rank: input.shape.rank, name: "axes")
        let range = SliceRange(start: starts[index], end: ends[index], step: steps[index], extent: input.shape[axis])
        offset += range.start * strides[axis]
        // One element needs no step, which may be huge.
        if range.count > 1 { strides[axis] *= steps[index] }
      }
      let output = plan.outputShape(0)
      if output.elementCount == 0 { return .copying([]) }
      let loops = MovementLoops(
        input: 0, width: input.dataType.byteWidth, extents: output.dims, sourceStrides: strides,
        targetStrides: output.strides, sourceOffset: offset)
      if plan.spread.isEmpty, case let copy = try loops.copy, copy.isContiguous {
        return .copyingOrViewing(copy, name: "slice")
      }
      return try Slice.step(loops, of: input, output, plan)
    }
  }

  /// The copy, or the view that it could be: a slice of one axis, all elements of the others.
  private static func step(
    _ loops: MovementLoops, of input: TensorType, _ output: Shape, _ plan: PlanContext
  ) throws(OperatorError) -> Step {
    var step = try Step.copying([loops], in: plan, name: "slice")
    let dense = input.shape.strides
    let isForward = output.indices.allSatisfy { output[$0] <= 1 || loops.sourceStrides[$0] == dense[$0] }
    let sliced = output.indices.filter { output[$0] != input.shape[$0] }
    guard isForward, sliced.count == 1,
      let rows = plan.rows(
        output[sliced[0]] * dense[sliced[0]], of: input.shape[sliced[0]] * dense[sliced[0]], input: 0)
    else { return step }
    let view = Step.View(byteOffset: loops.sourceOffset * input.dataType.byteWidth, rows: rows)
    if plan.isViewed(0) {
      (step.phases, step.views, step.spread) = ([], [view], plan.spread)
    } else {
      step.share { $0.viewable = [view] }
    }
    return step
  }
}

/// The elements that a slice takes along one axis.
struct SliceRange {
  /// The first element; 0 if there is none.
  let start: Int
  let count: Int

  /// Bounds as in the specification: negative ones count from the end, all are clamped. `step` must not be 0.
  init(start: Int, end: Int, step: Int, extent: Int) {
    let first = start < 0 ? start + extent : start
    let last = end < 0 ? end + extent : end
    let span: Int
    if step > 0 {
      self.start = min(max(first, 0), extent)
      span = min(max(last, 0), extent) - self.start
    } else {
      self.start = max(min(max(first, 0), extent - 1), 0)
      span = extent == 0 ? 0 : self.start - min(max(last, -1), extent - 1)
    }
    count = span <= 0 ? 0 : (span - 1) / Int(clamping: step.magnitude) + 1
  }

  /// The number of elements for bounds and extents that may be symbols; unknown where their order is not known.
  static func extent(start: Dim, end: Dim, step: Int, of extent: Dim) -> Dim {
    if let start = start.known, let end = end.known, let extent = extent.known {
      return Dim(SliceRange(start: start, end: end, step: step, extent: extent).count)
    }
    let length: Dim
    if step > 0 {
      guard let first = clamped(start, to: extent), let last = clamped(end, to: extent) else { return .unknown }
      if first == last, !first.isUnknown { return 0 }
      if first.known == 0 {
        length = last
      } else if last == extent, let start = start.known {
        // What remains after a bound from the front, or what a bound from the end leaves.
        length = start > 0 ? atLeastZero(extent - Dim(start)) : smaller(Dim(-start), extent)
      } else {
        length = atLeastZero(last - first)
      }
    } else {
      // Only the whole axis backwards.
      guard let first = start.known, first == -1 || first >= Int(Int32.max), let last = end.known,
        last <= -Int(Int32.max)
      else { return .unknown }
      length = extent
    }
    return length.dividedRoundingUp(by: Dim(Int(clamping: step.magnitude)))
  }

  /// A bound of a slice forwards, between 0 and the extent; nil if it cannot be told.
  private static func clamped(_ bound: Dim, to extent: Dim) -> Dim? {
    if bound.isUnknown || extent.isUnknown { return bound.known == 0 ? 0 : nil }
    if let value = bound.known {
      // What is beyond 32 bits stands for the end, as exporters write it.
      if value >= Int(Int32.max) { return extent }
      if value <= -Int(Int32.max) { return 0 }
      return value >= 0 ? smaller(bound, extent) : atLeastZero(extent + bound)
    }
    if bound.isSurelyNonNegative { return smaller(bound, extent) }
    if (Dim(0) - bound).isSurelyNonNegative { return atLeastZero(extent + bound) }
    return nil
  }

  private static func smaller(_ a: Dim, _ b: Dim) -> Dim {
    if (b - a).isSurelyNonNegative { return a }
    if (a - b).isSurelyNonNegative { return b }
    return .min(a, b)
  }

  private static func atLeastZero(_ value: Dim) -> Dim { value.isSurelyNonNegative ? value : .max(value, 0) }
}
