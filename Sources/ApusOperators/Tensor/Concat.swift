// Concat: tensors one after the other along an axis. https://onnx.ai/onnx/operators/onnx__Concat.html
// Versions: 1 (axis 1 by default), 4 (axis required), 11 (negative axis), 13 (bfloat16).

import ApusGraph
import ApusTensor

struct Concat: OperatorDefinition {
  let schema = OperatorSchema(
    "Concat", versions: [1, 4, 11, 13],
    inputs: [.variadic("inputs", "T")], outputs: [.required("concat_result", "T")],
    attributes: [.required("axis", .int)], types: ["T": .basic], traits: .rearranges, identity: .oneInput,
    layout: .along(attribute: "axis"), axes: AxisRules.concat)

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    if version == 1, node.attributes["axis"] == nil { node.attributes["axis"] = .int(1) }
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let type = try commonType(context)
    var result: [Dim]?
    var axis = 0
    var isComplete = true
    for index in context.inputs.indices {
      guard let shape = context.shape(index) else {
        isComplete = false
        continue
      }
      guard var joined = result else {
        axis = try resolveAxis(try context.int("axis"), rank: shape.count)
        result = shape
        continue
      }
      guard shape.count == joined.count else {
        throw .mismatch(
          "input \(index) has the shape \(shape.text), an input before it \(joined.text): the ranks differ")
      }
      for position in shape.indices where position != axis {
        if shape[position].isSurelyDifferent(from: joined[position]) {
          throw .mismatch(
            "input \(index) has the shape \(shape.text), an input before it \(joined.text): "
              + "they differ on axis \(position), which is not the axis \(axis) of the concatenation")
        }
        if joined[position].isUnknown || shape[position].known != nil { joined[position] = shape[position] }
      }
      joined[axis] = joined[axis] + shape[axis]
      result = joined
    }
    if !isComplete { result?[axis] = .unknown }
    context.set(0, type, result)
    context.moveValues(of: self)
  }

  private func commonType(_ context: InferenceContext) throws(OperatorError) -> DataType? {
    var common: DataType?
    for index in context.inputs.indices {
      guard let type = context.type(index) else { continue }
      if let common, common != type { throw .mismatch("input \(index) is \(type), an input before it \(common)") }
      common = type
    }
    return common
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let givenAxis = try context.int("axis")
    // A cache grows: what is new goes behind the first input.
    let growths = try context.rank(0).map { (rank) throws(OperatorError) in
      Growth(input: 0, output: 0, axis: try resolveAxis(givenAxis, rank: rank))
    }
    return .moving(growths: growths.map { [$0] } ?? [], takingRows: true) { plan throws(OperatorError) in
      let output = plan.outputShape(0)
      let axis = try resolveAxis(givenAxis, rank: output.rank)
      let inner = output.count(of: axis + 1..<output.rank)
      let outer = output.count(of: 0..<axis)
      let pitch = plan.pitch(output: 0)
      if pitch == nil {
        if let all = plan.inputs.firstIndex(where: { $0?.shape[axis] == output[axis] }) {
          return .views([.init(input: all)])
        }
        return try Concat.step(plan, outer: outer, inner: inner, axis: axis)
      }
      let filled = plan.inputs.indices.filter { plan.shape($0).elementCount > 0 }
      var copies: [MovementCopy] = []
      var offset = 0
      for index in filled {
        guard let type = plan.inputs[index] else { continue }
        let run = type.shape[axis] * inner
        if index > 0 || !(pitch?.isAppended ?? false) {
          copies.append(
            try MovementCopy(
              from: .input(index), width: type.dataType.byteWidth, extents: [outer, run], sourceStrides: [run, 1],
              targetStrides: [(pitch?.capacity ?? output[axis]) * inner, 1], targetOffset: offset))
        }
        offset += run
      }
      guard let pitch else { return .copying(copies, name: "concat") }
      return pitch.isAppended
        ? .copying(copies, name: "append").notReading(0) : .copying(copies, name: "concat with room")
    }
  }

  /// The copies of inputs with elements, but for those that lie in the output already.
  private static func step(_ plan: PlanContext, outer: Int, inner: Int, axis: Int) throws(OperatorError) -> Step {
    let length = plan.outputShape(0)[axis] * inner
    let width = plan.inputs.first??.dataType.byteWidth ?? 0
    let isSpread = !plan.spread.isEmpty
    // The copies, or their loops where operands lie in rows.
    var (copies, loops) = ([MovementCopy](), [MovementLoops]())
    var (joinable, joins) = ([Step.Join](), [Step.Join]())
    copies.reserveCapacity(isSpread ? 0 : plan.inputs.count)
    joinable.reserveCapacity(plan.inputs.count)
    var offset = 0
    for index in plan.inputs.indices {
      let run = (plan.inputs[index]?.shape[axis] ?? 0) * inner
      if run == 0 { continue }
      defer { offset += run }
      if let part = Concat.part(run, at: offset, of: length, outer: outer, width: width, in: plan) {
        let join = Step.Join(input: index, byteOffset: part.byteOffset, rows: part.rows)
        if plan.isJoined(index) {
          joins.append(join)
          continue
        }
        joinable.append(join)
      }
      if isSpread {
        loops.append(
          MovementLoops(
            input: index, width: width, extents: [outer, run], sourceStrides: [run, 1], targetStrides: [length, 1],
            targetOffset: offset))
      } else {
        copies.append(
          try MovementCopy(
            from: .input(index), width: width, .runs(outer, of: run, width: width, to: length), targetOffset: offset))
      }
    }
    let copied = copies.count + loops.count
    let name = joins.isEmpty ? "concat" : "concat of \(copied) beside \(joins.count)"
    var step = isSpread ? try Step.copying(loops, in: plan, name: name) : Step.copying(copies, name: name)
    if copied == 0 { (step.phases, step.spread) = ([], plan.spread) }
    step.share { ($0.joinable, $0.joins) = (joinable, joins) }
    step.unreadInputs = joins.map(\.input)
    return step
  }

  /// Where an input of `outer` runs lies in the output: its first byte, and its rows if it is not one run; nil if the
  /// rows of the output cut it otherwise.
  private static func part(
    _ run: Int, at offset: Int, of length: Int, outer: Int, width: Int, in plan: PlanContext
  ) -> (byteOffset: Int, rows: Rows?)? {
    guard let rows = plan.rows(output: 0), rows.length != length else {
      let distance = plan.rows(output: 0)?.distance ?? length
      return (offset * width, outer == 1 ? nil : Rows(length: run, distance: distance))
    }
    guard outer == 1, run % rows.length == 0, offset % rows.length == 0 else { return nil }
    let isOne = run == rows.length
    return (offset / rows.length * rows.distance * width, isOne ? nil : rows)
  }
}
