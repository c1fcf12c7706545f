// What files call an operator and the engine writes as others: rules of reading, by format, operator and version.

import ApusTensor

/// How a node of a file that is no operator of the engine becomes operators while it is read. Nothing behind the reader
/// sees such a node, so a rule has neither inference nor kernels.
///
/// A struct without state in one file (or, for a trivial family, one struct and a table of its values), and one line in
/// the list of its family.
package protocol ImportRule: Sendable {
  /// The signature in the format. Its domain says which format or operator set it belongs to.
  var schema: OperatorSchema { get }

  /// What a node is written as, in a few words for people: "Resize".
  var readAs: String { get }

  /// Attributes that name values of the graph around the node. The values come behind the inputs, in this order, and
  /// exist before the node is read.
  var attributesNamingValues: [String] { get }

  /// Appends operators to `builder` that compute the outputs of `node`, which was written against `version` (an element
  /// of `schema.versions`). What is known of its inputs can be asked for; nothing of the node is checked before.
  func emit(_ node: Node, from version: Int, into builder: GraphBuilder) throws(OperatorError)
}

extension ImportRule {
  package var attributesNamingValues: [String] { [] }
}
