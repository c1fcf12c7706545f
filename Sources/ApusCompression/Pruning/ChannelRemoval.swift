// A graph without some of its channels: shorter weights, shapes named anew, everything inferred again.

import ApusGraph
import ApusTensor

/// Channels of `ChannelGroups` to take away.
package struct ChannelRemoval {
  private let groups: ChannelGroups
  /// By slot: the indices that stay, where not all do.
  private var isKept: [Int: [Bool]] = [:]

  package init(_ groups: ChannelGroups) { self.groups = groups }

  package mutating func remove(_ channel: ChannelGroups.Channel) {
    for (slot, index) in channel.members {
      isKept[slot, default: [Bool](repeating: true, count: groups.table.slots[slot].count)][index] = false
    }
  }

  /// The graph that is left. It must be the one that the groups are of.
  package func applied(to graph: Graph, registry: OperatorRegistry) throws(CompressionError) -> Graph {
    do throws(OperatorError) {
      let builder = GraphBuilder(
        rewriting: try shortened(graph), inference: InferenceDriver(registry: registry, keepsFaultySubgraphs: true))
      for (number, node) in graph.nodes.enumerated() {
        // A new node: what was inferred for the former one does not hold.
        var changed = Node(
          node.op, name: node.name, inputs: node.inputs, outputs: node.outputs, attributes: node.attributes)
        for rewrite in groups.links[number].rewrites { apply(rewrite, to: &changed, from: node, in: builder) }
        try builder.append(changed)
      }
      var result = builder.graph
      result.forgetUnusedConstants()
      try check(result)
      return result
    } catch {
      throw CompressionError(error)
    }
  }

  /// The values with shorter constants, and without shapes that will change.
  private func shortened(_ graph: Graph) throws(OperatorError) -> Graph {
    var graph = graph
    for node in graph.nodes {
      for case let output? in node.outputs {
        guard let fact = graph.fact(output).tensor else { continue }
        let changes = groups.table.slots(of: output).contains { isKept[$0] != nil }
        graph[output].fact = .tensor(fact.dataType, changes ? nil : fact.shape)
      }
    }
    for index in graph.values.indices {
      guard var constant = graph.values[index].constant else { continue }
      var hasChanged = false
      for slot in groups.table.slots(of: ValueID(index)) {
        guard let kept = isKept[slot] else { continue }
        do throws(TensorError) {
          constant = try constant.keeping(kept, axis: groups.table.slots[slot].axis)
        } catch {
          throw .invalid("\(error)")
        }
        hasChanged = true
      }
      if hasChanged {
        graph.values[index].constant = constant
        graph.values[index].fact = .tensor(TensorFact(constant))
      }
    }
    return graph
  }

  // MARK: - What names extents

  private func slot(_ axis: AxisLinks.Axis, of node: Node) -> Int? {
    let value: ValueID? =
      switch axis.operand {
      case .input(let input): input < node.inputs.count ? node.inputs[input] : nil
      case .output(let output): output < node.outputs.count ? node.outputs[output] : nil
      }
    return value.flatMap { groups.table.slot($0, axis.axis) }
  }

  private func apply(
    _ rewrite: AxisLinks.Rewrite, to node: inout Node, from former: Node, in builder: GraphBuilder
  ) {
    switch rewrite {
    case .attribute(let name, let axis):
      guard let slot = slot(axis, of: former), let kept = isKept[slot] else { return }
      node.attributes[name] = .int(kept.count { $0 })
    case .extent(let input, let position, let axis):
      guard let slot = slot(axis, of: former), let kept = isKept[slot] else { return }
      setElement(position, ofInput: input, of: &node, in: builder) { $0 > 0 ? kept.count { $0 } : $0 }
    case .boundary(let input, let position, let axis, let index):
      guard let slot = slot(axis, of: former), let kept = isKept[slot] else { return }
      setElement(position, ofInput: input, of: &node, in: builder) { _ in kept[..<index].count { $0 } }
    case .outputExtents(let input, let axis, let attribute):
      let slots = former.outputs.indices.map { slot(.output($0, axis), of: former) }
      guard slots.contains(where: { $0.map { isKept[$0] != nil } ?? false }) else { return }
      let extents = slots.map { slot in
        slot.map { isKept[$0]?.count { $0 } ?? groups.table.slots[$0].count } ?? 0
      }
      while node.inputs.count <= input { node.inputs.append(nil) }
      node.inputs[input] = builder.addConstant(Tensor(extents))
      _ = node.attributes.remove(attribute)
    }
  }

  /// Gives the node a constant of its own with another element. The constant may be that of other nodes too.
  private func setElement(
    _ position: Int, ofInput input: Int, of node: inout Node, in builder: GraphBuilder, _ change: (Int) -> Int
  ) {
    guard input < node.inputs.count, let tensor = builder.constant(node.inputs[input]),
      var elements = tensor.integers, elements.indices.contains(position)
    else { return }
    elements[position] = change(elements[position])
    let changed =
      tensor.dataType == .int32
      ? Tensor(elements.map { Int32(clamping: $0) }, shape: tensor.shape) : Tensor(elements, shape: tensor.shape)
    node.inputs[input] = builder.addConstant(changed)
  }

  /// Throws if a value did not get the shape that it should have: an extent that was computed otherwise.
  private func check(_ graph: Graph) throws(OperatorError) {
    for (number, slot) in groups.table.slots.enumerated() {
      let expected = isKept[number]?.count { $0 } ?? slot.count
      let found = graph.fact(slot.value).tensor?.shape.flatMap { $0.indices.contains(slot.axis) ? $0[slot.axis] : nil }
      guard let found = found?.known, found != expected else { continue }
      throw .inconsistency(
        "value '\(graph[slot.value].name)' has the extent \(found) along axis \(slot.axis) without these channels; "
          + "expected \(expected)")
    }
  }
}

extension Graph {
  /// Forgets the tensors of constants that neither a node nor an output uses.
  package mutating func forgetUnusedConstants() {
    let index = GraphIndex(self)
    for place in values.indices where index.users[place].isEmpty && !index.isOutput[place] {
      values[place].constant = nil
    }
  }

  /// The elements of all constants, those of graphs inside nodes included.
  package var parameterCount: Int { allConstants.reduce(0) { $0 + $1.count } }

  /// The multiply-adds of the main graph, where every symbolic extent is `symbolExtent`; nil if one is unknown.
  package func multiplyAdds(registry: OperatorRegistry, symbolExtent: Int = 64) -> Int? {
    var total = 0
    for node in nodes {
      guard let schema = registry.definition(of: node.op)?.schema, let formula = schema.multiplyAdds else { continue }
      let product = formula(facts(of: node, schema))
      let symbols = Dictionary(product.symbols.map { ($0, Dim(symbolExtent)) }) { first, _ in first }
      guard let number = product.substituting(symbols).known else { return nil }
      total += number
    }
    return total
  }
}
