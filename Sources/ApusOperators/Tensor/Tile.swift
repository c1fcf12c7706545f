// Tile: a tensor repeated along its axes. https://onnx.ai/onnx/operators/onnx__Tile.html
// Versions: 1 (tiles along one axis), 6 (repeats of every axis), 13 (bfloat16).

import ApusGraph
import ApusTensor

struct Tile: OperatorDefinition {
  let schema = OperatorSchema(
    "Tile", versions: [1, 6, 13],
    inputs: [.required("input", "T"), .required("repeats", "T1", readWhenPlanning: true)],
    outputs: [.required("output", "T")],
    types: ["T": .basic, "T1": .int64], traits: .rearranges)

  /// Version 1 has one number of tiles and one axis, both of the type of the data: they become ones of the length of
  /// the rank with the number of tiles at the axis.
  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    guard version == 1 else { return }
    guard node.inputs.count == 3, let input = node.inputs[0], let tiles = node.inputs[1], let axis = node.inputs[2]
    else {
      throw .invalid("version 1 needs the inputs input, tiles and axis")
    }
    let one = builder.addConstant(Tensor([1]))
    let name = node.name
    func add(
      _ op: String, _ part: String, _ inputs: [ValueID?], _ attributes: [(String, AttributeValue)] = []
    ) throws(OperatorError) -> ValueID {
      try builder.apply(OperatorID(op), name: "\(name)/\(part)", inputs, attributes)
    }
    func scalar(_ value: ValueID, _ part: String) throws(OperatorError) -> ValueID {
      try add("Reshape", part, [add("Cast", part, [value], [("to", .int(Int(DataType.int64.rawValue)))]), one])
    }
    let rank = try add("Shape", "rank", [add("Shape", "shape", [input])])
    let ones = try add("ConstantOfShape", "ones", [rank], [("value", .tensor(Tensor([1])))])
    let repeats = try add("ScatterElements", "repeats", [ones, scalar(axis, "axis"), scalar(tiles, "tiles")])
    node.inputs = [input, repeats]
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    guard let shape = context.shape(0) else {
      return context.set(0, context.type(0), .unknown(rank: context.length(1)))
    }
    if let count = context.length(1), count != shape.count {
      throw .mismatch("\(count) repeats for the \(shape.count) axes of the shape \(shape.text)")
    }
    guard let repeats = context.values(1) else { return context.set(0, context.type(0), .unknown(rank: shape.count)) }
    if let negative = repeats.first(where: { $0.known.map { $0 < 0 } ?? false }) {
      throw .mismatch("repeats \(repeats.text) has the negative number \(negative)")
    }
    guard repeats.count == shape.count else { throw .mismatch("\(repeats.count) repeats for \(shape.count) axes") }
    context.set(0, context.type(0), zip(shape, repeats).map { $0 * $1 })
    context.moveValues(of: self)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .moving { plan throws(OperatorError) in
      guard let input = plan.inputs[0], let repeats = plan.integers(1) else {
        throw .invalid("input or repeats is missing")
      }
      let output = plan.outputShape(0)
      let (strides, targets) = (input.shape.strides, output.strides)
      var extents: [Int] = []
      var sourceStrides: [Int] = []
      var targetStrides: [Int] = []
      for axis in input.shape.indices {
        extents += [repeats[axis], input.shape[axis]]
        sourceStrides += [0, strides[axis]]
        targetStrides += [targets[axis] * input.shape[axis], targets[axis]]
      }
      let copy = try MovementCopy(
        from: .input(0), width: input.dataType.byteWidth, extents: extents, sourceStrides: sourceStrides,
        targetStrides: targetStrides)
      return .copyingOrViewing(copy, name: "tile")
    }
  }
}
