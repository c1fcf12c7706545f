// Reshape: the same elements under another shape. https://onnx.ai/onnx/operators/onnx__Reshape.html
// Versions: 1 (shape as attribute), 5 (shape as input), 13, 14 (allowzero), 19, 21, 23, 24, 25 (more types).

import ApusGraph
import ApusTensor

struct Reshape: OperatorDefinition {
  let schema = OperatorSchema(
    "Reshape", versions: [1, 5, 13, 14, 19, 21, 23, 24, 25],
    inputs: [.required("data", "T"), .required("shape", "tensor(int64)", readWhenPlanning: true)],
    outputs: [.required("reshaped", "T")],
    attributes: [.int("allowzero", default: 0)],
    types: ["T": .stored, "tensor(int64)": .int64],
    traits: .rearranges, identity: .sameShape, layout: .reshaping, portable: .moreTypes,
    axes: AxisRules.reshape)

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    guard version == 1 else { return }
    _ = node.attributes.remove("consumed_inputs")
    guard case .ints(let shape)? = node.attributes.remove("shape") else {
      throw .invalid("attribute shape (ints) is missing")
    }
    node.inputs.append(builder.addConstant(Tensor(shape)))
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    guard let target = context.values(1) else {
      let rank = context.shape(1)?.first?.known
      return context.set(0, context.type(0), .unknown(rank: rank))
    }
    let allowZero = try context.bool("allowzero")
    let source = context.shape(0)
    var shape: [Dim] = []
    var inferred: Int?
    for (axis, dim) in target.enumerated() {
      if dim.known == 0, !allowZero {
        guard axis < source?.count ?? Int.max else {
          throw .mismatch("shape[\(axis)] is 0 (copy the input's extent), but the input has rank \(source?.count ?? 0)")
        }
        shape.append(source?[axis] ?? .unknown)
      } else if dim.known == -1 {
        guard inferred == nil else { throw .mismatch("shape has more than one -1: \(target)") }
        inferred = axis
        shape.append(1)
      } else if let value = dim.known, value < 0 {
        throw .mismatch("shape[\(axis)] is \(value); expected -1, 0 or an extent")
      } else {
        shape.append(dim)
      }
    }
    if let source {
      let total = source.reduce(Dim(1), *)
      let rest = shape.reduce(Dim(1), *)
      if let inferred {
        shape[inferred] = total.dividedRoundingDown(by: rest)
        if let count = total.known, let part = rest.known, part == 0 ? count != 0 : count % part != 0 {
          let wanted = shape.enumerated().map { $0.offset == inferred ? "-1" : $0.element.description }
          let text = wanted.joined(separator: ", ")
          throw .mismatch("\(count) elements of shape \(source) do not fill the shape [\(text)]")
        }
        // 0 elements over extents whose product is 0: the specification leaves -1 open; NumPy refuses, and so do we.
        if rest.known == 0 { throw .mismatch("-1 in the shape \(target) cannot be found for an empty tensor") }
      } else if total.isSurelyDifferent(from: rest) {
        throw .mismatch("\(total) elements of shape \(source) do not fill the shape \(shape)")
      }
    } else if let inferred {
      shape[inferred] = .unknown
    }
    context.set(0, context.type(0), shape)
    context.keepValues()
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .view
  }
}
