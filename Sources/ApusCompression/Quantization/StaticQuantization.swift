// Puts QuantizeLinear and DequantizeLinear around the nodes that are computed on integers.
// https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html

import ApusGraph
import ApusTensor

/// A graph that becomes one of integers.
package struct StaticQuantization: ~Copyable {
  private var graph: GraphEditor
  private let units: QuantizationUnits
  private let plan: CodePlan
  private let options: QuantizationOptions
  /// By the name of a value: the mean of each of its channels, where biases are corrected.
  private let means: [String: [Float]]
  private let rounding: AdaptiveRounding?
  /// By value: what its integers stand for.
  private var numbers: [ValueID: ValueID] = [:]
  /// Values whose place their numbers take.
  private var renamed: [(value: ValueID, numbers: ValueID)] = []
  private var weights: [WeightKey: ValueID] = [:]
  package private(set) var report: [QuantizedNode] = []

  private struct WeightKey: Hashable {
    let value: ValueID
    let axis: Int?
    let leastScales: [Float]
  }

  package init(
    _ graph: consuming GraphEditor, _ units: QuantizationUnits, _ plan: CodePlan, _ options: QuantizationOptions,
    means: [String: [Float]] = [:], rounding: AdaptiveRounding? = nil
  ) {
    self.rounding = rounding
    self.graph = graph
    (self.units, self.plan, self.options, self.means) = (units, plan, options, means)
  }

  /// The graph with integers of these codes.
  package consuming func apply(
    _ codes: [ValueID: TensorCode]
  ) throws(CompressionError) -> (graph: Graph, report: [QuantizedNode]) {
    do throws(OperatorError) {
      for value in plan.values { if let code = codes[value] { try quantize(value, code) } }
      for unit in units.units { try quantize(unit, codes) }
      try graph.settle()
      try graph.verify()
    } catch {
      throw CompressionError(error)
    }
    let (report, renamed) = (report, renamed)
    var result = graph.finish()
    // What the integers stand for takes the place of the floats, and their name.
    for (value, numbers) in renamed {
      result[numbers].name = result[value].name
      result[value].name = ""
    }
    return (result, report)
  }

  // MARK: - Values

  private mutating func quantize(_ value: ValueID, _ code: TensorCode) throws(OperatorError) {
    let producer = graph.producer(of: value)
    let unit = producer.flatMap { units.unit(of: $0) }
    let result = graph.addValue()
    if unit != nil {
      // Whoever reads it gets what the integers stand for, so that nobody needs the floats.
      graph.replaceUses(of: value, with: result)
      renamed.append((value, result))
    } else {
      for reader in Set(graph.users(of: value)) where units.unit(of: reader)?.operands.contains(value) ?? false {
        replaceInput(of: reader, value, with: result)
      }
    }
    var source = value
    // Integers of a code that cannot leave the bounds need no clamping before.
    let isBounded = unit?.clamp.map { covers($0, code) } ?? false
    if isBounded, let producer, let input = graph[producer].inputs[0] { source = input }
    let name = graph.name(of: value)
    let place = producer.map { graph.node(after: $0) } ?? graph.firstNode
    let (scale, zero) = (graph.addConstant(code.scaleTensor), graph.addConstant(code.zeroPointTensor))
    let integers = try graph.apply(
      StaticQuantization.quantizeLinear, name: "\(name)/QuantizeLinear", [source, scale, zero], before: place)
    try graph.insert(
      Node(
        StaticQuantization.dequantizeLinear, name: "\(name)/DequantizeLinear", inputs: [integers, scale, zero],
        outputs: [result]), before: place)
    if source != value, let producer { graph.remove(producer) }
    numbers[value] = result
  }

  private static let quantizeLinear = OperatorID("QuantizeLinear")
  private static let dequantizeLinear = OperatorID("DequantizeLinear")

  /// Whether numbers between the bounds and beyond them have the same integers as clamped ones.
  private func covers(_ clamp: ClosedRange<Float>, _ code: TensorCode) -> Bool {
    let half = code.scale / 2
    return code.span.lowerBound >= clamp.lowerBound - half && code.span.upperBound <= clamp.upperBound + half
  }

  private mutating func replaceInput(of node: NodeID, _ value: ValueID, with other: ValueID) {
    guard graph.exists(node) else { return }
    graph.update(node) { node in node.inputs = node.inputs.map { $0 == value ? other : $0 } }
  }

  // MARK: - Units

  private mutating func quantize(
    _ unit: QuantizationUnit, _ codes: [ValueID: TensorCode]
  ) throws(OperatorError) {
    guard case .product(let axes) = unit.kind else {
      for operand in unit.operands {
        guard let constant = graph.constant(operand)?.elements(as: Float.self), let code = codes[operand] else {
          continue
        }
        let shape = graph.constant(operand)?.shape ?? []
        let integers = Tensor(integers: constant.map { code.integer($0) }, shape: shape, type: code.type)
        let result = try graph.apply(
          StaticQuantization.dequantizeLinear, name: "\(graph[unit.node].name)/constant",
          [
            graph.addConstant(integers), graph.addConstant(code.scaleTensor), graph.addConstant(code.zeroPointTensor),
          ], before: unit.node)
        replaceInput(of: unit.node, operand, with: result)
      }
      return
    }
    try quantizeProduct(unit, axes, codes)
  }

  private mutating func quantizeProduct(
    _ unit: QuantizationUnit, _ axes: WeightTrait.Axes, _ codes: [ValueID: TensorCode]
  ) throws(OperatorError) {
    let node = graph[unit.node]
    guard let trait = graph.schema(of: node.op)?.weights, let operand = node.inputs[trait.weights],
      let tensor = ProductWeights(operand, in: graph)?.tensor(in: graph),
      let numbers = tensor.elements(as: Float.self),
      let code = unit.operands.first.flatMap({ codes[$0] })
    else { return }
    let axis = hasScales(tensor, of: node) ? axes.outputs : nil
    let channels = tensor.shape[axes.outputs] * (axes.outputs == 0 ? 1 : axes.groups)
    var bias = trait.bias.flatMap { position in
      node.inputs.count > position ? node.inputs[position].flatMap { graph.constant($0) } : nil
    }
    if let means = means[graph.name(of: unit.operands[0])], let position = trait.bias,
      bias == nil || bias?.shape.dims == [channels]
    {
      let plain =
        rounding?.codes(of: tensor, axes)
        ?? WeightCodes(numbers, shape: tensor.shape, axis: axis, options.weightOptions)
      let error = outputError(plain, numbers, axes, means, channels: channels)
      let given = bias?.elements(as: Float.self) ?? [Float](repeating: 0, count: channels)
      let corrected = Tensor(zip(given, error).map { $0 - $1 })
      let constant = graph.addConstant(corrected)
      graph.update(unit.node) { node in
        while node.inputs.count <= position { node.inputs.append(nil) }
        node.inputs[position] = constant
      }
      bias = corrected
    }
    let sums = quantizesBias(unit, bias, count: channels) ? bias?.elements(as: Float.self) : nil
    // Sums begin with the bias in 32 bits, of which the products need their share.
    let leastScales = sums.map { sums in sums.map { abs($0) / (code.scale * StaticQuantization.greatestBias) } } ?? []
    let weights =
      rounding?.codes(of: tensor, axes, leastScales: leastScales)
      ?? WeightCodes(
        numbers, shape: tensor.shape, axis: axis, options.weightOptions,
        leastScales: leastScales.isEmpty
          ? nil : { channel in axis == nil ? leastScales.max() ?? 0 : leastScales[channel % leastScales.count] })
    let dequantized = try dequantizedWeights(weights, operand, leastScales, before: unit.node)
    graph.update(unit.node) { node in node.inputs[trait.weights] = dequantized }
    graph.removeUnused(operand)
    if let sums, let position = trait.bias {
      let result = try addBias(sums, code, weights, before: unit.node, name: node.name)
      graph.update(unit.node) { node in node.inputs[position] = result }
    }
    report.append(
      QuantizedNode(
        name: node.name, op: node.op.description, output: graph.name(of: unit.output),
        input: unit.operands.first.map { graph.name(of: $0) } ?? "", inputCode: code, weightType: weights.type,
        weightNoise: SignalNoise(numbers, weights.numbers), rounding: rounding?.outcome(for: tensor, axes)))
  }

  /// Whether each output has a scale of its own. Of batches of matrices onnxruntime takes one only.
  private func hasScales(_ weights: Tensor, of node: Node) -> Bool {
    if !options.isPerChannel || weights.rank < 2 { return false }
    if case .images? = graph.schema(of: node.op)?.layout { return true }
    return weights.rank == 2
  }

  /// The numbers of quantized weights, once for all products that read the same.
  private mutating func dequantizedWeights(
    _ weights: WeightCodes, _ operand: ValueID, _ leastScales: [Float], before place: NodeID
  ) throws(OperatorError) -> ValueID {
    let key = WeightKey(value: operand, axis: weights.axis, leastScales: leastScales)
    if let known = self.weights[key] { return known }
    let result = try addWeights(weights, name: graph.name(of: operand), before: place)
    self.weights[key] = result
    return result
  }

  /// What each output is off by in the mean, when the data have these means: by that of its weights.
  private func outputError(
    _ codes: WeightCodes, _ numbers: [Float], _ axes: WeightTrait.Axes, _ means: [Float], channels: Int
  ) -> [Float] {
    let found = codes.numbers
    var errors = [Double](repeating: 0, count: channels)
    let data = LayerEqualization.dataChannels(of: codes.shape, axes)
    let walk = ChannelWalk(shape: codes.shape, axis: axes.outputs)
    if axes.outputs != 0, axes.groups > 1 { return [Float](repeating: 0, count: channels) }
    for channel in 0..<walk.channels {
      walk.forEach(channel) { index in
        let position = data(index)
        guard position < means.count else { return }
        errors[channel] += Double(found[index] - numbers[index]) * Double(means[position])
      }
    }
    return errors.map { Float($0) }
  }

  private static let greatestBias: Float = 0x1p29

  /// Biases become integers where the sums that they begin do: not where the result stays float.
  private func quantizesBias(_ unit: QuantizationUnit, _ bias: Tensor?, count: Int) -> Bool {
    guard let bias, bias.dataType == .float32, bias.shape.dims == [count], options.target != .tensorrt,
      graph.constant(unit.operands[0]) == nil
    else { return false }
    return numbers[unit.output] != nil
  }

  private mutating func addWeights(
    _ weights: WeightCodes, name: String, before place: NodeID
  ) throws(OperatorError) -> ValueID {
    var inputs: [ValueID?] = [graph.addConstant(weights.tensor), graph.addConstant(weights.scaleTensor)]
    if let zeroPoint = weights.zeroPointTensor { inputs.append(graph.addConstant(zeroPoint)) }
    return try graph.apply(
      StaticQuantization.dequantizeLinear, name: "\(name)/DequantizeLinear", inputs,
      weights.axis.map { [("axis", .int($0))] } ?? [], before: place)
  }

  private mutating func addBias(
    _ sums: [Float], _ code: TensorCode, _ weights: WeightCodes, before place: NodeID, name: String
  ) throws(OperatorError) -> ValueID {
    // Outputs of all groups share the scales of transposed weights, which count them within a group.
    let factors = weights.scales.map { $0 * code.scale }
    let scales = factors.count == 1 ? factors : sums.indices.map { factors[$0 % factors.count] }
    let integers = sums.indices.map { channel in
      Int32(clamping: Int((sums[channel] / scales[scales.count == 1 ? 0 : channel]).rounded(.toNearestOrEven)))
    }
    let scale = scales.count == 1 ? Tensor(scalar: scales[0]) : Tensor(scales)
    return try graph.apply(
      StaticQuantization.dequantizeLinear, name: "\(name)/bias",
      [graph.addConstant(Tensor(integers)), graph.addConstant(scale)],
      scales.count == 1 ? [] : [("axis", .int(0))], before: place)
  }
}
