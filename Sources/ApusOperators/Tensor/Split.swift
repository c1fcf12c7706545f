// Split: a tensor cut into pieces along an axis. https://onnx.ai/onnx/operators/onnx__Split.html
// Versions: 1, 2 (split as attribute only), 11 (negative axis), 13 (split as input), 18 (num_outputs).

import ApusGraph
import ApusTensor

struct Split: OperatorDefinition {
  let schema = OperatorSchema(
    "Split", versions: [1, 2, 11, 13, 18],
    inputs: [
      .required("input", "T"),
      .optional("split", "tensor(int64)", readWhenPlanning: true).since(13, before: .optional("split", .ints)),
    ],
    outputs: [.variadic("outputs", "T")],
    attributes: [.int("axis", default: 0), .optional("num_outputs", .int)],
    types: ["T": .basic, "tensor(int64)": .int64], traits: .rearranges,
    layout: .axis(attribute: "axis"), axes: AxisRules.split)

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    if version < 13 { node.makeInput(ofInts: "split", at: 1, in: builder) }
    if version == 1, node.inputs.count > 1, let lengths = node.inputs[1] {
      // In version 1 the lengths have the type of the data.
      node.inputs[1] = try builder.apply(
        OperatorID("Cast"), name: node.name + "/split", [lengths], [("to", .int(Int(DataType.int64.rawValue)))])
    }
    let hasLengths = node.inputs.count > 1 && node.inputs[1] != nil
    if version < 18, !hasLengths { node.attributes["num_outputs"] = .int(node.outputs.count) }
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let count = context.outputs.count
    guard count > 0 else { throw .invalid("the node has no outputs; expected at least one") }
    let isGiven = context.isPresent(1)
    if let parts = context.optionalInt("num_outputs") {
      guard !isGiven else {
        throw .invalid("both the input split and the attribute num_outputs are given; expected one")
      }
      guard parts == count else { throw .invalid("num_outputs is \(parts), but the node has \(count) outputs") }
    }
    guard let shape = context.shape(0) else {
      for output in 0..<count { context.set(output, context.type(0), nil) }
      return
    }
    let axis = try resolveAxis(try context.int("axis"), rank: shape.count)
    let lengths = isGiven ? try given(context, extent: shape[axis]) : Split.equal(shape[axis], parts: count)
    for output in 0..<count {
      var piece = shape
      piece[axis] = lengths[output]
      context.set(output, context.type(0), piece)
    }
    context.moveValues(of: self)
  }

  /// The lengths in the input `split`.
  private func given(_ context: InferenceContext, extent: Dim) throws(OperatorError) -> [Dim] {
    let count = context.outputs.count
    guard let lengths = context.values(1) else { return [Dim](repeating: .unknown, count: count) }
    guard lengths.count == count else { throw .mismatch("split has \(lengths.count) lengths for \(count) outputs") }
    if let negative = lengths.first(where: { $0.known.map { $0 < 0 } ?? false }) {
      throw .mismatch("split \(lengths.text) has the length \(negative)")
    }
    if let extent = extent.known, let long = lengths.first(where: { $0.known ?? 0 > extent }) {
      throw .mismatch("split \(lengths.text) has the length \(long), beyond the extent \(extent)")
    }
    if lengths.reduce(Dim(0), +).isSurelyDifferent(from: extent) {
      throw .mismatch("the lengths \(lengths.text) of split do not add up to the extent \(extent)")
    }
    return lengths
  }

  /// Equal lengths; the last is smaller, or even 0, where the extent does not divide.
  private static func equal(_ extent: Dim, parts: Int) -> [Dim] {
    if parts == 1 { return [extent] }
    let length = extent.dividedRoundingUp(by: Dim(parts))
    guard let known = extent.known, let each = length.known else {
      let exact = extent.dividedExactly(by: Dim(parts))
      return [Dim](repeating: exact ?? length, count: parts - 1) + [exact ?? .unknown]
    }
    return (0..<parts).map { Dim(max(0, min(each, known - $0 * each))) }
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let givenAxis = try context.int("axis")
    return .moving(takingRows: true) { plan throws(OperatorError) in
      guard let input = plan.inputs[0] else { throw .invalid("input 0 is missing") }
      let axis = try resolveAxis(givenAxis, rank: input.shape.rank)
      let inner = input.shape.count(of: axis + 1..<input.shape.rank)
      let outer = input.shape.count(of: 0..<axis)
      let width = input.dataType.byteWidth
      let isOneRun = outer == 1 && plan.rows(input: 0) == nil
      var loops: [MovementLoops] = []
      var (views, viewable) = ([Step.View](), [Step.View]())
      var offset = 0
      // An output that nobody wants has no type; its length is in `split`, or is the length of all.
      let lengths = plan.integers(1)
      let each = (input.shape[axis] + plan.outputs.count - 1) / max(plan.outputs.count, 1)
      for (index, type) in plan.outputs.enumerated() {
        let length =
          lengths.map { index < $0.count ? $0[index] : 0 } ?? min(each, max(0, input.shape[axis] - index * each))
        if type != nil {
          let run = length * inner
          var view = Step.View(output: index, byteOffset: offset * width)
          if !isOneRun { view.rows = plan.rows(run, of: input.shape[axis] * inner, input: 0) }
          if isOneRun || (plan.isViewed(index) && view.rows != nil) {
            views.append(view)
          } else {
            if view.rows != nil { viewable.append(view) }
            loops.append(
              MovementLoops(
                input: 0, output: index, width: width, extents: [outer, run],
                sourceStrides: [input.shape[axis] * inner, 1], targetStrides: [run, 1], sourceOffset: offset))
          }
        }
        offset += length * inner
      }
      if isOneRun { return .views(views) }
      var step = try Step.copying(loops, in: plan, name: "split")
      if loops.isEmpty { (step.phases, step.spread) = ([], plan.spread) }
      step.share { ($0.views, $0.viewable) = (views, viewable) }
      return step
    }
  }
}
