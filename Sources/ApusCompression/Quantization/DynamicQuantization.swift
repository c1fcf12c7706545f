// Products of matrices whose left operand becomes integers in each run:
// DynamicQuantizeLinear → MatMulInteger → Cast → Mul.
// https://onnx.ai/onnx/operators/onnx__DynamicQuantizeLinear.html

import ApusGraph
import ApusTensor

/// A graph whose products of matrices become such of integers.
package struct DynamicQuantization: ~Copyable {
  private var graph: GraphEditor
  private let options: QuantizationOptions
  /// By value: its integers, their scale and their zero point.
  private var quantized: [ValueID: [ValueID]] = [:]
  /// By weights and whether they are transposed and scaled.
  private var weights: [WeightKey: (codes: WeightCodes, values: [ValueID?])] = [:]
  /// Results of products, and the floats that take their place.
  private var renamed: [(value: ValueID, numbers: ValueID)] = []
  package private(set) var report: [QuantizedNode] = []
  package private(set) var kept: [(name: String, op: String, reason: String)] = []

  private struct WeightKey: Hashable {
    let value: ValueID
    let isTransposed: Bool
    let factor: Float
  }

  package init(_ graph: consuming GraphEditor, _ options: QuantizationOptions) {
    self.graph = graph
    self.options = options
  }

  package consuming func apply() throws(CompressionError) -> (
    graph: Graph, report: [QuantizedNode], kept: [(name: String, op: String, reason: String)]
  ) {
    do throws(OperatorError) {
      for id in graph.nodes { try quantize(id) }
      try graph.settle()
      try graph.verify()
    } catch {
      throw CompressionError(error)
    }
    let (report, kept, renamed) = (report, kept, renamed)
    var result = graph.finish()
    for (value, numbers) in renamed {
      result[numbers].name = result[value].name
      result[value].name = ""
    }
    return (result, report, kept)
  }

  /// A product of a matrix, or of many, by one constant matrix.
  private struct Product {
    let data: ValueID
    let weights: ValueID
    let tensor: Tensor
    /// The weights are [outputs, inputs].
    let isTransposed: Bool
    /// What the product is multiplied by.
    let factor: Float
    /// What is added, and what that is multiplied by.
    let bias: ValueID?
    let biasFactor: Float
  }

  /// Why a product stays as it is; an empty text: it is none.
  private struct Unfit: Error { let reason: String }

  private func product(_ node: Node) throws(Unfit) -> Product {
    guard let schema = graph.schema(of: node.op), let trait = schema.weights else { throw Unfit(reason: "") }
    guard let operand = node.inputs[trait.weights], let data = node.inputs[trait.data] else { throw Unfit(reason: "") }
    guard let found = ProductWeights(operand, in: graph) else {
      throw Unfit(reason: ProductWeights.reason(operand, in: graph))
    }
    guard let tensor = found.tensor(in: graph) else { throw Unfit(reason: "its weights are no matrix of float32") }
    guard tensor.dataType == .float32, tensor.rank == 2, tensor.count > 0,
      let axes = trait.axes(graph.facts(of: node, schema)), axes.groups == 1
    else { throw Unfit(reason: "its weights are no matrix of float32") }
    guard let rank = graph.fact(data).tensor?.shape?.count, rank >= 2, axes.data == rank - 1,
      axes.result == rank - 1
    else { throw Unfit(reason: "it does not sum along the last axis of its data") }
    guard tensor.elements(as: Float.self)?.allSatisfy(\.isFinite) ?? false else {
      throw Unfit(reason: "its weights hold numbers that are not finite")
    }
    guard graph.constant(data) == nil else { throw Unfit(reason: "") }
    if graph.standsForCodes(data) { throw Unfit(reason: "it reads integers that the model has already") }
    let bias = trait.bias.flatMap { node.inputs.count > $0 ? node.inputs[$0] : nil }
    return Product(
      data: data, weights: operand, tensor: tensor, isTransposed: axes.outputs == 0,
      factor: node.attributes.float("alpha") ?? 1, bias: bias, biasFactor: node.attributes.float("beta") ?? 1)
  }

  private mutating func quantize(_ id: NodeID) throws(OperatorError) {
    let node = graph[id]
    if node.op == LSTMInputs.float { return quantizeRecurrence(id, node) }
    guard let output = node.outputs.first ?? nil else { return }
    let product: Product
    do throws(Unfit) {
      product = try self.product(node)
    } catch {
      if !error.reason.isEmpty { kept.append((node.name, node.op.description, error.reason)) }
      return
    }
    guard options.selection.contains(node) else {
      kept.append((node.name, node.op.description, "it is not among the chosen nodes"))
      return
    }
    let data = try integers(of: product.data, before: id)
    let weights = try integers(product, before: id)
    var inputs: [ValueID?] = [data[0], weights.values[0], data[2]]
    if let zero = weights.values[2] { inputs.append(zero) }
    let sums = try graph.apply(OperatorID("MatMulInteger"), name: node.name, inputs, before: id)
    let numbers = try graph.apply(
      OperatorID("Cast"), name: "\(node.name)/Cast", [sums], [("to", .int(Int(DataType.float32.rawValue)))], before: id)
    let scale = try graph.apply(
      OperatorID("Mul"), name: "\(node.name)/scale", [data[1], weights.values[1]], before: id)
    var result = try graph.apply(OperatorID("Mul"), name: "\(node.name)/Mul", [numbers, scale], before: id)
    if let bias = product.bias {
      let added = try scaled(bias, product.biasFactor, name: node.name, before: id)
      result = try graph.apply(OperatorID("Add"), name: "\(node.name)/Add", [result, added], before: id)
    }
    graph.replaceUses(of: output, with: result)
    renamed.append((output, result))
    graph.remove(id)
    graph.removeUnused(product.weights)
    report.append(
      QuantizedNode(
        name: node.name, op: node.op.description, output: graph.name(of: output), input: graph.name(of: product.data),
        inputCode: nil, weightType: weights.codes.type,
        weightNoise: SignalNoise(DynamicQuantization.matrix(product), weights.codes.numbers)))
  }

  /// An LSTM, where it stands.
  private mutating func quantizeRecurrence(_ id: NodeID, _ node: Node) {
    func keep(_ reason: String) { kept.append((node.name, node.op.description, reason)) }
    guard options.selection.contains(node) else { return keep("it is not among the chosen nodes") }
    guard node.inputs.count > LSTMInputs.recurrence, let data = node.inputs[LSTMInputs.data],
      graph.fact(data).elementType == .float32,
      let weights = graph.constant(node.inputs[LSTMInputs.weights]), weights.dataType == .float32,
      let recurrence = graph.constant(node.inputs[LSTMInputs.recurrence]), options.weights.bits == 8,
      let w = RecurrentCodes(weights, isPerChannel: options.isPerChannel, options.weightOptions),
      let r = RecurrentCodes(recurrence, isPerChannel: options.isPerChannel, options.weightOptions)
    else { return keep("its weights are computed, or no float32") }
    let isFinite = [weights, recurrence].allSatisfy { $0.elements(as: Float.self)?.allSatisfy(\.isFinite) ?? false }
    if !isFinite { return keep("its weights hold numbers that are not finite") }
    if node.attributes.int("layout") ?? 0 != 0 { return keep("its batch is the first axis") }
    var inputs = node.inputs + [ValueID?](repeating: nil, count: LSTMInputs.count - node.inputs.count)
    inputs[LSTMInputs.weights] = graph.addConstant(w.integers)
    inputs[LSTMInputs.recurrence] = graph.addConstant(r.integers)
    for tensor in [w.scales, w.zeroPoints, r.scales, r.zeroPoints] { inputs.append(graph.addConstant(tensor)) }
    graph.update(id) { node in
      (node.op, node.inputs) = (LSTMInputs.quantized, inputs)
      node.attributes["layout"] = nil
    }
    var noise = w.noise
    noise.add(r.noise)
    report.append(
      QuantizedNode(
        name: node.name, op: node.op.description,
        output: node.outputs.lazy.compactMap { $0 }.first.map { graph.name(of: $0) } ?? "", input: graph.name(of: data),
        inputCode: nil, weightType: options.weights, weightNoise: noise))
  }

  private mutating func scaled(
    _ bias: ValueID, _ factor: Float, name: String, before place: NodeID
  ) throws(OperatorError) -> ValueID {
    if factor == 1 { return bias }
    let number = graph.addConstant(Tensor(scalar: factor))
    return try graph.apply(OperatorID("Mul"), name: "\(name)/beta", [bias, number], before: place)
  }

  /// Integers, scale and zero point of a value.
  private mutating func integers(of value: ValueID, before place: NodeID) throws(OperatorError) -> [ValueID] {
    if let known = quantized[value] { return known }
    let outputs = (0..<3).map { _ in graph.addValue() }
    try graph.insert(
      Node(
        OperatorID("DynamicQuantizeLinear"), name: "\(graph.name(of: value))/DynamicQuantizeLinear", inputs: [value],
        outputs: outputs), before: place)
    quantized[value] = outputs
    return outputs
  }

  /// The weights as [inputs, outputs], times the factor of the product.
  private static func matrix(_ product: Product) -> [Float] {
    var numbers = product.tensor.elements(as: Float.self) ?? []
    if product.isTransposed {
      let (rows, columns) = (product.tensor.shape[0], product.tensor.shape[1])
      var turned = [Float](repeating: 0, count: numbers.count)
      for row in 0..<rows {
        for column in 0..<columns { turned[column * rows + row] = numbers[row * columns + column] }
      }
      numbers = turned
    }
    return product.factor == 1 ? numbers : numbers.map { $0 * product.factor }
  }

  /// Integers, scales and zero points of the weights.
  private mutating func integers(
    _ product: Product, before place: NodeID
  ) throws(OperatorError) -> (codes: WeightCodes, values: [ValueID?]) {
    let key = WeightKey(value: product.weights, isTransposed: product.isTransposed, factor: product.factor)
    if let known = weights[key] { return known }
    let dims = product.tensor.shape.dims
    let codes = WeightCodes(
      DynamicQuantization.matrix(product), shape: Shape(product.isTransposed ? dims.reversed() : dims),
      axis: options.isPerChannel ? 1 : nil, options.weightOptions)
    let values: [ValueID?] = [
      graph.addConstant(codes.tensor), graph.addConstant(codes.scaleTensor),
      codes.zeroPointTensor.map { graph.addConstant($0) },
    ]
    weights[key] = (codes, values)
    return (codes, values)
  }
}
