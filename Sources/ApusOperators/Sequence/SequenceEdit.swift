// SequenceInsert, SequenceErase, SequenceAt, SequenceLength: positions in sequences.
// https://onnx.ai/onnx/operators/onnx__SequenceInsert.html Versions: 11.

import ApusGraph
import ApusTensor

private let sequences = TypeSet.all.inSequences

/// The element at an optional position input, counted from the end if negative, within `range` of non-negative
/// positions.
private func position(
  _ inputs: [Value?], _ index: Int, count: Int, upTo last: Int
) throws(OperatorError) -> Int? {
  guard let tensor = inputs.optionalTensor(index) else { return nil }
  let given = try tensor.singleInteger("the position")
  let position = given < 0 ? given + count : given
  guard position >= 0, position <= last else {
    throw .mismatch("the position is \(given); expected \(-count) to \(last) for a sequence of \(count) elements")
  }
  return position
}

extension InferenceContext {
  /// The fact of the elements of a sequence; unknown if it is not known.
  func element(_ input: Int) -> ValueFact {
    if input < inputs.count, case .sequence(let element)? = inputs[input] { return element }
    return .unknown
  }
}

struct SequenceInsert: OperatorDefinition {
  let schema = OperatorSchema(
    "SequenceInsert", versions: [11],
    inputs: [.required("input_sequence", "S"), .required("tensor", "T"), .optional("position", "I")],
    outputs: [.required("output_sequence", "S")],
    types: ["T": .all, "S": sequences, "I": .indices])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let (element, inserted) = (context.element(0), context.inputs[1] ?? .unknown)
    guard element.hasSameType(as: inserted) else {
      throw .mismatch("\(inserted) cannot be inserted into a sequence of \(element)")
    }
    context.set(0, .sequence(element == .unknown ? inserted.withoutShapes : element.common(with: inserted)))
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .eager { (inputs, context) throws(OperatorError) in
      var (elements, type) = try inputs.sequence(0)
      let tensor = try inputs.tensor(1)
      if case .tensor(let expected, _) = type, expected != tensor.dataType {
        throw .mismatch("\(tensor.dataType) cannot be inserted into a sequence of \(expected)")
      }
      let position = try position(inputs, 2, count: elements.count, upTo: elements.count) ?? elements.count
      elements.insert(.tensor(tensor), at: position)
      return [.sequence(elements, elementType: type.withoutShapes)]
    }
  }
}

struct SequenceErase: OperatorDefinition {
  let schema = OperatorSchema(
    "SequenceErase", versions: [11],
    inputs: [.required("input_sequence", "S"), .optional("position", "I")],
    outputs: [.required("output_sequence", "S")],
    types: ["S": sequences, "I": .indices])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, .sequence(context.element(0)))
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .eager { (inputs, context) throws(OperatorError) in
      var (elements, type) = try inputs.sequence(0)
      guard !elements.isEmpty else { throw .mismatch("the sequence is empty; there is nothing to erase") }
      elements.remove(
        at: try position(inputs, 1, count: elements.count, upTo: elements.count - 1) ?? elements.count - 1)
      return [.sequence(elements, elementType: type)]
    }
  }
}

struct SequenceAt: OperatorDefinition {
  let schema = OperatorSchema(
    "SequenceAt", versions: [11],
    inputs: [.required("input_sequence", "S"), .required("position", "I")],
    outputs: [.required("tensor", "T")],
    types: ["S": sequences, "T": .all, "I": .indices])

  func infer(_ context: inout InferenceContext) throws(OperatorError) { context.set(0, context.element(0)) }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .eager { (inputs, context) throws(OperatorError) in
      let elements = try inputs.sequence(0).elements
      guard let position = try position(inputs, 1, count: elements.count, upTo: elements.count - 1) else {
        throw .mismatch("the position is missing")
      }
      return [elements[position]]
    }
  }
}

struct SequenceLength: OperatorDefinition {
  let schema = OperatorSchema(
    "SequenceLength", versions: [11],
    inputs: [.required("input_sequence", "S")],
    outputs: [.required("length", "I")],
    types: ["S": sequences, "I": .int64])

  func infer(_ context: inout InferenceContext) throws(OperatorError) { context.set(0, .int64, []) }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .eager { (inputs, context) throws(OperatorError) in
      [.tensor(Tensor(scalar: try inputs.sequence(0).elements.count))]
    }
  }
}
