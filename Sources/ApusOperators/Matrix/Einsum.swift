// Einsum: sums of products by the summation convention of Einstein. https://onnx.ai/onnx/operators/onnx__Einsum.html
// Versions: 12, 28 (bfloat16). Letters, repeated letters (diagonals), ellipses and an implicit result.

import ApusGraph
import ApusTensor

package struct Einsum: OperatorDefinition {
  package let schema = OperatorSchema(
    "Einsum", versions: [12, 28],
    inputs: [.variadic("Inputs", "T")],
    outputs: [.required("Output", "T")],
    attributes: [.required("equation", .string)],
    types: ["T": .numeric], portable: .moreTypes, multiplyAdds: { Einsum.products($0) })

  package init() {}

  /// One multiply-add for each choice of an index for every label; none where nothing is multiplied.
  private static func products(_ facts: NodeFacts) -> Dim {
    let shapes = facts.node.inputs.indices.map { facts.shape($0) ?? [.unknown] }
    guard shapes.count > 1 else { return 0 }
    guard let text = facts.optionalString("equation"),
      let equation = try? EinsumEquation(text, ranks: shapes.map(\.count))
    else { return .unknown }
    var extents: [EinsumEquation.Label: Dim] = [:]
    for (label, dim) in zip(equation.terms.joined(), shapes.joined()) {
      extents[label] = Dim.broadcast(extents[label] ?? 1, dim)
    }
    return extents.sorted { $0.key < $1.key }.map(\.value).product
  }

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let type = context.type(0)
    for (index, fact) in context.inputs.enumerated() {
      guard fact != nil else { throw .invalid("input \(index) is missing") }
      if let type, let other = context.type(index), other != type {
        throw .mismatch("inputs 0 and \(index) must have the same type; found \(type) and \(other)")
      }
    }
    let text = try context.string("equation")
    let ranks = context.inputs.indices.map { context.rank($0) }
    if text.contains(".") && ranks.contains(nil) { return context.set(0, context.type(0), nil) }
    let equation = try EinsumEquation(text, ranks: ranks)
    var extents: [EinsumEquation.Label: Dim] = [:]
    for (index, term) in equation.terms.enumerated() {
      for (axis, label) in term.enumerated() {
        let dim = context.shape(index)?[axis] ?? .unknown
        let known = extents[label] ?? 1
        if let a = known.known, let b = dim.known, a != b, a != 1, b != 1 {
          throw .mismatch("axis \(axis) of input \(index) has the extent \(b); the equation '\(text)' needs \(a)")
        }
        extents[label] = Dim.broadcast(known, dim)
      }
    }
    context.set(0, context.type(0), equation.output.map { extents[$0] ?? .unknown })
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let text = try context.string("equation")
    switch try context.type(0) {
    case .float16, .bfloat16:
      return try StagedKernel.prepare(context) { (_) throws(OperatorError) in try Einsum.chosen(text, .float32) }
    case let type: return try Einsum.chosen(text, type)
    }
  }

  private static func chosen(_ text: String, _ type: DataType) throws(OperatorError) -> PreparedKernel {
    try ElementCandidate.choose(
      .einsum, type: type,
      [.plain { kernel(text, usesPanels: false) }, .vectors("panels") { kernel(text, usesPanels: true) }])
  }

  private static func kernel(_ text: String, usesPanels: Bool) -> PreparedKernel {
    .planned { (plan) throws(OperatorError) in
      let shapes = plan.inputs.map { $0?.shape ?? [] }
      return try EinsumPlan.step(
        EinsumEquation(text, ranks: shapes.map(\.rank)), shapes: shapes, type: plan.inputs[0]?.dataType ?? .float32,
        usesPanels: usesPanels)
    }
  }
}
