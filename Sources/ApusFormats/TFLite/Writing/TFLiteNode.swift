// What a lowering sees of the node that it writes: operands and results as tensors of the file, attributes, facts.

import ApusGraph
import ApusTensor

/// A node of the graph.
final class TFLiteNode: OperatorContext {
  let node: Node
  let schema: OperatorSchema
  let work: TFLiteWork
  private let lowering: TFLiteLowering
  /// The value that output 0 becomes: that behind the activation which is fused.
  private let target: ValueID?
  /// The number of that activation in the schema.
  let activation: Int
  /// What is added to the results of a product, as its bias.
  let addedBias: ValueID?
  /// The scale of the results if operands and results are codes.
  private(set) var quantization: TFLiteQuantization?
  /// The result of the QuantizeLinear behind the node that goes with it.
  private var encoded: ValueID?
  private var results: [Int: Int] = [:]

  var isCoded: Bool { quantization != nil }

  init(_ index: Int, _ lowering: TFLiteLowering, _ schema: OperatorSchema, _ work: TFLiteWork) throws(OperatorError) {
    (node, self.lowering, self.schema, self.work) = (work.graph.nodes[index], lowering, schema, work)
    var output = node.outputs.first ?? nil
    let sum = lowering.takesBias ? work.sum(behind: node) : nil
    addedBias = sum?.bias
    if let sum { output = sum.result }
    let fused = lowering.activation == nil ? nil : output.flatMap { work.activation(behind: $0) }
    target = fused.map(\.result) ?? output
    activation = fused?.code ?? 0
    if try !takeCodes(), let type = try fact(0)?.dataType, !lowering.types.contains(type) {
      let types = lowering.types.map(\.description).joined(separator: ", ")
      throw .unsupported("TensorFlow Lite computes it of \(types); the operand is \(type)")
    }
    if let sum { work.finish(sum.node) }
    if let fused { work.finish(fused.node) }
  }

  // MARK: - Codes

  /// Looks whether the node can be computed on integers.
  private func takeCodes() throws(OperatorError) -> Bool {
    let range = lowering.data ?? 0..<node.inputs.count
    let data = range.compactMap { $0 < node.inputs.count ? node.inputs[$0] : nil }
    guard let target, !data.isEmpty else { return false }
    let scales = data.compactMap { work.quantization(of: $0) }
    guard scales.count == data.count, scales.allSatisfy(\.isWhole) else { return false }
    let next = work.encoding(behind: target)
    switch lowering.integers {
    case .none: return false
    case .keeps, .keepsWhen:
      if case .keepsWhen(let condition) = lowering.integers, !(work.facts(of: node).map(condition) ?? false) {
        return false
      }
      if scales.dropFirst().allSatisfy({ $0.isSame(as: scales[0]) }) {
        quantization = scales[0]
        return true
      }
    case .computes: break
    case .fixed(let scale, let zeroPoint):
      guard next?.quantization.isSame(as: TFLiteQuantization(scale: scale, zeroPoint: zeroPoint)) ?? false else {
        return false
      }
    case .product(let axis):
      guard let facts = work.facts(of: node), isProduct(axis(facts)) else { return false }
    }
    guard let next else { return false }
    (quantization, encoded) = (next.quantization, next.result)
    work.finish(next.node)
    return true
  }

  /// Whether what it gives are elements of its first operand, which may be integers that stand for floats.
  private var movesOneOperand: Bool {
    switch lowering.integers {
    case .keeps, .keepsWhen: lowering.data == 0..<1 || node.inputs.count == 1
    default: false
    }
  }

  private func isProduct(_ axis: Int) -> Bool {
    guard node.inputs.count > 1, let weights = node.inputs[1], let known = work.constantInteger(weights),
      known.tensor.dataType == .int8, known.quantization.zeroPoints.allSatisfy({ $0 == 0 }),
      known.quantization.isWhole || known.quantization.axis == axis
    else { return false }
    guard node.inputs.count > 2, let bias = node.inputs[2] else { return true }
    return work.constantInteger(bias) != nil || work.graph.constant(bias) != nil
  }

