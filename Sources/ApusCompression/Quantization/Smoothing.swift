// Moves magnitudes of activations into the weights that follow, where one scale must serve all channels of a row.
// G. Xiao et al., SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models, 2022.

import ApusGraph
import ApusTensor

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Divides each channel of what products read by a number of its own, and multiplies their weights by the same, where
/// that lessens the error.
struct Smoothing {
  /// 0: nothing of the magnitudes is moved, 1: all.
  let strength: Float

  /// Products that read the same value along its last axis.
  struct Site {
    let value: ValueID
    let products: [NodeID]
    let channels: Int
  }

  /// Weights below count as this.
  private static let leastMagnitude: Float = 1e-5

  /// The values that can be smoothed: all products that read them are of matrices.
  static func sites(_ units: QuantizationUnits, in graph: borrowing GraphEditor) -> [Site] {
    var readers: [ValueID: [NodeID]] = [:]
    var order: [ValueID] = []
    for unit in units.units {
      guard case .product(let axes) = unit.kind, axes.groups == 1, let value = unit.operands.first,
        let rank = graph.fact(value).tensor?.shape?.count, axes.data == rank - 1,
        let weights = graph.constant(graph[unit.node].inputs[1]), weights.rank == 2
      else { continue }
      if readers[value] == nil { order.append(value) }
      readers[value, default: []].append(unit.node)
    }
    return order.compactMap { value in
      guard let products = readers[value], let first = products.first else { return nil }
      let node = graph[first]
      guard let schema = graph.schema(of: node.op), let axes = schema.weights?.axes(graph.facts(of: node, schema)),
        let weights = graph.constant(node.inputs[1])
      else { return nil }
      return Site(value: value, products: products, channels: weights.shape[axes.inputs])
    }
  }

  /// Smooths the sites for the greatest magnitudes that were seen of each channel, by the name of the value. Returns
  /// how many were.
  func apply(
    to graph: inout GraphEditor, _ sites: [Site], _ seen: [String: ChannelStatistics]
  ) throws(OperatorError) -> Int {
    var count = 0
    for site in sites {
      guard let channels = seen[graph.name(of: site.value)]?.magnitudes, channels.count == site.channels else {
        continue
      }
      let matrices = site.products.compactMap { matrix(of: $0, in: graph) }
      let factors = self.factors(channels, matrices)
      // Where few channels carry most of the products, dividing makes the others too small for the common step.
      if noise(channels, matrices, factors) >= noise(channels, matrices, nil) { continue }
      for product in site.products { scaleWeights(of: product, by: factors, &graph) }
      try divide(site, by: factors, &graph)
      count += 1
    }
    return count
  }

  /// The weights of a product, by their inputs and by their outputs.
  private struct Matrix {
    let numbers: [Float]
    let inputs: ChannelWalk
    let outputs: ChannelWalk
  }

  private func matrix(of product: NodeID, in graph: borrowing GraphEditor) -> Matrix? {
    guard let tensor = graph.constant(graph[product].inputs[1]), let numbers = tensor.elements(as: Float.self) else {
      return nil
    }
    let axis = inputAxis(of: product, in: graph)
    return Matrix(
      numbers: numbers, inputs: ChannelWalk(shape: tensor.shape, axis: axis),
      outputs: ChannelWalk(shape: tensor.shape, axis: 1 - axis))
  }

  private func factors(_ activations: [Float], _ matrices: [Matrix]) -> [Float] {
    var weights = [Float](repeating: 0, count: activations.count)
    for matrix in matrices {
      for channel in weights.indices {
        matrix.inputs.forEach(channel) { weights[channel] = max(weights[channel], abs(matrix.numbers[$0])) }
      }
    }
    return zip(activations, weights).map { activation, weight in
      guard activation > Smoothing.leastMagnitude else { return 1 }
      let factor =
        Smoothing.power(activation, strength)
        / Smoothing.power(max(weight, Smoothing.leastMagnitude), 1 - strength)
      return factor.isFinite && factor > 0 ? max(factor, Smoothing.leastMagnitude) : 1
    }
  }

