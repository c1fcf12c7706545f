// GroupNormalization: groups of channels of one image less their mean, over their deviation; and InstanceNormalization,
// where a group is one channel. https://onnx.ai/onnx/operators/onnx__GroupNormalization.html
// Versions: 18 (scale and bias by group), 21 (by channel; stash_type).

import ApusGraph
import ApusTensor
import CApusKernels

package struct GroupNormalization: OperatorDefinition {
  package let schema = OperatorSchema(
    "GroupNormalization", versions: [18, 21],
    inputs: [.required("X", "T"), .required("scale", "T"), .required("bias", "T")], outputs: [.required("Y", "T")],
    attributes: [.float("epsilon", default: 1e-5), .required("num_groups", .int), .int("stash_type", default: 1)],
    types: ["T": .floats])

  package init() {}

  package func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    guard version == 18, let x = node.inputs.first ?? nil, node.inputs.count == 3 else { return }
    guard let groups = node.attributes.int("num_groups"), groups > 0 else {
      throw .invalid("attribute num_groups is missing or not positive")
    }
    // The parameter of a group is that of each of its channels.
    let name = node.name
    func add(
      _ op: String, _ inputs: [ValueID?], _ attributes: [(String, AttributeValue)] = []
    ) throws(OperatorError) -> ValueID {
      try builder.apply(OperatorID(op), name: "\(name)/\(op)", inputs, attributes)
    }
    let count = builder.addConstant(Tensor([Int64(groups)]))
    let column = builder.addConstant(Tensor([Int64(groups), 1]))
    let flat = builder.addConstant(Tensor([Int64(-1)]))
    let channels = try add("Shape", [x], [("start", .int(1)), ("end", .int(2))])
    let target = try add("Concat", [count, add("Div", [channels, count])], [("axis", .int(0))])
    for input in 1...2 {
      let byGroup = try add("Reshape", [node.inputs[input], column])
      node.inputs[input] = try add("Reshape", [add("Expand", [byGroup, target]), flat])
    }
  }

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let groups = try context.int("num_groups")
    guard groups > 0 else { throw .invalid("num_groups is \(groups); expected at least 1") }
    try checkStashType(context.int("stash_type"))
    try inferChannels(&context)
    if let channels = context.shape(0)?[1].known, channels % groups != 0 {
      throw .mismatch("\(channels) channels do not divide into \(groups) groups")
    }
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let groups = try context.int("num_groups")
    return try prepareGroups(context) { _ in groups }
  }
}

package struct InstanceNormalization: OperatorDefinition {
  // https://onnx.ai/onnx/operators/onnx__InstanceNormalization.html Versions: 1, 6 (no consumed_inputs), 22 (bfloat16).
  package let schema = OperatorSchema(
    "InstanceNormalization", versions: [1, 6, 22],
    inputs: [.required("input", "T"), .required("scale", "T"), .required("B", "T")],
    outputs: [.required("output", "T")],
    attributes: [.float("epsilon", default: 1e-5)], types: ["T": .floats], portable: .moreTypes)

  package init() {}

  package func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    _ = node.attributes.remove("consumed_inputs")
  }

  package func infer(_ context: inout InferenceContext) throws(OperatorError) { try inferChannels(&context) }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    try prepareGroups(context) { $0 }
  }
}

/// The output is as the input [batch, channels, ...]; scale and bias are [channels].
private func inferChannels(_ context: inout InferenceContext) throws(OperatorError) {
  context.copy()
  guard let shape = context.shape(0) else { return }
  guard shape.count >= 2 else { throw .mismatch("the input is \(shape.text); expected a batch and channels") }
  for input in 1...2 {
    guard let parameter = context.shape(input) else { continue }
    guard parameter.count == 1, !parameter[0].isSurelyDifferent(from: shape[1]) else {
      throw .mismatch("\(context.schema.inputs[input].name) is \(parameter.text); expected [\(shape[1])]")
    }
  }
}

/// `groups` gives the number of groups of so many channels.
private func prepareGroups(
  _ context: PrepareContext, groups: @escaping @Sendable (Int) -> Int
) throws(OperatorError) -> PreparedKernel {
  let epsilon = try context.float("epsilon")
  let kernels = VectorKernels.current
  return try prepareReal(
    context,
    float: { (_) throws(OperatorError) in
      try ElementCandidate.choose(
        .groupNormalization, type: .float32,
        [
          .plain { groupKernel(Float.self, groups, "plain") { normalizeRow($0, $1, $2, epsilon) } },
          .vectors("rows") {
            groupKernel(Float.self, groups, "layer_norm_f32") { x, y, length in
              kernels.table.pointee.layer_norm_f32(length, x, y, nil, nil, epsilon, nil)
            }
          },
        ])
    },
    double: { (_) throws(OperatorError) in
      groupKernel(Double.self, groups, "plain") { normalizeRow($0, $1, $2, epsilon) }
    })
}

private func normalizeRow<Element: Real>(
  _ x: UnsafePointer<Element>, _ y: UnsafeMutablePointer<Element>, _ length: Int, _ epsilon: Float
) {
  let moments = rowMoments(x, length)
  let factor = 1 / (moments.variance + Double(epsilon)).squareRoot()
  for index in 0..<length { y[index] = Element((Double(x[index]) - moments.mean) * factor) }
}

/// A part normalizes whole groups with `normalize`, then applies scale and bias channel by channel.
private func groupKernel<Element: Real>(
  _ type: Element.Type, _ groups: @escaping @Sendable (Int) -> Int, _ name: String,
  _ normalize:
    @escaping @Sendable (_ x: UnsafePointer<Element>, _ y: UnsafeMutablePointer<Element>, _ length: Int) -> Void
) -> PreparedKernel {
  .planned { plan in
    let shape = plan.shape(0)
    let (channels, inner) = (shape[1], shape.count(of: 2..<shape.rank))
    let groupCount = max(groups(channels), 1)
    let perGroup = channels / groupCount
    let length = perGroup * inner
    let rows = length == 0 ? 0 : shape[0] * groupCount
    let partition = Partition(rows, of: .medium * length)
    return Step.parallel(parts: partition.parts) { run, part in
      let (x, y) = (run.input(0, as: Element.self), run.output(0, as: Element.self))
      let (scale, bias) = (run.input(1, as: Element.self), run.input(2, as: Element.self))
      for row in partition.range(part) {
        normalize(x + row &* length, y + row &* length, length)
        let first = row % groupCount &* perGroup
        for channel in 0..<perGroup {
          let line = y + (row &* length &+ channel &* inner)
          let (factor, shift) = (scale[first &+ channel], bias[first &+ channel])
          for index in 0..<inner { line[index] = line[index] * factor + shift }
        }
      }
    }.named(name).overwriting(0)
  }
}