  /// The scale of an operand that is codes.
  func scale(_ input: Int) throws(OperatorError) -> TFLiteQuantization {
    guard let quantization = try work.quantization(of: value(input)) else {
      throw .inconsistency("operand \(input) has no codes")
    }
    return quantization
  }

  // MARK: - Operands

  func has(_ input: Int) -> Bool { input < node.inputs.count && node.inputs[input] != nil }

  func value(_ input: Int) throws(OperatorError) -> ValueID {
    guard input < node.inputs.count, let value = node.inputs[input] else {
      throw .invalid("input \(input) is missing")
    }
    return value
  }

  /// The tensor of an operand: of codes if the node is computed on them and the operand is data.
  func operand(_ input: Int) throws(OperatorError) -> Int {
    let value = try value(input)
    if isCoded, (lowering.data ?? 0..<node.inputs.count).contains(input), let codes = try work.codes(of: value) {
      switch lowering.integers {
      case .keeps, .keepsWhen:
        return quantization.map { work.rescaled(codes, $0, node.name).tensor } ?? codes.tensor
      default: return codes.tensor
      }
    }
    return try work.tensor(value)
  }

  /// All operands.
  func operands() throws(OperatorError) -> [Int] {
    try node.inputs.indices.map { (input) throws(OperatorError) in try operand(input) }
  }

  /// An operand of places or extents as 32-bit integers of one axis.
  func places(_ input: Int) throws(OperatorError) -> Int {
    if let known = try integers(input) { return work.integers(known) }
    let value = try value(input)
    if try work.fact(value).dataType == .int32 { return try work.tensor(value) }
    let result = work.newTensor("\(node.name)/int32", .int32, try work.shape(value))
    work.emit("CAST", [try work.tensor(value)], [result])
    return result
  }

  private func fact(_ input: Int) throws(OperatorError) -> TensorFact? {
    guard has(input) else { return nil }
    return try work.fact(value(input))
  }

  func type(_ input: Int = 0) throws(OperatorError) -> DataType { try work.fact(value(input)).dataType }
  func shape(_ input: Int = 0) throws(OperatorError) -> [Dim] { try work.shape(value(input)) }
  func rank(_ input: Int = 0) throws(OperatorError) -> Int { try shape(input).count }
  func constant(_ input: Int) -> Tensor? { input < node.inputs.count ? work.constant(of: node.inputs[input]) : nil }

  /// Whether an operand never changes, as it is or decoded.
  func isConstant(_ input: Int) throws(OperatorError) -> Bool {
    if constant(input) != nil { return true }
    return try work.constantInteger(value(input)) != nil
  }

  /// The extents of an operand, which must be numbers.
  func extents(_ input: Int = 0) throws(OperatorError) -> [Int] { try Self.numbers(shape(input)) }

  static func numbers(_ dims: [Dim]) throws(OperatorError) -> [Int] {
    guard let known = dims.concrete else {
      throw .unsupported(
        "the extents [\(dims.map(\.description).joined(separator: ", "))] should be numbers",
        remedy: "Give the symbols values with --dim, or the inputs shapes with --shape")
    }
    return known.dims
  }

  /// The integers of an operand that are known; nil if it is absent or computed.
  func integers(_ input: Int) throws(OperatorError) -> [Int]? {
    guard has(input) else { return nil }
    if let constant = constant(input) { return constant.integers }
    return try fact(input)?.values?.concrete?.dims
  }

  func knownIntegers(_ input: Int, _ what: String) throws(OperatorError) -> [Int] {
    guard let numbers = try integers(input) else {
      throw .unsupported("\(what) should be known when the model is written; input \(input) is computed")
    }
    return numbers
  }

  /// The one float of a constant operand; nil if it is absent.
  func scalar(_ input: Int) throws(OperatorError) -> Float? {
    guard has(input) else { return nil }
    guard let constant = constant(input), constant.count == 1 else {
      throw .unsupported("input \(input) should be one constant number")
    }
    return constant.elements(as: Float.self)?.first ?? constant.integers?.first.map { Float($0) }
  }

  func axis(_ axis: Int, rank: Int) throws(OperatorError) -> Int { try resolveAxis(axis, rank: rank) }

  // MARK: - Results

