// An operator of a test's own, which computes what a known one does: passes know nothing of it but its traits.

import ApusGraph
import ApusOperators

/// Infers and prepares as another operator does, under a schema of its own.
package struct DelegatingOperator: OperatorDefinition {
  package let schema: OperatorSchema
  private let known: OperatorID

  /// The schema of `known` without its traits, under another name, and with those that `change` gives it.
  package init(_ id: OperatorID, as known: OperatorID, _ change: (inout SchemaDraft) -> Void = { _ in }) throws {
    var draft = SchemaDraft(try OperatorRegistry.standard.require(known).schema, id: id)
    change(&draft)
    (schema, self.known) = (draft.schema, known)
  }

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    try OperatorRegistry.standard.require(known).infer(&context)
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    try OperatorRegistry.standard.require(known).prepare(context)
  }
}

/// A schema that is being made.
package struct SchemaDraft: Sendable {
  private let id: OperatorID
  private let outputs: [Parameter]
  private let types: [String: TypeSet]
  package var inputs: [Parameter]
  package var attributes: [AttributeSchema]
  package var versions = [1]
  package var traits: OperatorSchema.Traits = []
  package var identity = IdentityCondition.never
  package var layout = LayoutTrait.fixed
  package var portable: PortableForm?
  package var carried: CarriedValues?
  package var multiplyAdds: NodeFormula?
  package var axes: AxisRule?

  /// The signature of `known`.
  init(_ known: OperatorSchema, id: OperatorID) {
    (self.id, inputs, outputs, attributes) = (id, known.inputs, known.outputs, known.attributes)
    types = known.types
  }

  var schema: OperatorSchema {
    OperatorSchema(
      id.name, domain: id.domain, versions: versions, inputs: inputs, outputs: outputs, attributes: attributes,
      types: types, traits: traits, identity: identity, layout: layout, portable: portable, carried: carried,
      multiplyAdds: multiplyAdds, axes: axes)
  }
}

extension OperatorRegistry {
  /// All operators of Apus, and some more.
  package static func standard(with operators: [any OperatorDefinition]) -> OperatorRegistry {
    OperatorRegistry(
      [OperatorRegistry.standard.all, operators], opsetForms: OperatorRegistry.standard.opsetForms)
  }
}
