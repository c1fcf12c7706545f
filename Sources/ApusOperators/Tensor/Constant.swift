// Constant: a tensor given as attribute. https://onnx.ai/onnx/operators/onnx__Constant.html
// Versions: 1, 9 (all types), 11 (sparse_value), 12 (value_int, value_floats, …), 13, 19, 21, 23, 24, 25 (more types).

import ApusGraph
import ApusTensor

/// A node of any version makes its output a constant of the graph.
struct Constant: ImportRule {
  let schema = OperatorSchema(
    "Constant", versions: [1, 9, 11, 12, 13, 19, 21, 23, 24, 25],
    outputs: [.required("output", "T")],
    attributes: [
      .optional("value", .tensor), .optional("sparse_value", .tensor), .optional("value_int", .int),
      .optional("value_ints", .ints), .optional("value_float", .float), .optional("value_floats", .floats),
      .optional("value_string", .string), .optional("value_strings", .strings),
    ],
    types: ["T": .stored], portable: .moreTypes)

  let readAs = "a constant"

  func emit(_ node: Node, from version: Int, into builder: GraphBuilder) throws(OperatorError) {
    guard node.inputs.isEmpty, node.outputs.count == 1 else {
      throw .invalid("a Constant has one output and no input")
    }
    let tensor = try Constant.tensor(of: node)
    if let output = node.outputs[0] { builder.define(output, as: tensor) }
  }

  /// The tensor that a node of any version holds.
  private static func tensor(of node: Node) throws(OperatorError) -> Tensor {
    guard node.attributes.entries.count == 1, let (name, value) = node.attributes.entries.first else {
      throw .invalid(
        "a Constant has exactly one attribute: value, sparse_value, value_int(s), value_float(s) or value_string(s); "
          + "found \(node.attributes.entries.map(\.name))")
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
}