  func resultShape(_ output: Int = 0) throws(OperatorError) -> [Dim] { try work.shape(resultValue(output)) }
  func resultType(_ output: Int = 0) throws(OperatorError) -> DataType {
    if isCoded { return .int8 }
    return try work.fact(resultValue(output)).dataType
  }

  private func resultValue(_ output: Int) throws(OperatorError) -> ValueID {
    guard output < node.outputs.count, let value = node.outputs[output] else {
      throw .invalid("output \(output) is missing")
    }
    return value
  }

  private func firstResult() throws(OperatorError) -> ValueID {
    if let target { return target }
    return try resultValue(0)
  }

  /// The tensor of a result.
  func result(_ output: Int = 0) throws(OperatorError) -> Int {
    if let known = results[output] { return known }
    let value = try output == 0 ? firstResult() : resultValue(output)
    let made: Int
    if let quantization {
      let name = work.graph[encoded ?? value].name
      made = work.newTensor(name, .int8, try work.shape(value), quantization)
      let codes = TFLiteCodes(tensor: made, quantization: quantization)
      if let encoded, output == 0 { work.define(encoded: encoded, as: codes) }
      work.define(value, as: codes)
    } else {
      made = try work.newTensor(value)
      if movesOneOperand { work.quantize(made, like: try operand(0)) }
      work.define(value, as: made)
    }
    results[output] = made
    return made
  }

  /// Output 0 is what a tensor of the file holds already.
  func forward(_ tensor: Int) throws(OperatorError) {
    let value = try firstResult()
    guard let quantization else { return work.define(value, as: tensor) }
    let codes = TFLiteCodes(tensor: tensor, quantization: quantization)
    if let encoded { work.define(encoded: encoded, as: codes) }
    work.define(value, as: codes)
  }

  /// Appends the operator whose results are those of the node.
  func emit(
    _ kind: String, _ inputs: [Int?], _ options: [(Int, TFLiteOptions.Value)] = [], isGrouped: Bool = false
  ) throws(OperatorError) {
    var outputs: [Int] = []
    for output in node.outputs.indices { outputs.append(try result(output)) }
    work.emit(kind, inputs, outputs, TFLiteOptions(options), isGrouped: isGrouped)
  }

  /// Appends an operator on the way to the result: of the type of the results, unless another is given.
  func step(
    _ kind: String, _ inputs: [Int?], _ dims: [Dim], _ options: [(Int, TFLiteOptions.Value)] = [],
    type: DataType? = nil, quantization: TFLiteQuantization? = nil, isGrouped: Bool = false
  ) throws(OperatorError) -> Int {
    let own = try type == nil ? resultType() : type
    let scale = own == .int8 ? quantization ?? self.quantization : nil
    let result = work.newTensor("\(node.name)/\(kind)", own ?? .float32, dims, scale)
    work.emit(kind, inputs, [result], TFLiteOptions(options), isGrouped: isGrouped)
    return result
  }

  /// The activation behind the node as an operator of its own, where the operator before it can end with none.
  func emitActivation(of tensor: Int) throws(OperatorError) {
    let kinds = [1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6"]
    guard let kind = kinds[activation] else { throw .inconsistency("an activation of number \(activation)") }
    try emit(kind, [tensor])
  }

  /// A float constant.
  func number(_ value: Float) -> Int { work.constant(Tensor(scalar: value), "\(node.name)/constant") }
}

// MARK: - What lies behind a node

extension TFLiteWork {
  /// The activation that is the only use of a value and that operators can end with.
  func activation(behind value: ValueID) -> (node: Int, code: Int, result: ValueID)? {
    guard let index = onlyUser(of: value), !isFinished(index), graph.nodes[index].inputs.first == value,
      let result = graph.nodes[index].outputs.first ?? nil, graph.fact(value).elementType == .float32
    else { return nil }
    let node = graph.nodes[index]
    guard node.op.domain.isEmpty else { return nil }
    if node.op.name == "Relu" { return (index, 1, result) }
    guard node.op.name == "Clip", node.inputs.count > 1 else { return nil }
    func bound(_ input: Int) -> Float?? {
      guard input < node.inputs.count, let value = node.inputs[input] else { return .some(nil) }
      guard let constant = graph.constant(value), constant.count == 1 else { return nil }
      return constant.elements(as: Float.self)?.first
    }
    guard let low = bound(1), let high = bound(2) else { return nil }
    switch (low, high) {
    case (0, nil): return (index, 1, result)
    case (-1, 1): return (index, 2, result)
    case (0, 6): return (index, 3, result)
    default: return nil
    }
  }

