// Brings a graph to nodes that TensorFlow Lite has operators for, in the terms of ONNX: what these are is computed from
// what they are not.

import ApusContainers
import ApusGraph
import ApusTensor

enum TFLiteSimplification {
  /// What the outputs of a node are then; nil: the node stays as it is.
  typealias Rule = @Sendable (Node, LayerBuilder) throws(OperatorError) -> [ValueID?]?

  static let rules: [String: Rule] = [
    activationRules, arithmeticRules, normalizationRules, shapeRules, integerRules, integerProductRules, indexingRules,
    imageRules, recurrentRules,
  ].reduce(into: [:]) { all, table in all.merge(table) { first, _ in first } }

  /// Nodes are made of others that may have to be taken apart in turn, so many times.
  private static let maximumDepth = 6

  /// The graph in such nodes. Problems go to `ledger`.
  static func simplified(
    _ graph: Graph, _ registry: OperatorRegistry, _ ledger: ExportLedger
  ) throws(LoadError) -> Graph {
    var options = ImportOptions()
    options.allowance = ledger.options.allowance
    let layers = LayerBuilder(
      rewriting: graph, registry: registry, ledger: ImportLedger(source: "ONNX", options: options))
    var replaced: [ValueID: ValueID] = [:]
    let used = Set(graph.nodes.flatMap(\.dependencies) + graph.outputs)
    for node in graph.nodes {
      var node = withoutUnused(node, used, registry)
      let first = layers.builder.graph.nodes.count
      if !replaced.isEmpty {
        let known = replaced
        node.inputs = node.inputs.map { $0.map { resolved($0, known) } }
        // A node that cannot be said goes through the passes like all others.
        node.attributes.updateGraphs { $0.captured = $0.captured.map { resolved($0, known) } }
      }
      do throws(OperatorError) {
        try ledger.options.allowance.checkTime()
        layers.begin(node.name)
        if fold(node, layers) { continue }
        try simplify(node, layers, &replaced, depth: 0)
      } catch {
        _ = layers.builder.takeNodes(from: first)
        try ledger.report(error, at: node)
        for case let output? in node.outputs {
          layers.builder.graph[output].constant = nil
          replaced[output] = nil
        }
        layers.builder.appendUnchecked(node)
      }
    }
    for note in layers.ledger.report.notes { ledger.note(note) }
    var simple = layers.builder.graph
    simple.outputs = simple.outputs.map { resolved($0, replaced) }
    return simple
  }

  /// A node without the optional outputs that nobody reads.
  private static func withoutUnused(_ node: Node, _ used: Set<ValueID>, _ registry: OperatorRegistry) -> Node {
    guard node.outputs.count > 1, let schema = registry.definition(of: node.op)?.schema else { return node }
    var node = node
    for (place, output) in node.outputs.enumerated() {
      guard let output, !used.contains(output), schema.output(at: place)?.presence == .optional else { continue }
      node.outputs[place] = nil
    }
    while node.outputs.count > 1, node.outputs.last == .some(nil) { node.outputs.removeLast() }
    return node
  }

  /// Makes constants of the outputs of a node that are integers which follow from shapes. True if those are all.
  private static func fold(_ node: Node, _ layers: LayerBuilder) -> Bool {
    var tensors: [(ValueID, Tensor)] = []
    for case let output? in node.outputs {
      guard let fact = layers.fact(output).tensor, let values = fact.values?.concrete?.dims,
        let shape = fact.concreteShape, shape.elementCount == values.count
      else { return false }
      switch fact.dataType {
      case .int64: tensors.append((output, Tensor(values.map { Int64($0) }, shape: shape)))
      case .int32: tensors.append((output, Tensor(values.map { Int32(clamping: $0) }, shape: shape)))
      default: return false
      }
    }
    if tensors.isEmpty { return false }
    for (output, tensor) in tensors { layers.builder.define(output, as: tensor) }
    return true
  }

  /// What stands for a value now.
  private static func resolved(_ value: ValueID, _ replaced: [ValueID: ValueID]) -> ValueID {
    var value = value
    while let next = replaced[value] { value = next }
    return value
  }

  private static func simplify(
    _ node: Node, _ layers: LayerBuilder, _ replaced: inout [ValueID: ValueID], depth: Int
  ) throws(OperatorError) {
    guard node.op.domain.isEmpty, !node.hasSubgraphs, depth < maximumDepth else {
      return layers.builder.appendUnchecked(node)
    }
    let first = layers.builder.graph.nodes.count
    var parts: [Node]?
    if let rule = rules[node.op.name], let results = try rule(node, layers) {
      for (output, result) in zip(node.outputs, results) {
        guard let output, let result, output != result else { continue }
        replaced[output] = result
        if layers.builder.graph.nodes.count > first { layers.takeName(of: output, for: result) }
      }
      parts = layers.builder.takeNodes(from: first)
    } else if TFLiteLowerings.all[node.op.name] == nil, !TFLiteLowerings.images.contains(node.op.name),
      let older = try layers.builder.registry.opsetForms?.decomposed(node, in: layers.builder)
    {
      parts = older
    }
    guard let parts else { return try layers.builder.append(node) }
    for var part in parts {
      part.inputs = part.inputs.map { $0.map { resolved($0, replaced) } }
      // A rule that gives a node of its own operator has made it simpler.
      if part.op == node.op {
        layers.builder.appendUnchecked(part)
      } else {
        try simplify(part, layers, &replaced, depth: depth + 1)
      }
    }
  }
}
