// What nodes look like in the operator sets that files are written for.

import ApusTensor

/// The forms of nodes, which are in that of the newest operator set here, in all others.
package protocol OpsetForms: Sendable {
  /// The operator set of the default domain that models are written for if nothing in them needs a newer one.
  var floor: Int { get }

  /// The node as `target` has it; nil if that cannot say the same. May add constants, and nodes before it, to
  /// `builder`. `versions` are those of the operator.
  func form(of node: Node, versions: [Int], in target: OpsetTarget, _ builder: GraphBuilder) -> Node?

  /// Nodes of older operators, in the newest form, that compute the outputs of `node`, whose values are in `builder`;
  /// nil if there are none.
  func decomposed(_ node: Node, in builder: GraphBuilder) throws(OperatorError) -> [Node]?

  /// The operators that `decomposed` knows.
  var decomposedOperators: [String] { get }

  /// Why `form` has none for a node, as the end of a sentence; empty if it is not known.
  func obstacle(of node: Node, in target: OpsetTarget, _ registry: OperatorRegistry) -> String

  /// Before this operator set of the default domain some nodes are one that are several in the newest form.
  var firstWithoutJoinedNodes: Int { get }

  /// The graph, and the graphs inside its nodes, with such nodes; only `form` can write them.
  func joined(_ graph: Graph) -> Graph
}

/// The operator set of a domain that a model is written for.
package struct OpsetTarget: Sendable {
  package let opset: Int
  /// The one that the model was read from: what it could say there needs no proof that it can be said again.
  package let source: Int

  package init(opset: Int, source: Int) { (self.opset, self.source) = (opset, source) }
}
