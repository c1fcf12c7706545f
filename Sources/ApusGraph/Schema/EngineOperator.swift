// Operators that no other runtime knows: made by passes, and written to files as standard ones.

import ApusTensor

extension OperatorID {
  /// The domain of the operators that only this engine has. No file may use it.
  package static let engineDomain = "apus"
}

/// An operator of the engine's own domain.
package protocol EngineOperator: OperatorDefinition {
  /// Appends standard operators to `builder` that compute the outputs of `node`.
  func lower(_ node: Node, into builder: GraphBuilder) throws(OperatorError)
}

extension Graph {
  /// The graph, and the graphs inside its nodes, with standard operators in the place of the engine's own.
  package func lowered(_ inference: InferenceDriver) throws(OperatorError) -> Graph {
    let builder = GraphBuilder(rewriting: self, inference: inference)
    for var node in nodes {
      do throws(OperatorError) {
        if node.op.domain == OperatorID.engineDomain {
          guard let definition = try inference.registry.require(node.op) as? any EngineOperator else {
            throw .unsupported("\(node.op) has no form that other runtimes know")
          }
          try definition.lower(node, into: builder)
          continue
        }
        if node.hasSubgraphs {
          try node.attributes.updateGraphs { (subgraph) throws(OperatorError) in
            subgraph.graph = try subgraph.graph.lowered(inference)
          }
        }
        builder.appendUnchecked(node)
      } catch {
        throw error.inside(node)
      }
    }
    return builder.graph
  }
}
