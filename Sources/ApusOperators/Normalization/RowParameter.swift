// Scale and bias of normalizations: any tensor that broadcasts to the input, brought into rows.

import ApusGraph
import ApusTensor

/// A parameter as the rows of an input see it.
struct RowParameter: Sendable {
  /// Elements from the parameter's part for one row to that for the next: 0 if all rows share one.
  let rowStride: Int
  let place: StepSequence.Operand

  /// Input `index` of the node, repeated where needed by a step that is appended to `sequence`. Rows are the axes of
  /// `shape` from `axis` on. nil if the input is absent.
  init?(
    _ context: PlanContext, _ index: Int, shape: Shape, axis: Int, width: Int, in sequence: inout StepSequence
  ) throws(OperatorError) {
    guard context.isPresent(index) else { return nil }
    let own = context.shape(index)
    guard own.rank <= shape.rank else {
      throw .mismatch("input \(index) is \(own), which does not broadcast to \(shape)")
    }
    let extents = [Int](repeating: 1, count: shape.rank - own.rank) + own.dims
    for (extent, target) in zip(extents, shape) where extent != 1 && extent != target {
      throw .mismatch("input \(index) is \(own), which does not broadcast to \(shape)")
    }
    let isShared = extents[..<axis].allSatisfy { $0 == 1 }
    rowStride = isShared ? 0 : shape.count(of: axis..<shape.rank)
    if isShared && Array(extents[axis...]) == Array(shape.dims[axis...]) {
      place = .input(index)
      return
    }
    let target = Shape(isShared ? Array(shape.dims[axis...]) : shape.dims)
    if target.contains(0) {
      // Nothing is read.
      place = .input(index)
      return
    }
    let dropped = isShared ? axis : 0
    let strides = Shape(extents).strides.enumerated().map { extents[$0.offset] == 1 ? 0 : $0.element }
    let copy = try MovementCopy(
      from: .input(0), width: width, extents: target.dims, sourceStrides: Array(strides[dropped...]),
      targetStrides: target.strides)
    place = sequence.reserve(bytes: target.elementCount * width)
    let partition = copy.partition
    let step = Step.parallel(parts: copy.count == 0 ? 0 : partition.parts) { run, part in
      copy.run(from: run.inputBytes(0), to: run.outputBytes(), partition.range(part))
    }
    sequence.append(step, inputs: [.input(index)], outputs: [place])
  }
}

/// Shape inference of a normalization whose parameters broadcast to the input.
func checkBroadcast(_ context: borrowing InferenceContext, parameters: [Int]) throws(OperatorError) {
  guard let shape = context.shape(0) else { return }
  for input in parameters {
    guard let parameter = context.shape(input) else { continue }
    let fits =
      parameter.count <= shape.count
      && zip(parameter.reversed(), shape.reversed()).allSatisfy { $0.known == 1 || !$0.isSurelyDifferent(from: $1) }
    if !fits {
      throw .mismatch(
        "\(context.schema.inputs[input].name) is \(parameter.text), which does not broadcast to \(shape.text)")
    }
  }
}
