// Puts operators with weights of few bits in the place of those with float weights.

import ApusGraph
import ApusTensor

/// A weight in few bits, in the form that the graph will have.
struct QuantizedWeight: Sendable {
  let grid: WeightGrid
  /// For `Format.microsoft`.
  let blocks: PackedBlocks?
  /// For `Format.standard`.
  let form: DequantizedForm?
  /// Whether a product uses it somewhere.
  let isFactor: Bool
}

/// Rewrites the sites of one graph.
struct WeightRewriting {
  private let weights: [WeightKey: QuantizedWeight]
  private let options: WeightQuantizationOptions
  /// Values of this graph that have been made for a weight: codes, scales and zero points; what DequantizeLinear gives.
  private var operands: [WeightKey: [ValueID?]] = [:]
  private var dequantized: [WeightKey: ValueID] = [:]

  init(_ weights: [WeightKey: QuantizedWeight], _ options: WeightQuantizationOptions) {
    (self.weights, self.options) = (weights, options)
  }

  /// Rewrites the sites whose weights were quantized.
  mutating func apply(to sites: [WeightSite], in graph: inout GraphEditor) throws(OperatorError) {
    for site in sites {
      guard let weight = weights[site.key] else { continue }
      if let form = weight.form {
        try dequantize(site, form, in: &graph)
      } else if let blocks = weight.blocks {
        switch site.role {
        case .product: try replaceProduct(site, weight, blocks, in: &graph)
        case .table: try replaceTable(site, weight, blocks, in: &graph)
        case .convolution: continue
        }
      }
    }
    try graph.settle(keepsFaults: true)
  }

  // MARK: - DequantizeLinear

  private mutating func dequantize(
    _ site: WeightSite, _ form: DequantizedForm, in graph: inout GraphEditor
  ) throws(OperatorError) {
    let value: ValueID
    if let known = dequantized[site.key] {
      value = known
    } else {
      var inputs: [ValueID?] = [graph.addConstant(form.codes), graph.addConstant(form.scales)]
      if let zeros = form.zeros { inputs.append(graph.addConstant(zeros)) }
      var attributes: [(String, AttributeValue)] = [("axis", .int(form.axis))]
      if form.blockSize > 0 { attributes.append(("block_size", .int(form.blockSize))) }
      // Before all nodes: constants are all that it reads.
      value = try graph.apply(
        OperatorID("DequantizeLinear"), name: "\(site.name)/dequantized", inputs, attributes, before: graph.firstNode)
      dequantized[site.key] = value
    }
    graph.update(site.holder.node) { $0.inputs[site.holder.input] = value }
  }

  // MARK: - com.microsoft

  private mutating func operands(
    of site: WeightSite, _ blocks: PackedBlocks, in graph: inout GraphEditor
  ) -> [ValueID?] {
    if let known = operands[site.key] { return known }
    let made = [
      graph.addConstant(blocks.codes), graph.addConstant(blocks.scales), blocks.zeros.map { graph.addConstant($0) },
    ]
    operands[site.key] = made
    return made
  }

  private mutating func replaceProduct(
    _ site: WeightSite, _ weight: QuantizedWeight, _ blocks: PackedBlocks, in graph: inout GraphEditor
  ) throws(OperatorError) {
    let node = graph[site.node]
    let grid = weight.grid
    var inputs = [node.inputs[0]] + operands(of: site, blocks, in: &graph)
    let addend = node.inputs.count > 2 ? node.inputs[2] : nil
    let isBias = addend.map { graph.fact($0).tensor?.shape?.map(\.known) == [grid.rows] } ?? false
    if isBias { inputs += [nil, addend] }
    while inputs.last == .some(nil) { inputs.removeLast() }
    var attributes: [(String, AttributeValue)] = [
      ("K", .int(grid.depth)), ("N", .int(grid.rows)), ("bits", .int(grid.bits)), ("block_size", .int(blocks.block)),
    ]
    if options.accuracyLevel > 0 { attributes.append(("accuracy_level", .int(options.accuracyLevel))) }
    let product = OperatorID("MatMulNBits", domain: "com.microsoft")
    let result = Node(
      product, name: node.name, inputs: inputs, outputs: [node.outputs[0]], attributes: Attributes(attributes))
    guard let addend, !isBias else { return graph.update(site.node) { $0 = result } }
    let value = try graph.apply(product, name: node.name, inputs, attributes, before: site.node)
    graph.update(site.node) {
      $0 = Node(OperatorID("Add"), name: node.name + "/add", inputs: [value, addend], outputs: node.outputs)
    }
  }

  private mutating func replaceTable(
    _ site: WeightSite, _ weight: QuantizedWeight, _ blocks: PackedBlocks, in graph: inout GraphEditor
  ) throws(OperatorError) {
    let node = graph[site.node]
    let grid = weight.grid
    let operands = operands(of: site, blocks, in: &graph)
    let table: ValueID
    if weight.isFactor, grid.depth % blocks.block == 0 {
      // One table for both: products want its rows in blocks.
      let rows = Tensor([Int64(grid.rows), Int64(grid.depth * grid.bits / 8)], shape: [2])
      table = try graph.apply(
        OperatorID("Reshape"), name: "\(site.name)/table", [operands[0], graph.addConstant(rows)], before: site.node)
    } else {
      table = graph.addConstant(blocks.tableCodes(depth: grid.depth, bits: grid.bits))
    }
    let attributes: [(String, AttributeValue)] = [
      ("bits", .int(grid.bits)), ("block_size", .int(blocks.block)), ("gather_axis", .int(0)),
      ("quantize_axis", .int(1)),
    ]
    let inputs = [table, node.inputs[1], operands[1], operands[2]]
    graph.update(site.node) {
      $0 = Node(
        OperatorID("GatherBlockQuantized", domain: "com.microsoft"), name: node.name,
        inputs: inputs.last == .some(nil) ? Array(inputs.dropLast()) : inputs, outputs: node.outputs,
        attributes: Attributes(attributes))
    }
  }
}
