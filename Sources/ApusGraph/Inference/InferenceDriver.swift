// Types and shapes of a whole graph, node by node.

import ApusTensor

/// Runs the inference of operators over graphs.
package struct InferenceDriver: Sendable {
  package let registry: OperatorRegistry
  /// What the work may take; its time is looked at before each node.
  package let allowance: Allowance
  /// Whether a subgraph may hold nodes that cannot run on what is known of their inputs. Passes learn more than the
  /// file says, and a branch that never runs may be wrong for it.
  private let keepsFaultySubgraphs: Bool
  /// The number of nodes with subgraphs around the graph.
  private let depth: Int

  package init(
    registry: OperatorRegistry, allowance: Allowance = .unlimited, keepsFaultySubgraphs: Bool = false
  ) {
    self.init(registry: registry, allowance: allowance, keepsFaultySubgraphs: keepsFaultySubgraphs, depth: 0)
  }

  private init(registry: OperatorRegistry, allowance: Allowance, keepsFaultySubgraphs: Bool, depth: Int) {
    (self.registry, self.allowance, self.depth) = (registry, allowance, depth)
    self.keepsFaultySubgraphs = keepsFaultySubgraphs
  }

  /// Infers every node in order, collecting one error a node at most. Facts that are declared already (graph inputs)
  /// stay. When the time is over, the error that says so is the only one.
  package func infer(_ graph: inout Graph) -> [OperatorError] {
    var errors: [OperatorError] = []
    for index in graph.nodes.indices {
      do throws(OperatorError) {
        try infer(nodeAt: index, in: &graph)
      } catch {
        if allowance.cancellation?.isCancelled ?? false { return [error] }
        errors.append(error)
      }
    }
    return errors
  }

  /// Infers one node from the facts of its inputs and merges the result into the facts of its outputs. The values of
  /// its subgraphs get the facts that hold for this use of them.
  package func infer(nodeAt index: Int, in graph: inout Graph) throws(OperatorError) {
    try allowance.checkTime()
    let node = graph.nodes[index]
    if let memo = node.memo, memo.holds(for: node, in: graph) { return }
    let inputs = node.inputs.map { $0.map { graph.fact($0) } }
    let constants = node.inputs.map { graph.constant($0) }
    let hasSubgraphs = node.hasSubgraphs
    do throws(OperatorError) {
      // Only subgraphs look at the graph; holding on to it would make the change below copy all values.
      let outer = hasSubgraphs ? graph : nil
      let inferred = try context(of: node, inputs: inputs, constants: constants) { outer?.fact($0) ?? .unknown }
      for (name, subgraph) in inferred.inferredSubgraphs {
        guard case .graph(let former)? = node.attributes[name] else { continue }
        graph.nodes[index].attributes[name] = .graph(Subgraph(graph: subgraph, captured: former.captured))
      }
      for (output, fact) in zip(node.outputs, inferred.outputs) {
        guard let output else { continue }
        if let note = contradiction(declared: graph.fact(output), inferred: fact) {
          graph.notes.append("\(node.op) '\(node.name)': output '\(graph[output].name)' \(note)")
        }
        graph[output].fact = try merge(declared: graph.fact(output), inferred: fact, name: graph[output].name)
      }
      if !hasSubgraphs { graph.nodes[index].memo = InferenceMemo(node, in: graph) }
    } catch {
      throw error.inside(node, inputs: inputs)
    }
  }

  /// The facts of the outputs of a node. `outerFact` gives the facts of captured values.
  package func infer(
    _ node: Node, inputs: [ValueFact?], constants: [Tensor?], outerFact: @escaping (ValueID) -> ValueFact
  ) throws(OperatorError) -> [ValueFact] {
    try context(of: node, inputs: inputs, constants: constants, outerFact: outerFact).outputs
  }

  /// The context of a node after its inference.
  private func context(
    of node: Node, inputs: [ValueFact?], constants: [Tensor?], outerFact: @escaping (ValueID) -> ValueFact
  ) throws(OperatorError) -> InferenceContext {
    let definition = try registry.require(node.op)
    try node.validateTypes(inputs, against: definition.schema)
    let inner = InferenceDriver(
      registry: registry, allowance: allowance, keepsFaultySubgraphs: keepsFaultySubgraphs, depth: depth + 1)
    var context = InferenceContext(
      node: node, schema: definition.schema, inputs: inputs, constants: constants, depth: depth,
      inferSubgraph: { (subgraph, facts) throws(OperatorError) in
        try inner.infer(subgraph, inputs: facts, outerFact: outerFact)
      })
    try definition.infer(&context)
    try node.validateOutputTypes(context.outputs, against: definition.schema)
    return context
  }

  /// The graph of a subgraph with all facts under those of its formal inputs.
  private func infer(
    _ subgraph: Subgraph, inputs: [ValueFact], outerFact: (ValueID) -> ValueFact
  ) throws(OperatorError) -> Graph {
    var graph = subgraph.graph
    // Declared shapes of inner values may be narrower than what these inputs give, so they are inferred anew.
    for index in graph.values.indices where graph.values[index].constant == nil {
      graph.values[index].fact = graph.values[index].fact.withoutShapes
    }
    for (id, fact) in zip(graph.inputs, inputs) where fact != .unknown { graph[id].fact = fact }
    for (id, outer) in zip(graph.captures, subgraph.captured) { graph[id].fact = outerFact(outer) }
    for index in graph.nodes.indices {
      do throws(OperatorError) {
        try infer(nodeAt: index, in: &graph)
      } catch {
        guard keepsFaultySubgraphs, error.code == .invalidInput else { throw error }
        // Nothing is known of what comes behind it.
        return graph
      }
    }
    return graph
  }

  /// What a declared shape says that cannot be, in words; nil if there is no contradiction.
  private func contradiction(declared: ValueFact, inferred: ValueFact) -> String? {
    guard let x = declared.tensor?.shape, let y = inferred.tensor?.shape else { return nil }
    if x.count == y.count, !zip(x, y).contains(where: { $0.isSurelyDifferent(from: $1) }) { return nil }
    return "is declared as \(declared) and computed as \(inferred); the declared shape is ignored"
  }

  /// What is known from both; throws where their types contradict each other.
  private func merge(declared: ValueFact, inferred: ValueFact, name: String) throws(OperatorError) -> ValueFact {
    switch (declared, inferred) {
    case (.unknown, _): return inferred
    case (_, .unknown): return declared
    case (.tensor(let a), .tensor(let b)):
      guard a.dataType == b.dataType else {
        throw .mismatch("output '\(name)' is declared as \(declared) and computed as \(inferred)")
      }
      guard let x = a.shape, let y = b.shape else { return .tensor(b.dataType, b.shape ?? a.shape, values: b.values) }
      // Exporters write shapes of the example they traced. What the operators compute counts; a contradiction is noted.
      guard x.count == y.count else { return inferred }
      let shape = zip(x, y).map { $1.isUnknown && $0.known == nil ? $0 : $1 }
      return .tensor(b.dataType, shape, values: b.values)
    case (.sequence(let a), .sequence(let b)):
      return .sequence((try? merge(declared: a, inferred: b, name: name)) ?? b)
    case (.optional(let a), .optional(let b)):
      return .optional((try? merge(declared: a, inferred: b, name: name)) ?? b)
    case (.map, .map): return inferred
    default: throw .mismatch("output '\(name)' is declared as \(declared) and computed as \(inferred)")
    }
  }
}
