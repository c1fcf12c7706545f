// Shares out the magnitudes of channels between neighbouring convolutions, so that one scale fits all channels better.
// M. Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019.

import ApusGraph
import ApusTensor

/// Divides the outputs of one product by a number each, and multiplies the inputs of the next by the same: what lies
/// between may only cut off what is below zero.
struct LayerEqualization {
  /// Two products with nothing between that would tell a channel from its multiple.
  private struct Pair {
    let first, second: NodeID
    let firstAxes, secondAxes: WeightTrait.Axes
  }

  /// Times that all pairs are gone through; magnitudes wander from one to the next.
  private static let rounds = 4
  /// Channels are not scaled by more than this, nor by less than its inverse.
  private static let greatestFactor: Float = 1024

  /// Returns the number of pairs that were equalized.
  static func apply(to graph: inout GraphEditor) -> Int {
    let pairs = pairs(in: graph)
    for _ in 0..<rounds {
      for pair in pairs { equalize(pair, &graph) }
    }
    return pairs.count
  }

  private static func pairs(in graph: borrowing GraphEditor) -> [Pair] {
    graph.nodes.compactMap { second in
      guard let (axes, data) = product(second, in: graph), let first = producer(of: data, in: graph),
        let (firstAxes, _) = product(first, in: graph), firstAxes.result == axes.data, hasOwnWeights(first, in: graph),
        hasOwnWeights(second, in: graph), firstAxes.outputs == 0 || firstAxes.groups == 1,
        channels(first, in: graph) == inputs(second, axes, in: graph)
      else { return nil }
      return Pair(first: first, second: second, firstAxes: firstAxes, secondAxes: axes)
    }
  }

  private static func product(
    _ id: NodeID, in graph: borrowing GraphEditor
  ) -> (axes: WeightTrait.Axes, data: ValueID)? {
    let node = graph[id]
    guard let schema = graph.schema(of: node.op), let trait = schema.weights,
      let axes = trait.axes(graph.facts(of: node, schema)), let data = node.inputs[trait.data],
      trait.weights == LayerEqualization.weights, graph.constant(node.inputs[trait.weights])?.dataType == .float32
    else { return nil }
    // A product with a bias that is computed, or of another shape, cannot be scaled.
    if node.inputs.count > bias, let added = node.inputs[bias] {
      guard let constant = graph.constant(added), constant.count == channels(id, in: graph) else { return nil }
    }
    return (axes, data)
  }

  private static let weights = 1
  private static let bias = 2

  /// The product that computes a value for one reader, by way of a Relu or not.
  private static func producer(of value: ValueID, in graph: borrowing GraphEditor) -> NodeID? {
    var value = value
    while graph.useCount(of: value) == 1, !graph.isOutput(value), let producer = graph.producer(of: value) {
      let node = graph[producer]
      guard let schema = graph.schema(of: node.op) else { return nil }
      if schema.weights != nil { return producer }
      guard case .clamps(let bounds) = schema.codes, let range = bounds(graph.facts(of: node, schema)),
        range.lowerBound == 0 || range.lowerBound == -.infinity, range.upperBound == .infinity,
        let input = node.inputs[0]
      else { return nil }
      value = input
    }
    return nil
  }

  private static func hasOwnWeights(_ id: NodeID, in graph: borrowing GraphEditor) -> Bool {
    graph[id].inputs.dropFirst().allSatisfy { $0.map { graph.useCount(of: $0) == 1 && !graph.isOutput($0) } ?? true }
  }

  private static func channels(_ id: NodeID, in graph: borrowing GraphEditor) -> Int {
    let node = graph[id]
    guard let schema = graph.schema(of: node.op), let axes = schema.weights?.axes(graph.facts(of: node, schema)),
      let tensor = graph.constant(node.inputs[weights])
    else { return 0 }
    return tensor.shape[axes.outputs] * (axes.outputs == 0 ? 1 : axes.groups)
  }

  private static func inputs(_ id: NodeID, _ axes: WeightTrait.Axes, in graph: borrowing GraphEditor) -> Int {
    guard let tensor = graph.constant(graph[id].inputs[weights]) else { return -1 }
    return tensor.shape[axes.inputs] * (axes.inputs == 0 ? 1 : axes.groups)
  }

  /// The channel of the data that each element of the weights is multiplied with.
  static func dataChannels(of shape: Shape, _ axes: WeightTrait.Axes) -> (Int) -> Int {
    let strides = shape.strides
    let (inputs, outputs) = (shape[axes.inputs], shape[axes.outputs])
    // With outputs first, groups divide them; with inputs first, they divide these and count outputs within a group.
    let perGroup = axes.outputs == 0 ? max(outputs / axes.groups, 1) : .max
    return { index in
      let input = index / strides[axes.inputs] % inputs
      let output = index / strides[axes.outputs] % outputs
      return axes.groups == 1 || axes.inputs == 0 ? input : output / perGroup * inputs + input
    }
  }

  private static func equalize(_ pair: Pair, _ graph: inout GraphEditor) {
    let (firstNode, secondNode) = (graph[pair.first], graph[pair.second])
    guard let w1 = graph.constant(firstNode.inputs[weights]), let w2 = graph.constant(secondNode.inputs[weights]),
      var first = w1.elements(as: Float.self), var second = w2.elements(as: Float.self)
    else { return }
    let count = channels(pair.first, in: graph)
    let outputs = ChannelWalk(shape: w1.shape, axis: pair.firstAxes.outputs)
    let channel = dataChannels(of: w2.shape, pair.secondAxes)
    var (a, b) = ([Float](repeating: 0, count: count), [Float](repeating: 0, count: count))
    for index in 0..<outputs.channels { outputs.forEach(index) { a[index] = max(a[index], abs(first[$0])) } }
    for index in second.indices { b[channel(index)] = max(b[channel(index)], abs(second[index])) }
    let factors = zip(a, b).map { a, b -> Float in
      guard a > 0, b > 0 else { return 1 }
      // Powers of two: no element is rounded by it.
      let exact = (a / b).squareRoot()
      let power = Float(sign: .plus, exponent: exact.exponent, significand: exact.significand >= 1.5 ? 2 : 1)
      return min(max(power, 1 / greatestFactor), greatestFactor)
    }
    if factors.allSatisfy({ $0 == 1 }) { return }
    for index in 0..<outputs.channels { outputs.forEach(index) { first[$0] /= factors[index] } }
    for index in second.indices { second[index] *= factors[channel(index)] }
    replace(weights, of: pair.first, with: Tensor(first, shape: w1.shape), &graph)
    replace(weights, of: pair.second, with: Tensor(second, shape: w2.shape), &graph)
    if firstNode.inputs.count > bias, let value = firstNode.inputs[bias], let tensor = graph.constant(value),
      let numbers = tensor.elements(as: Float.self)
    {
      let scaled = numbers.indices.map { numbers[$0] / factors[$0] }
      replace(bias, of: pair.first, with: Tensor(scaled, shape: tensor.shape), &graph)
    }
  }

  private static func replace(_ input: Int, of node: NodeID, with tensor: Tensor, _ graph: inout GraphEditor) {
    let constant = graph.addConstant(tensor)
    graph.update(node) { $0.inputs[input] = constant }
  }
}
