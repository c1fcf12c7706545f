// The protocol of operators, and the registry that finds them.

import ApusTensor

/// An operator: its signature, how old versions become the newest, its inference, its kernels.
///
/// A struct without state in one file (or, for a trivial family, one struct and a table of its values), and one line in
/// the list of its family. The four duties:
/// - `schema`: the newest signature; attributes and defaults live there and nowhere else.
/// - `upgrade`: turns a node of an older version into the newest form while the file is read.
/// - `infer`: types and symbolic shapes of the outputs. The planner calls the same function with concrete shapes, so
///   there is no second place that computes shapes. Leave an output shape nil, or a dimension unknown, only where it
///   depends on data; then `prepare` must return an eager kernel, or the schema must mark the input as read when
///   planning.
/// - `prepare`: reads attributes and element types, once, and returns a kernel or says what is not supported.
package protocol OperatorDefinition: Sendable {
  var schema: OperatorSchema { get }

  /// Brings `node`, written against `version` (an element of `schema.versions`), to the newest version. May change
  /// operator, inputs and attributes, and may add constants and helper nodes to `builder`, which run before this node.
  /// The facts of the node's inputs are known as far as inference can tell.
  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError)

  /// Sets the facts of all outputs.
  func infer(_ context: inout InferenceContext) throws(OperatorError)

  /// Chooses the kernel.
  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel
}

extension OperatorDefinition {
  package func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {}
}

/// Every operator that the engine knows, and every import rule.
package struct OperatorRegistry: Sendable {
  private let definitions: [OperatorID: any OperatorDefinition]
  private let importRules: [OperatorID: any ImportRule]

  /// How operators are written for other runtimes; nil: as they are.
  package let opsetForms: (any OpsetForms)?

  package init(
    _ families: [[any OperatorDefinition]], importRules: [[any ImportRule]] = [], opsetForms: (any OpsetForms)? = nil
  ) {
    var definitions: [OperatorID: any OperatorDefinition] = [:]
    definitions.reserveCapacity(families.reduce(0) { $0 + $1.count })
    for family in families {
      for definition in family {
        let id = definition.schema.id
        assert(definitions[id] == nil, "\(id) is registered twice")
        definitions[id] = definition
      }
    }
    var rules: [OperatorID: any ImportRule] = [:]
    rules.reserveCapacity(importRules.reduce(0) { $0 + $1.count })
    for family in importRules {
      for rule in family {
        let id = rule.schema.id
        assert(rules[id] == nil && definitions[id] == nil, "\(id) is there twice")
        rules[id] = rule
      }
    }
    (self.definitions, self.importRules, self.opsetForms) = (definitions, rules, opsetForms)
  }

  /// This registry and operators of somebody's own.
  package func adding(_ more: [any OperatorDefinition]) -> OperatorRegistry {
    var definitions = definitions
    for definition in more { definitions[definition.schema.id] = definition }
    return OperatorRegistry(definitions: definitions, importRules: importRules, opsetForms: opsetForms)
  }

  private init(
    definitions: [OperatorID: any OperatorDefinition], importRules: [OperatorID: any ImportRule],
    opsetForms: (any OpsetForms)?
  ) {
    (self.definitions, self.importRules, self.opsetForms) = (definitions, importRules, opsetForms)
  }

  package func definition(of id: OperatorID) -> (any OperatorDefinition)? { definitions[id] }

  /// The rule for what is written as other operators while a file is read.
  package func importRule(for id: OperatorID) -> (any ImportRule)? { importRules[id] }

  /// All import rules by domain and name.
  package var allImportRules: [any ImportRule] {
    importRules.sorted { ($0.key.domain, $0.key.name) < ($1.key.domain, $1.key.name) }.map(\.value)
  }

  /// The signature by which a file may use an operator or what a rule reads, or the error of `require`.
  package func signature(of id: OperatorID) throws(OperatorError) -> OperatorSchema {
    if let rule = importRules[id] { return rule.schema }
    return try require(id).schema
  }

  /// All definitions by domain and name.
  package var all: [any OperatorDefinition] {
    definitions.sorted { ($0.key.domain, $0.key.name) < ($1.key.domain, $1.key.name) }.map(\.value)
  }

  /// The definition of an operator, or an error that names the nearest spelling.
  package func require(_ id: OperatorID) throws(OperatorError) -> any OperatorDefinition {
    if let definition = definitions[id] { return definition }
    if let rule = importRules[id] {
      throw .invalid("\(id) is read as \(rule.readAs) and cannot stand in a graph")
    }
    if ["com.microsoft.nchwc", "com.ms.internal.nhwc"].contains(id.domain) {
      throw .unsupported(
        "operator \(id) belongs to the layouts that ONNX Runtime chooses for one machine",
        remedy: "Use the model from before that optimization, or save it with the level 'extended' at most")
    }
    let known = Array(definitions.keys) + Array(importRules.keys)
    let sameName = known.filter { $0.name.lowercased() == id.name.lowercased() }.map(\.description).sorted()
    throw .unsupported(
      "operator \(id) is not known",
      remedy: sameName.isEmpty
        ? "See docs/operators.md for what is" : "Did you mean \(sameName.joined(separator: " or "))?")
  }
}
