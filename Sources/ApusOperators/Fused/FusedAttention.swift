// apus.Attention: softmax(scale·Q·Kᵀ + mask)·V as Softmax has it. Made by passes, never read from a file. Versions: 1.

import ApusGraph
import ApusTensor

/// Attention without a past, whose rows of scores that are all -infinity give NaN, as a Softmax between two products
/// does; Attention gives 0 there.
package struct FusedAttention: EngineOperator {
  package static let id = OperatorID("Attention", domain: "apus")

  package let schema: OperatorSchema
  private let attention: Attention

  package init() {
    attention = Attention()
    let standard = attention.schema
    schema = OperatorSchema(
      "Attention", domain: "apus", versions: [1], inputs: Array(standard.inputs[..<4]),
      outputs: Array(standard.outputs[..<1]), attributes: standard.attributes.map { $0.since(1) },
      types: standard.types, multiplyAdds: standard.multiplyAdds)
  }

  package func infer(_ context: inout InferenceContext) throws(OperatorError) { try attention.infer(&context) }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    try attention.prepare(context, emptyRows: .nan)
  }

  package func lower(_ node: Node, into builder: GraphBuilder) throws(OperatorError) {
    let unknown = OperatorError.unsupported("\(node.op) of unknown extents has no form that other runtimes know")
    guard let query = node.inputs[0], let key = node.inputs[1], let value = node.inputs[2],
      let type = builder.type(query)
    else { throw unknown }
    func apply(
      _ op: String, _ part: String, _ inputs: [ValueID], _ attributes: [(String, AttributeValue)] = []
    ) throws(OperatorError) -> ValueID {
      try builder.apply(OperatorID(op), name: "\(node.name)/\(part)", inputs, attributes)
    }
    let (queryHeads, keyHeads) = (node.attributes.int("q_num_heads"), node.attributes.int("kv_num_heads"))
    func headwise(_ operand: ValueID, _ heads: Int?, _ part: String) throws(OperatorError) -> ValueID {
      guard let heads else { return operand }
      let extents = builder.addConstant(Tensor([0, 0, heads, -1]))
      let split = try apply("Reshape", "\(part)/heads", [operand, extents])
      return try apply("Transpose", "\(part)/turned", [split], [("perm", .ints([0, 2, 1, 3]))])
    }
    let q = try headwise(query, queryHeads, "Q")
    var (k, v) = (try headwise(key, keyHeads, "K"), try headwise(value, keyHeads, "V"))
    guard let queries = builder.shape(q), let keys = builder.shape(k) else { throw unknown }
    if !queries[1].isSame(as: keys[1]) {
      guard let heads = queries[1].known, let shared = keys[1].known else { throw unknown }
      func repeated(_ operand: ValueID, _ part: String) throws(OperatorError) -> ValueID {
        guard let size = builder.shape(operand)?[3].known else { throw unknown }
        let axis = builder.addConstant(Tensor([2]))
        let times = builder.addConstant(Tensor([1, 1, heads / shared, 1, 1]))
        let extents = builder.addConstant(Tensor([0, heads, -1, size]))
        let widened = try apply("Unsqueeze", "\(part)/axis", [operand, axis])
        let wide = try apply("Expand", "\(part)/wide", [widened, times])
        return try apply("Reshape", "\(part)/repeated", [wide, extents])
      }
      (k, v) = (try repeated(k, "K"), try repeated(v, "V"))
    }
    guard let scale = node.attributes.float("scale") ?? keys[3].known.map({ 1 / Float($0).squareRoot() }),
      let factor = try builder.addScalar(scale, type)
    else { throw unknown }
    let turned = try apply("Transpose", "K/columns", [k], [("perm", .ints([0, 1, 3, 2]))])
    let scaled = try apply("Mul", "Q/scaled", [q, factor])
    var scores = try apply("MatMul", "scores", [scaled, turned])
    if node.inputs.count > 3, let mask = node.inputs[3] { scores = try apply("Add", "masked", [scores, mask]) }
    let probabilities = try apply("Softmax", "probabilities", [scores], [("axis", .int(-1))])
    guard queryHeads != nil else {
      return try builder.append(
        Node(OperatorID("MatMul"), name: node.name, inputs: [probabilities, v], outputs: node.outputs))
    }
    let result = try apply("MatMul", "heads", [probabilities, v])
    let back = try apply("Transpose", "back", [result], [("perm", .ints([0, 2, 1, 3]))])
    try builder.append(
      Node(
        OperatorID("Reshape"), name: node.name, inputs: [back, builder.addConstant(Tensor([0, 0, -1]))],
        outputs: node.outputs))
  }
}
