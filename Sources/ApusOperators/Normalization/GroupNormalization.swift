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
    types: ["T": .floats], traits: .isSensitive)

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
    attributes: [.float("epsilon", default: 1e-5)], types: ["T": .floats], traits: .isSensitive,
    portable: .moreTypes, axes: AxisRules.planesWithParameters)

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
          .plain { groupKernel(Float.self, groups, "plain") { plainGroup($0, $1, $2, $3, $4, $5, epsilon) } },
          .vectors("rows") {
            groupKernel(Float.self, groups, "affine_f32") { fastGroup(kernels, $0, $1, $2, $3, $4, $5, epsilon) }
          },
        ])
    },
    double: { (_) throws(OperatorError) in
      groupKernel(Double.self, groups, "plain") { plainGroup($0, $1, $2, $3, $4, $5, epsilon) }
    })
}

/// Normalizes one group of `channels` channels of `inner` elements.
private typealias GroupFunction<Element> =
  @Sendable (
    _ x: UnsafePointer<Element>, _ y: UnsafeMutablePointer<Element>, _ scale: UnsafePointer<Element>,
    _ bias: UnsafePointer<Element>, _ channels: Int, _ inner: Int
  ) -> Void

private func plainGroup<Element: Real>(
  _ x: UnsafePointer<Element>, _ y: UnsafeMutablePointer<Element>, _ scale: UnsafePointer<Element>,
  _ bias: UnsafePointer<Element>, _ channels: Int, _ inner: Int, _ epsilon: Float
) {
  let moments = rowMoments(x, channels &* inner)
  let factor = 1 / (moments.variance + Double(epsilon)).squareRoot()
  for channel in 0..<channels {
    let (scale, shift) = (scale[channel], bias[channel])
    for index in channel &* inner..<(channel &+ 1) &* inner {
      y[index] = Element((Double(x[index]) - moments.mean) * factor) * scale + shift
    }
  }
}

private func fastGroup(
  _ kernels: VectorKernels, _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>,
  _ scale: UnsafePointer<Float>, _ bias: UnsafePointer<Float>, _ channels: Int, _ inner: Int, _ epsilon: Float
) {
  let table = kernels.table
  withUnsafeTemporaryAllocation(of: Float.self, capacity: 2) { moments in
    guard let moments = moments.baseAddress else { return }
    table.pointee.moments_f32(channels &* inner, x, moments)
    let deviation = (moments[1] + epsilon).squareRoot()
    for channel in 0..<channels {
      var factor = scale[channel] / deviation
      table.pointee.affine_f32(
        inner, x + channel &* inner, y + channel &* inner, moments, &factor, bias + channel, false)
    }
  }
}

/// `groups` gives the number of groups of so many channels; a part normalizes whole groups.
private func groupKernel<Element: Real>(
  _ type: Element.Type, _ groups: @escaping @Sendable (Int) -> Int, _ name: String,
  _ normalize: @escaping GroupFunction<Element>
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
        let first = row % groupCount &* perGroup
        normalize(x + row &* length, y + row &* length, scale + first, bias + first, perGroup, inner)
      }
    }.named(name).overwriting(0)
  }
}
