// What the traits of a schema see of a node.

import ApusTensor

/// A node in a graph with its schema, and what is known of its operands.
package struct NodeFacts: OperatorContext {
  package let node: Node
  package let schema: OperatorSchema
  private let inputs: [ValueFact?]
  private let outputs: [ValueFact?]
  private let constants: [Tensor?]

  package init(
    node: Node, schema: OperatorSchema, inputs: [ValueFact?], outputs: [ValueFact?], constants: [Tensor?]
  ) {
    (self.node, self.schema) = (node, schema)
    (self.inputs, self.outputs, self.constants) = (inputs, outputs, constants)
  }

  /// False for an optional input that is absent.
  package func isPresent(_ input: Int) -> Bool { input < inputs.count && inputs[input] != nil }

  /// The element type of an input; nil if it is absent or not known to be a tensor.
  package func type(_ input: Int) -> DataType? { input < inputs.count ? inputs[input]?.tensor?.dataType : nil }

  /// The extents of an input; nil if it is absent or its rank unknown.
  package func shape(_ input: Int) -> [Dim]? { input < inputs.count ? inputs[input]?.tensor?.shape : nil }

  /// The extents of an output; nil if it is not wanted or its rank unknown.
  package func outputShape(_ output: Int) -> [Dim]? {
    output < outputs.count ? outputs[output]?.tensor?.shape : nil
  }

  /// What is known of the elements of an integer input; nil if nothing is.
  package func values(_ input: Int) -> [Dim]? { input < inputs.count ? inputs[input]?.tensor?.values : nil }

  /// The tensor of an input that is constant.
  package func constant(_ input: Int) -> Tensor? { input < constants.count ? constants[input] : nil }

  /// The elements of a constant integer input.
  package func integers(_ input: Int) -> [Int]? { constant(input)?.integers }
}

extension Graph {
  /// What the traits of `schema` see of a node of this graph.
  package func facts(of node: Node, _ schema: OperatorSchema) -> NodeFacts {
    NodeFacts(
      node: node, schema: schema, inputs: node.inputs.map { $0.map { fact($0) } },
      outputs: node.outputs.map { $0.map { fact($0) } }, constants: node.inputs.map { constant($0) })
  }
}

extension GraphEditor {
  /// The signature of an operator; nil if nobody knows it.
  package func schema(of op: OperatorID) -> OperatorSchema? { inference.registry.definition(of: op)?.schema }

  /// What the traits of `schema` see of a node of this graph.
  package func facts(of node: Node, _ schema: OperatorSchema) -> NodeFacts {
    NodeFacts(
      node: node, schema: schema, inputs: node.inputs.map { $0.map { fact($0) } },
      outputs: node.outputs.map { $0.map { fact($0) } }, constants: node.inputs.map { constant($0) })
  }
}
