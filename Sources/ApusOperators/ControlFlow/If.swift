// If: one of two graphs, by a condition. https://onnx.ai/onnx/operators/onnx__If.html
// Versions: 1, 11, 13 (sequences), 16 (optionals), 19, 21, 23, 24, 25 (more types).

import ApusGraph
import ApusTensor

struct If: OperatorDefinition {
  let schema = OperatorSchema(
    "If", versions: [1, 11, 13, 16, 19, 21, 23, 24, 25],
    inputs: [.required("cond", "B")],
    outputs: [.variadic("outputs", "V")],
    attributes: [.required("then_branch", .graph), .required("else_branch", .graph)],
    types: ["B": .bool, "V": .anyValue], portable: .moreTypes)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let then = try context.infer(subgraph: "then_branch", [])
    let otherwise = try context.infer(subgraph: "else_branch", [])
    guard then.count == otherwise.count, then.count >= context.outputs.count else {
      throw .invalid(
        "the branches have \(then.count) and \(otherwise.count) outputs; expected \(context.outputs.count)")
    }
    let condition = context.constant(0)?.integers?.first
    for output in context.outputs.indices {
      if let condition {
        context.set(output, condition != 0 ? then[output] : otherwise[output])
      } else {
        context.set(output, then[output].common(with: otherwise[output]))
      }
    }
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .eager { (inputs, context) throws(OperatorError) in
      let condition = try inputs.tensor(0).singleInteger("the condition")
      let outputs = try context.run(subgraph: condition != 0 ? "then_branch" : "else_branch", inputs: [])
      return outputs.map { $0 }
    }
  }
}