  /// The Add that is the only use of the product of `node` with a constant matrix, if it adds a constant to columns.
  func sum(behind node: Node) -> (node: Int, bias: ValueID, result: ValueID)? {
    guard node.inputs.count == 2, let b = node.inputs[1], graph.constant(b) != nil || constantInteger(b) != nil,
      let columns = graph.fact(b).tensor?.shape, columns.count == 2, let a = node.inputs[0],
      let rows = graph.fact(a).tensor?.shape, rows.count >= 2, let output = node.outputs.first ?? nil,
      let index = onlyUser(of: output), !isFinished(index), graph.nodes[index].op == OperatorID("Add"),
      let result = graph.nodes[index].outputs.first ?? nil
    else { return nil }
    let others = graph.nodes[index].inputs.compactMap { $0 }.filter { $0 != output }
    guard others.count == 1, let bias = graph.constant(others[0]), bias.dataType == .float32,
      bias.rank <= rows.count, bias.shape.dims.last == columns[1].known, bias.count == columns[1].known
    else { return nil }
    return (index, others[0], result)
  }

  /// The QuantizeLinear that is the only use of a value, if its codes have one scale.
  func encoding(behind value: ValueID) -> (node: Int, quantization: TFLiteQuantization, result: ValueID)? {
    guard let index = onlyUser(of: value), !isFinished(index), graph.nodes[index].op == OperatorID("QuantizeLinear"),
      graph.nodes[index].inputs.first == value, let result = graph.nodes[index].outputs.first ?? nil,
      let (quantization, type) = graph.quantization(of: graph.nodes[index]), quantization.isWhole
    else { return nil }
    return (index, type == .uint8 ? quantization.shifted(by: -128) : quantization, result)
  }

  func facts(of node: Node) -> NodeFacts? {
    inference.registry.definition(of: node.op).map { definition in
      NodeFacts(
        node: node, schema: definition.schema, inputs: node.inputs.map { $0.map { graph.fact($0) } },
        outputs: node.outputs.map { $0.map { graph.fact($0) } }, constants: node.inputs.map { constant(of: $0) })
    }
  }
}

extension Graph {
  /// The scale of QuantizeLinear or DequantizeLinear, and the type of its codes, where these are what TensorFlow Lite
  /// has: constant, of int8 or uint8, for DequantizeLinear of a constant of int32 as well; for one axis of a constant.
  func quantization(of node: Node) -> (TFLiteQuantization, DataType)? {
    guard node.inputs.count >= 2, let scales = constant(node.inputs[1])?.elements(as: Float.self), !scales.isEmpty,
      scales.allSatisfy({ $0.isFinite && $0 > 0 }), node.attributes.int("block_size") ?? 0 == 0,
      let x = node.inputs[0], let y = node.outputs.first ?? nil
    else { return nil }
    let decodes = node.op.name == "DequantizeLinear"
    guard let type = (decodes ? fact(x) : fact(y)).elementType, fact(decodes ? y : x).elementType == .float32 else {
      return nil
    }
    var points = [Int](repeating: 0, count: scales.count)
    if node.inputs.count > 2, let value = node.inputs[2] {
      guard let given = constant(value)?.integers, given.count == scales.count else { return nil }
      points = given
    }
    let isWeight = decodes && constant(x) != nil
    guard [.int8, .uint8].contains(type) || (isWeight && type == .int32) else { return nil }
    if scales.count == 1 {
      return (TFLiteQuantization(scale: scales[0], zeroPoint: points[0]), type)
    }
    guard isWeight, let rank = constant(x)?.rank,
      let axis = try? resolveAxis(node.attributes.int("axis") ?? 1, rank: rank),
      constant(x)?.shape.dims[axis] == scales.count
    else { return nil }
    return (TFLiteQuantization(scales: scales, zeroPoints: points, axis: axis), type)
  }
}
