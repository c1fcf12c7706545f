// SequenceMap: a graph applied to every element of a sequence. https://onnx.ai/onnx/operators/onnx__SequenceMap.html
// Versions: 17.

import ApusGraph
import ApusTensor

struct SequenceMap: OperatorDefinition {
  let schema = OperatorSchema(
    "SequenceMap", versions: [17],
    inputs: [.required("input_sequence", "S"), .variadic("additional_inputs", "V")],
    outputs: [.variadic("out_sequence", "S")],
    attributes: [.required("body", .graph)],
    types: ["S": TypeSet.all.inSequences, "V": TypeSet.all + TypeSet.all.inSequences])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let elements = context.inputs.map { fact -> ValueFact in
      if case .sequence(let element)? = fact { element.common(with: element) } else { fact ?? .unknown }
    }
    let results = try context.infer(subgraph: "body", elements)
    guard results.count >= context.outputs.count else {
      throw .invalid("the body has \(results.count) outputs; the node has \(context.outputs.count)")
    }
    for index in context.outputs.indices {
      context.set(index, .sequence(results[index].common(with: results[index])))
    }
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let body = try context.subgraph("body")
    let types = body.outputs.map { body.fact($0).withoutShapes.type }
    return .eager { (inputs, context) throws(OperatorError) in
      let count = try inputs.sequence(0).elements.count
      for (index, input) in inputs.enumerated() {
        if let length = input?.sequence?.count, length != count {
          throw .mismatch("the sequence at input \(index) has \(length) elements; expected \(count), as input 0")
        }
      }
      var results = [[Value]](repeating: [], count: types.count)
      for position in 0..<count {
        try context.check(allocating: 0)
        let elements = inputs.compactMap { $0?.sequence?[position] ?? $0 }
        for (index, value) in try context.run(subgraph: "body", inputs: elements).enumerated() {
          results[index].append(value)
        }
      }
      return zip(results, types).map { values, type in
        .sequence(values, elementType: type ?? values.first?.type.withoutShapes ?? .tensor(.float32, nil))
      }
    }
  }
}

extension ValueType {
  /// The same type, whatever the shapes.
  var withoutShapes: ValueType {
    switch self {
    case .tensor(let type, _): .tensor(type, nil)
    case .sequence(let element): .sequence(element.withoutShapes)
    case .optional(let element): .optional(element.withoutShapes)
    case .map: self
    }
  }
}
