// SequenceConstruct, SequenceEmpty: new sequences. https://onnx.ai/onnx/operators/onnx__SequenceConstruct.html
// Versions: 11.

import ApusGraph
import ApusTensor

struct SequenceConstruct: OperatorDefinition {
  let schema = OperatorSchema(
    "SequenceConstruct", versions: [11],
    inputs: [.variadic("inputs", "T")],
    outputs: [.required("output_sequence", "S")],
    types: ["T": .all, "S": TypeSet.all.inSequences])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    var element = context.inputs.first.flatMap { $0 } ?? .unknown
    for (index, fact) in context.inputs.enumerated() {
      guard let fact, fact.hasSameType(as: element) else {
        throw .mismatch(
          "input \(index) is \(context.inputs[index] ?? .unknown); expected the type of input 0, \(element)")
      }
      element = element.common(with: fact)
    }
    context.set(0, .sequence(element))
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .eager { (inputs, context) throws(OperatorError) in
      let type = try inputs.tensor(0).dataType
      for index in inputs.indices where try inputs.tensor(index).dataType != type {
        throw .mismatch("input \(index) is \(try inputs.tensor(index).dataType); expected \(type), as input 0")
      }
      return [.sequence(inputs.compactMap { $0 }, elementType: .tensor(type, nil))]
    }
  }
}

struct SequenceEmpty: OperatorDefinition {
  let schema = OperatorSchema(
    "SequenceEmpty", versions: [11],
    outputs: [.required("output", "S")],
    attributes: [.int("dtype", default: Int(DataType.float32.rawValue))],
    types: ["S": TypeSet.all.inSequences])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, .sequence(.tensor(try SequenceEmpty.type(context), nil)))
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try SequenceEmpty.type(context)
    return .eager { (_, _) throws(OperatorError) in [.sequence([], elementType: .tensor(type, nil))] }
  }

  private static func type(_ context: some OperatorContext) throws(OperatorError) -> DataType {
    let code = try context.int("dtype")
    guard let type = DataType(rawValue: Int32(clamping: code)) else {
      throw .invalid("dtype is \(code), which is no element type")
    }
    return type
  }
}
