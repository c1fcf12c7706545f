// Reverse-mode differentiation: from a value back to others through the nodes between them.

import ApusGraph
import ApusTensor

extension Node {
  /// True if an output of the node is among the values.
  func computes(oneOf values: Set<ValueID>) -> Bool {
    outputs.contains { $0.map(values.contains) ?? false }
  }
}

/// Writes gradients into a graph.
struct Differentiator {
  var writer: DerivativeWriter
  private let registry = OperatorRegistry.standard

  init(_ writer: DerivativeWriter) { self.writer = writer }

  /// The values that depend on `sources` through `nodes`, and through which a gradient can pass. What a source itself
  /// is computed from does not count.
  func dependents(of sources: Set<ValueID>, in nodes: Range<Int>) -> Set<ValueID> {
    var dependents = sources
    for index in nodes {
      let node = writer.builder.graph.nodes[index]
      guard node.dependencies.contains(where: dependents.contains) else { continue }
      if node.op.domain.isEmpty, case .zero? = derivativeRules[node.op.name] { continue }
      dependents.formUnion(node.outputs.compactMap { $0 }.filter { canPass(writer.builder.graph.fact($0)) })
    }
    return dependents
  }

  /// The values that `target` is computed from by `nodes`, and itself.
  func ancestors(of target: ValueID, in nodes: Range<Int>) -> Set<ValueID> {
    var ancestors: Set<ValueID> = [target]
    for index in nodes.reversed() {
      let node = writer.builder.graph.nodes[index]
      if node.computes(oneOf: ancestors) { ancestors.formUnion(node.dependencies) }
    }
    return ancestors
  }

  private func canPass(_ fact: ValueFact) -> Bool {
    guard let tensor = fact.tensor else { return true }
    return differentiableTypes.contains(tensor.dataType)
  }

  /// The gradients of `sources` when those of some results are `seeds`, through `nodes`. A source that the results do
  /// not depend on is not in the answer. Sources are independent of each other: no gradient passes through one to
  /// another.
  mutating func gradients(
    of sources: Set<ValueID>, seeds: [(value: ValueID, gradient: ValueID)], in nodes: Range<Int>
  ) throws(OperatorError) -> [ValueID: ValueID] {
    let dependents = dependents(of: sources, in: nodes)
    var gradients: [ValueID: ValueID] = [:]
    for seed in seeds { try accumulate(seed.gradient, at: seed.value, in: &gradients) }
    for index in nodes.reversed() {
      let node = writer.builder.graph.nodes[index]
      let upstream = node.outputs.map { $0.flatMap { sources.contains($0) ? nil : gradients[$0] } }
      guard upstream.contains(where: { $0 != nil }), node.dependencies.contains(where: dependents.contains) else {
        continue
      }
      do throws(OperatorError) {
        for (value, gradient) in try step(index, upstream, dependents) {
          try accumulate(gradient, at: value, in: &gradients)
        }
      } catch {
        throw error.inside(node, inputs: node.inputs.map { $0.map { writer.builder.graph.fact($0) } })
      }
    }
    return gradients.filter { sources.contains($0.key) }
  }

  private mutating func accumulate(
    _ gradient: ValueID, at value: ValueID, in gradients: inout [ValueID: ValueID]
  ) throws(OperatorError) {
    if let known = gradients[value] {
      gradients[value] = try writer.add(known, gradient)
    } else {
      gradients[value] = gradient
    }
  }

  /// What one node contributes to the gradients of its inputs.
  private mutating func step(
    _ index: Int, _ upstream: [ValueID?], _ dependents: Set<ValueID>
  ) throws(OperatorError) -> [(ValueID, ValueID)] {
    let node = writer.builder.graph.nodes[index]
    if node.op == OperatorID("If") { return try branchGradients(node, upstream, dependents) }
    guard node.op.domain.isEmpty, let rule = derivativeRules[node.op.name] else {
      throw .unsupported(
        "there is no derivative rule for \(node.op)",
        remedy: "Name a value behind this node in xs or zs of the Gradient, or compute it from other operators")
    }
    let application = Application(
      index: index, node: node, schema: try registry.require(node.op).schema, upstream: upstream,
      wanted: node.inputs.map { $0.map(dependents.contains) ?? false })
    switch rule {
    case .zero: return []
    case .gradients(let rule):
      let results = try rule(&writer, application)
      return zip(node.inputs, results).compactMap { input, gradient in
        guard let input, let gradient, dependents.contains(input) else { return nil }
        return (input, gradient)
      }
    case .expansion(let rule):
      let first = writer.builder.graph.nodes.count
      let outputs = try rule(&writer, application)
      var seeds: [(value: ValueID, gradient: ValueID)] = []
      for (position, gradient) in upstream.enumerated() {
        guard let gradient else { continue }
        guard position < outputs.count, let output = outputs[position] else {
          throw .unsupported("there is no derivative rule for output \(position)")
        }
        seeds.append((output, gradient))
      }
      let inputs = Set(node.inputs.compactMap { $0 }.filter(dependents.contains))
      let found = try gradients(of: inputs, seeds: seeds, in: first..<writer.builder.graph.nodes.count)
      // In the order of the inputs, so that every reading of a model writes the same graph.
      return inputs.sorted { $0.index < $1.index }.compactMap { input in found[input].map { (input, $0) } }
    }
  }
}