  /// An estimate of the squared error of the products when both operands have 8 bits: the step of the activations by
  /// the squares of the weights, and the steps of the weights by the squares of the activations, which are taken to be
  /// a third of their greatest magnitude.
  private func noise(_ activations: [Float], _ matrices: [Matrix], _ factors: [Float]?) -> Double {
    func factor(_ channel: Int) -> Double { Double(factors?[channel] ?? 1) }
    let scaled = activations.indices.map { Double(activations[$0]) / factor($0) }
    let step = (scaled.max() ?? 0) / 127
    let energy = scaled.reduce(0) { $0 + $1 * $1 } / 9
    var noise = 0.0
    for matrix in matrices {
      var greatest = [Double](repeating: 0, count: matrix.outputs.channels)
      var squares = 0.0
      var column = [Int](repeating: 0, count: matrix.numbers.count)
      for output in greatest.indices { matrix.outputs.forEach(output) { column[$0] = output } }
      for channel in activations.indices {
        let factor = factor(channel)
        matrix.inputs.forEach(channel) { index in
          let weight = abs(Double(matrix.numbers[index])) * factor
          squares += weight * weight
          greatest[column[index]] = max(greatest[column[index]], weight)
        }
      }
      noise += step * step * squares + greatest.reduce(0) { $0 + $1 * $1 } / (127 * 127) * energy
    }
    return noise
  }

  private static func power(_ base: Float, _ exponent: Float) -> Float { Float(pow(Double(base), Double(exponent))) }

  private func inputAxis(of product: NodeID, in graph: borrowing GraphEditor) -> Int {
    let node = graph[product]
    return graph.schema(of: node.op).flatMap { schema in
      schema.weights?.axes(graph.facts(of: node, schema))?.inputs
    } ?? 0
  }

  private func scaleWeights(of product: NodeID, by factors: [Float], _ graph: inout GraphEditor) {
    guard let tensor = graph.constant(graph[product].inputs[1]), var numbers = tensor.elements(as: Float.self) else {
      return
    }
    let walk = ChannelWalk(shape: tensor.shape, axis: inputAxis(of: product, in: graph))
    for channel in 0..<walk.channels { walk.forEach(channel) { numbers[$0] *= factors[channel] } }
    let constant = graph.addConstant(Tensor(numbers, shape: tensor.shape))
    graph.update(product) { $0.inputs[1] = constant }
  }

  /// Divides what the products read: in the scale and bias of a normalization that nobody else reads, else by a product
  /// of its own.
  private func divide(_ site: Site, by factors: [Float], _ graph: inout GraphEditor) throws(OperatorError) {
    let inverse = factors.map { 1 / $0 }
    let users = Set(graph.users(of: site.value))
    if !graph.isOutput(site.value), users.isSubset(of: Set(site.products)),
      let normalization = graph.producer(of: site.value), isAffine(normalization, channels: factors.count, in: graph)
    {
      for input in 1..<graph[normalization].inputs.count {
        guard let value = graph[normalization].inputs[input], let tensor = graph.constant(value),
          let numbers = tensor.elements(as: Float.self)
        else { continue }
        let constant = graph.addConstant(Tensor(zip(numbers, inverse).map { $0 * $1 }, shape: tensor.shape))
        graph.update(normalization) { $0.inputs[input] = constant }
      }
      return
    }
    let place = graph.producer(of: site.value).map { graph.node(after: $0) } ?? graph.firstNode
    let name = graph.name(of: site.value)
    let divided = try graph.apply(
      OperatorID("Mul"), name: "\(name)/smooth", [site.value, graph.addConstant(Tensor(inverse))], before: place)
    for product in site.products {
      graph.update(product) { node in node.inputs = node.inputs.map { $0 == site.value ? divided : $0 } }
    }
  }

  private static let normalizations: Set<OperatorID> = [
    OperatorID("LayerNormalization"), OperatorID("RMSNormalization"),
  ]

  /// Whether a node ends by multiplying each channel of the last axis by a constant number, and adding one.
  private func isAffine(_ id: NodeID, channels: Int, in graph: borrowing GraphEditor) -> Bool {
    let node = graph[id]
    guard Smoothing.normalizations.contains(node.op), node.outputs.count(where: { $0 != nil }) == 1 else {
      return false
    }
    return node.inputs.dropFirst().allSatisfy { input in
      input.map { graph.constant($0).map { $0.dataType == .float32 && $0.shape.dims == [channels] } ?? false } ?? true
    }
  }
}
