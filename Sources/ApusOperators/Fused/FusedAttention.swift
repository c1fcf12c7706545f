// apus.Attention: softmax(scale·Q·Kᵀ + mask)·V as Softmax has it. Made by passes, never read from a file. Versions: 1.

import ApusGraph
import ApusTensor

/// Attention without a past, whose rows of scores that are all -infinity give NaN, as a Softmax between two products
/// does; Attention gives 0 there.
package struct FusedAttention: OperatorDefinition {
  package static let id = OperatorID("Attention", domain: "apus")

  package let schema: OperatorSchema
  private let attention: Attention

  package init(plain: Bool = false) {
    attention = Attention(plain: plain)
    let standard = attention.schema
    schema = OperatorSchema(
      "Attention", domain: "apus", versions: [1], inputs: Array(standard.inputs[..<4]),
      outputs: Array(standard.outputs[..<1]), attributes: standard.attributes, types: standard.types)
  }

  package func infer(_ context: inout InferenceContext) throws(OperatorError) { try attention.infer(&context) }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    try attention.prepare(context, emptyRows: .nan)
  }
}
