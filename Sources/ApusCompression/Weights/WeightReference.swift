// The weights of a model's products: what pruning, clustering and the report of sparsity work on.

import ApusGraph
import ApusTensor

/// A constant of floats that a product of its graph reads as a weight, perhaps through operators that only put its
/// axes in another order.
package struct WeightReference: Sendable, Hashable {
  /// The first node that reads it, in the order of the graph, with the nodes that the graph lies in before it.
  package let node: String
  package let op: OperatorID
  /// The constant in its graph.
  package let value: ValueID
  /// The name of the constant, or that of the node with the input's where it has none.
  package let name: String
  /// The axis of the constant whose indices are the channels that the product computes, and the one over which it sums.
  package let outputAxis: Int
  package let inputAxis: Int
  /// The nodes that sum over another axis of the same constant.
  package var crossReaders: [String] = []
}

extension Graph {
  /// The weights of this graph alone, each once, in the order of the nodes that read them. `path` names the nodes that
  /// the graph lies in.
  package func productWeights(registry: OperatorRegistry, path: String = "") -> [WeightReference] {
    let index = GraphIndex(self)
    var places: [ValueID: Int] = [:]
    var weights: [WeightReference] = []
    for node in nodes {
      guard let schema = registry.definition(of: node.op)?.schema, schema.axes != nil else { continue }
      for weight in facts(of: node, schema).axisLinks.weights {
        guard weight.input < node.inputs.count, let operand = node.inputs[weight.input],
          let origin = origin(of: operand, [weight.outputAxis, weight.inputAxis], index, registry),
          let tensor = constant(origin.value), WeightNumbers.types.contains(tensor.dataType), tensor.count > 0
        else { continue }
        if let place = places[origin.value] {
          if weights[place].inputAxis != origin.axes[1] { weights[place].crossReaders.append(path + node.name) }
          continue
        }
        places[origin.value] = weights.count
        let name = self[origin.value].name
        weights.append(
          WeightReference(
            node: path + node.name, op: node.op, value: origin.value,
            name: name.isEmpty ? "\(path)\(node.name):\(schema.inputs[weight.input].name)" : name,
            outputAxis: origin.axes[0], inputAxis: origin.axes[1]))
      }
    }
    return weights
  }

  /// The constant that a value is in another order of axes, and where its axes lie there; nil if it is none.
  private func origin(
    of value: ValueID, _ axes: [Int], _ index: GraphIndex, _ registry: OperatorRegistry
  ) -> (value: ValueID, axes: [Int])? {
    // More movements than any exporter puts behind a weight.
    let longest = 8
    var (value, axes) = (value, axes)
    for _ in 0..<longest {
      if constant(value) != nil { return (value, axes) }
      guard let producer = index.producer(of: value), nodes[producer].outputs.first == value,
        let schema = registry.definition(of: nodes[producer].op)?.schema,
        let first = nodes[producer].inputs.first ?? nil
      else { return nil }
      let links = facts(of: nodes[producer], schema).axisLinks.links
      var sources: [Int] = []
      for axis in axes {
        guard let source = links.lazy.compactMap({ $0.isPlain ? $0.inputAxis(of: axis) : nil }).first else {
          return nil
        }
        sources.append(source)
      }
      guard nodes[producer].inputs.dropFirst().allSatisfy({ $0.map { constant($0) != nil } ?? true }) else {
        return nil
      }
      (value, axes) = (first, sources)
    }
    return nil
  }

  /// Calls `change` with every weight, those of graphs inside nodes included, and puts what it returns in its place.
  /// Returns how many it put. Replacements have the type and the shape of what they replace.
  package mutating func replaceWeights(
    registry: OperatorRegistry, path: String = "",
    _ change: (WeightReference, Tensor) throws(OperatorError) -> Tensor?
  ) throws(OperatorError) -> Int {
    let weights = productWeights(registry: registry, path: path)
    var editor = GraphEditor(self, inference: InferenceDriver(registry: registry, keepsFaultySubgraphs: true))
    var count = 0
    for weight in weights {
      guard let tensor = editor.constant(weight.value), let changed = try change(weight, tensor) else { continue }
      editor.replace(weight.value, withConstant: changed)
      count += 1
    }
    for node in editor.nodes where editor.hasSubgraphs(node) {
      let inner = path + editor[node].name + " › "
      count += try editor.updateSubgraphs(of: node) { (subgraph) throws(OperatorError) in
        try subgraph.graph.replaceWeights(registry: registry, path: inner, change)
      }
    }
    try editor.settle()
    self = editor.finish()
    return count
  }

  /// Every weight, those of graphs inside nodes included, with its tensor.
  package func allWeights(registry: OperatorRegistry, path: String = "") -> [(weight: WeightReference, tensor: Tensor)]
  {
    var all = productWeights(registry: registry, path: path).compactMap { weight in
      constant(weight.value).map { (weight: weight, tensor: $0) }
    }
    for node in nodes {
      for (_, subgraph) in node.subgraphs {
        all += subgraph.graph.allWeights(registry: registry, path: path + node.name + " › ")
      }
    }
    return all
  }

  /// Every constant, those of graphs inside nodes included.
  package var allConstants: [Tensor] {
    values.compactMap(\.constant) + nodes.flatMap { $0.subgraphs.flatMap(\.subgraph.graph.allConstants) }
  }
}

extension AxisLinks.Link {
  /// The axis of input 0 that an axis of output 0 is; nil if the link says nothing of it.
  fileprivate func inputAxis(of output: Int) -> Int? {
    if axis == .output(0, output), case .input(0) = other.operand { return other.axis }
    if other == .output(0, output), case .input(0) = axis.operand { return axis.axis }
    return nil
  }
}
