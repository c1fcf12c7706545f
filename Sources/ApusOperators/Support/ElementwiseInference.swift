// Shapes, small known values and old versions: what the inference of element-by-element operators has in common.

import ApusGraph
import ApusTensor

extension InferenceContext {
  /// The element-wise function of the known integer values of `positions`, broadcast to `output`. nil unless all those
  /// inputs are of type int32, int64 or bool and their values are known, as numbers or symbols.
  func elementwiseValues(
    _ positions: [Int], output: [Dim]?, _ function: (_ operands: [Dim]) -> Dim
  ) -> [Dim]? {
    guard let shape = output?.concrete, let count = shape.checkedElementCount, count <= TensorFact.maximumValues else {
      return nil
    }
    var operands: [(values: [Dim], strides: [Int])] = []
    for position in positions {
      guard let type = type(position), [.int32, .int64, .bool].contains(type), let values = values(position),
        let own = self.shape(position)?.concrete, own.elementCount == values.count
      else { return nil }
      operands.append((values, Broadcast.strides(of: own, in: shape)))
    }
    let outputStrides = shape.strides
    return (0..<count).map { index in
      function(
        operands.map { operand in
          var offset = 0
          for axis in 0..<shape.rank { offset += index / outputStrides[axis] % shape[axis] * operand.strides[axis] }
          return operand.values[offset]
        })
    }
  }

  /// Values that do not fit the element type are not known: the operator wraps them.
  func fitting(_ values: [Dim]?, _ type: DataType?) -> [Dim]? {
    guard type == .int32 else { return values }
    return values?.map { $0.known.map { Int32(exactly: $0) == nil } ?? false ? .unknown : $0 }
  }
}

extension Node {
  /// Takes out what the first versions had for memory reuse and inference-only runs.
  mutating func removeLegacyHints() {
    _ = attributes.remove("consumed_inputs")
    _ = attributes.remove("is_test")
  }

  /// Versions before 7: input 1 broadcasts only if `broadcast` is 1, from `axis` on. Gives it the trailing axes of
  /// extent 1 that today's rule needs.
  mutating func upgradeLegacyBroadcast(in builder: GraphBuilder) throws(OperatorError) {
    removeLegacyHints()
    let broadcasts = attributes.remove("broadcast")
    let axis = attributes.remove("axis")
    guard case .int(1)? = broadcasts, case .int(let first)? = axis, inputs.count > 1, let a = inputs[0],
      let b = inputs[1]
    else { return }
    guard first.magnitude <= UInt(WindowAttributes.limit) else {
      throw .mismatch("axis is \(first); expected that of an axis of A")
    }
    guard let rankA = builder.shape(a)?.count, let rankB = builder.shape(b)?.count else {
      inputs[1] = try builder.appendUnitAxes(to: b, alignedWith: a, from: first, nodeName: name)
      return
    }
    // A scalar may stand behind the last axis.
    let start = first == rankA && rankB == 0 ? first : try resolveAxis(first, rank: max(rankA, 1))
    let trailing = rankA - start - rankB
    if trailing <= 0 { return }
    inputs[1] = try builder.appendUnitAxes(trailing, to: b, rank: rankB, nodeName: name)
  }
}

extension GraphBuilder {
  /// The value with `count` more axes of extent 1 at its end.
  func appendUnitAxes(
    _ count: Int, to value: ValueID, rank: Int, nodeName: String
  ) throws(OperatorError) -> ValueID {
    if let tensor = constant(value) {
      return addConstant(tensor.reshaped(to: Shape(tensor.shape.dims + [Int](repeating: 1, count: count))))
    }
    let axes = addConstant(Tensor((rank..<rank + count).map { Int64($0) }))
    return try apply(OperatorID("Unsqueeze"), name: nodeName + "/unsqueeze", [value, axes])
  }

  /// The value with as many more axes of extent 1 at its end as bring its first axis under `axis` of `other`, where the
  /// ranks are known only when the model runs.
  func appendUnitAxes(
    to value: ValueID, alignedWith other: ValueID, from axis: Int, nodeName: String
  ) throws(OperatorError) -> ValueID {
    var count = 0
    func add(
      _ op: String, _ inputs: [ValueID], _ attributes: [(String, AttributeValue)] = []
    ) throws(OperatorError) -> ValueID {
      count += 1
      return try apply(OperatorID(op), name: "\(nodeName)/axes\(count)", inputs, attributes)
    }
    let shape = try add("Shape", [value])
    // The number of axes behind the one that the value begins at.
    var behind = addConstant(Tensor([-axis]))
    if axis >= 0 { behind = try add("Add", [add("Shape", [add("Shape", [other])]), behind]) }
    let missing = try add("Max", [add("Sub", [behind, add("Shape", [shape])]), addConstant(Tensor([0]))])
    let ones = try add("ConstantOfShape", [missing], [("value", .tensor(Tensor([1])))])
    let target = try add("Concat", [shape, ones], [("axis", .int(0))])
    return try add("Reshape", [value, target], [("allowzero", .int(1))])
  }
}

/// What binary operators with broadcasting infer: the type of `input` or `type`, and the shape both inputs broadcast
/// to.
func inferBroadcast(
  _ context: inout InferenceContext, _ positions: [Int], type: DataType? = nil,
  valuesBy function: (([Dim]) -> Dim)? = nil
) throws(OperatorError) {
  let shape = try context.broadcastShape(positions)
  let output = type ?? positions.lazy.compactMap { [context] in context.type($0) }.first
  let values = function.flatMap { context.elementwiseValues(positions, output: shape, $0) }
  context.set(0, output, shape, values: context.fitting(values, output))
}
