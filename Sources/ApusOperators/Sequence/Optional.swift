// Optional, OptionalHasElement, OptionalGetElement. https://onnx.ai/onnx/operators/onnx__Optional.html
// Versions: 15, 18 (values that are no optionals, or no value at all), 28 (more types).

import ApusGraph
import ApusTensor

private let values = TypeSet.all + TypeSet.all.inSequences
private let optionals = TypeSet.all.inOptionals

struct OptionalOperator: OperatorDefinition {
  let schema = OperatorSchema(
    "Optional", versions: [15, 28],
    inputs: [.optional("input", "V")],
    outputs: [.required("output", "O")],
    attributes: [.optional("type", .type)],
    types: ["V": values, "O": optionals], portable: .moreTypes)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let declared = context.node.attributes.type("type")
    if context.isPresent(0) {
      let fact = context.inputs[0] ?? .unknown
      if let declared, !declared.hasSameType(as: fact) {
        throw .mismatch("the input is \(fact); the attribute type says \(declared)")
      }
      context.set(0, .optional(fact.common(with: fact)))
    } else {
      guard let declared else { throw .invalid("an Optional without input needs the attribute type") }
      context.set(0, .optional(declared.withoutShapes))
    }
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let declared = context.node.attributes.type("type")?.withoutShapes.type
    return .eager { (inputs, _) throws(OperatorError) in
      let value = inputs.first.flatMap { $0 }
      guard let type = value?.type.withoutShapes ?? declared else {
        throw .invalid("the type of the optional is not known")
      }
      return [.optional(value, elementType: type)]
    }
  }
}

struct OptionalHasElement: OperatorDefinition {
  let schema = OperatorSchema(
    "OptionalHasElement", versions: [15, 18, 28],
    inputs: [.optional("input", "O")],
    outputs: [.required("output", "B")],
    types: ["O": values + optionals, "B": .bool], portable: .moreTypes)

  func infer(_ context: inout InferenceContext) throws(OperatorError) { context.set(0, .bool, []) }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .eager { (inputs, _) throws(OperatorError) in
      let isFull =
        switch inputs.first.flatMap({ $0 }) {
        case nil, .optional(nil, _): false
        default: true
        }
      return [.tensor(Tensor(scalar: isFull))]
    }
  }
}

struct OptionalGetElement: OperatorDefinition {
  let schema = OperatorSchema(
    "OptionalGetElement", versions: [15, 18, 28],
    inputs: [.required("input", "O")],
    outputs: [.required("output", "V")],
    types: ["O": values + optionals, "V": values], portable: .moreTypes)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    if case .optional(let element)? = context.inputs[0] {
      context.set(0, element)
    } else if let fact = context.inputs[0] {
      context.set(0, fact)
    }
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .eager { (inputs, _) throws(OperatorError) in
      guard case .optional(let content, _)? = inputs[0] else { return [inputs[0]] }
      guard let content else { throw .mismatch("the optional is empty; it has no element to get") }
      return [content]
    }
  }
}
