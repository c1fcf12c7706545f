// Constant: a tensor given as attribute. https://onnx.ai/onnx/operators/onnx__Constant.html
// Versions: 1, 9 (all types), 11 (sparse_value), 12 (value_int, value_floats, …), 13, 19, 21, 23, 24, 25 (more types).

import ApusGraph
import ApusTensor

/// In the newest form the tensor stands in `value`; `upgrade` turns all other attributes into it.
struct Constant: OperatorDefinition {
  let schema = OperatorSchema(
    "Constant", versions: [1, 9, 11, 12, 13, 19, 21, 23, 24, 25],
    outputs: [.required("output", "T")],
    attributes: [
      .optional("value", .tensor), .optional("sparse_value", .tensor), .optional("value_int", .int),
      .optional("value_ints", .ints), .optional("value_float", .float), .optional("value_floats", .floats),
      .optional("value_string", .string), .optional("value_strings", .strings),
    ],
    types: ["T": .stored], portable: .moreTypes)

  func upgrade(_ node: inout Node, from version: Int, in graph: inout Graph) throws(OperatorError) {
    let tensor = try Constant.tensor(of: node)
    node.attributes = Attributes([("value", .tensor(tensor))])
  }

  /// The tensor that a Constant node of any version holds.
  static func tensor(of node: Node) throws(OperatorError) -> Tensor {
    let given = node.attributes.entries.filter { $0.name.hasPrefix("value") || $0.name == "sparse_value" }
    guard given.count == 1, let (name, value) = given.first else {
      throw .invalid("\(given.count) attributes give the value of a Constant; expected one")
    }
    switch (name, value) {
    case ("value", .tensor(let tensor)), ("sparse_value", .tensor(let tensor)): return tensor
    case ("value_int", .int(let value)): return Tensor(scalar: value)
    case ("value_ints", .ints(let values)): return Tensor(values)
    case ("value_float", .float(let value)): return Tensor(scalar: value)
    case ("value_floats", .floats(let values)): return Tensor(values)
    case ("value_string", .string(let value)): return Tensor(strings: [value], shape: [])
    case ("value_strings", .strings(let values)): return Tensor(strings: values, shape: [values.count])
    // A list without elements may have been written without its kind.
    case ("value_floats", .ints([])): return Tensor([Float]())
    case ("value_strings", .ints([])): return Tensor(strings: [], shape: [0])
    default: throw .invalid("attribute \(name) of a Constant is of kind \(value.kind.rawValue)")
    }
  }

  var readAs: String? { "a constant" }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, .tensor(TensorFact(try Constant.tensor(of: context.node))))
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let tensor = try Constant.tensor(of: context.node)
    return .eager { _, _ in [.tensor(tensor)] }
  }
}
