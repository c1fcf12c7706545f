// An operator of a test's own, which computes what a known one does: passes know nothing of it but its traits.

import ApusGraph
import ApusOperators

/// Infers and prepares as another operator does, under a schema of its own.
package struct DelegatingOperator: OperatorDefinition {
  package let schema: OperatorSchema
  private let known: OperatorID

  /// The schema of `known` without its traits, under another name, and with those that `change` gives it.
  package init(_ id: OperatorID, as known: OperatorID, _ change: (inout OperatorSchema) -> Void = { _ in }) throws {
    var schema = try OperatorRegistry.standard.require(known).schema
    schema.id = id
    schema.versions = [1]
    (schema.traits, schema.identity, schema.layout, schema.portable) = ([], .never, .fixed, nil)
    (schema.carried, schema.multiplyAdds) = (nil, nil)
    change(&schema)
    (self.schema, self.known) = (schema, known)
  }

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    try OperatorRegistry.standard.require(known).infer(&context)
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    try OperatorRegistry.standard.require(known).prepare(context)
  }
}

extension OperatorRegistry {
  /// All operators of Apus, and some more.
  package static func standard(with operators: [any OperatorDefinition]) -> OperatorRegistry {
    OperatorRegistry(
      [OperatorRegistry.standard.all, operators], opsetForms: OperatorRegistry.standard.opsetForms)
  }
}
