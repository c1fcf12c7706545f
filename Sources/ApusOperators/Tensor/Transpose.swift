// Transpose: the axes in another order. https://onnx.ai/onnx/operators/onnx__Transpose.html
// Versions: 1, 13 (bfloat16), 21, 23, 24, 25 (more types).

import ApusGraph
import ApusTensor

struct Transpose: OperatorDefinition {
  let schema = OperatorSchema(
    "Transpose", versions: [1, 13, 21, 23, 24, 25],
    inputs: [.required("data", "T")], outputs: [.required("transposed", "T")],
    attributes: [.optional("perm", .ints)], types: ["T": .stored], traits: .rearranges,
    identity: .when { $0.optionalInts("perm").map { $0 == Array($0.indices) } ?? false }, portable: .moreTypes,
    axes: AxisRules.transpose)

  /// The permutation, checked; the axes reversed if the attribute is absent.
  private static func permutation(_ given: [Int]?, rank: Int) throws(OperatorError) -> [Int] {
    guard let given else { return (0..<rank).reversed() }
    var axes: [Int] = []
    for axis in given { axes.append(try resolveAxis(axis, rank: rank, name: "perm")) }
    guard axes.sorted() == Array(0..<rank) else {
      throw .mismatch("perm \(given) is no permutation of the axes 0 to \(rank - 1)")
    }
    return axes
  }

  /// Over the elements of the result, in order.
  private static func loops(_ axes: [Int], of shape: Shape, width: Int) -> MovementCopy.LoopNest {
    var loops = MovementCopy.LoopNest()
    var target = width &* shape.elementCount
    for axis in axes {
      target /= max(shape[axis], 1)
      loops.append(
        MovementCopy.Axis(
          count: shape[axis], source: width &* shape.count(of: axis + 1..<shape.rank), target: target))
    }
    return loops
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let perm = context.optionalInts("perm")
    guard let shape = context.shape(0) else {
      return context.set(0, context.type(0), .unknown(rank: perm?.count))
    }
    let axes = try Transpose.permutation(perm, rank: shape.count)
    context.set(0, context.type(0), axes.map { shape[$0] })
    context.moveValues(of: self)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let perm = context.optionalInts("perm")
    let known = try context.rank(0).map { (rank) throws(OperatorError) in try Transpose.permutation(perm, rank: rank) }
    return .moving(takingRows: true) { plan throws(OperatorError) in
      guard let type = plan.inputs[0]?.dataType else { throw .invalid("input 0 is missing") }
      let axes = if let known { known } else { try Transpose.permutation(perm, rank: plan.shape(0).rank) }
      if plan.spread.isEmpty {
        let copy = try MovementCopy(
          from: .input(0), width: type.byteWidth, Transpose.loops(axes, of: plan.shape(0), width: type.byteWidth))
        return .copyingOrViewing(copy, name: "transpose")
      }
      let strides = plan.shape(0).strides
      let loops = MovementLoops(
        input: 0, width: type.byteWidth, extents: plan.outputShape(0).dims, sourceStrides: axes.map { strides[$0] },
        targetStrides: plan.outputShape(0).strides)
      return try .copying([loops], in: plan, name: "transpose")
    }
  }
}
