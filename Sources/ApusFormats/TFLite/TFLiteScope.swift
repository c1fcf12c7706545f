// One subgraph of a TensorFlow Lite file while its operators become nodes, and what all subgraphs share.

import ApusContainers
import ApusGraph
import ApusTensor

/// What all subgraphs of a file share.
final class TFLiteProgram {
  let model: TFLiteModel
  let ledger: ImportLedger
  /// What variables hold, by their names, and the graph that the value is of.
  var variables: [String: (value: ValueID, owner: GraphBuilder)] = [:]
  /// True while variables get their first values.
  var isInitializing = false
  /// Constants by tensor: a buffer is decoded once.
  private var constants: [ConstantKey: Tensor?] = [:]

  /// Subgraphs lie at most so deep in each other.
  static let maximumDepth = 32

  private struct ConstantKey: Hashable {
    var buffer: Int
    var type: DataType?
    var shape: [Int]
  }

  init(_ model: TFLiteModel, _ ledger: ImportLedger) { (self.model, self.ledger) = (model, ledger) }

  func constant(_ tensor: TFLiteTensor) throws(LoadError) -> Tensor? {
    let key = ConstantKey(buffer: tensor.buffer, type: tensor.type, shape: tensor.shape)
    if tensor.buffer > 0, let known = constants[key] { return known }
    let constant = try model.constant(tensor, ledger.options).map(\.withPairs)
    if tensor.buffer > 0 { constants[key] = .some(constant) }
    return constant
  }
}

/// The values of the tensors of a subgraph.
final class TFLiteScope {
  let program: TFLiteProgram
  let subgraph: TFLiteSubgraph
  let layers: LayerBuilder
  let depth: Int
  /// Values as the file stores them: integers that stand for numbers are integers.
  private var stored: [ValueID?]
  /// The same as numbers.
  private var numbers: [Int: ValueID] = [:]
  /// Tensors of numbers that are the decoded form of a constant, by the number of that.
  private(set) var decodedForms: [Int: Int] = [:]
  private var parameters: [Parameter: ValueID] = [:]

  /// A scale or zero point.
  private struct Parameter: Hashable {
    var quantization: TFLiteQuantization
    var type: DataType
    var isScale: Bool
  }

  init(_ program: TFLiteProgram, _ number: Int, _ layers: LayerBuilder, depth: Int) {
    (self.program, self.layers, self.depth) = (program, layers, depth)
    subgraph = program.model.subgraphs[number]
    stored = [ValueID?](repeating: nil, count: subgraph.tensors.count)
  }

  /// The outputs for these inputs.
  func run(_ inputs: [ValueID?]) throws(LoadError) -> [ValueID?] {
    for (place, value) in zip(subgraph.inputs, inputs) { stored[place] = value }
    for (number, node) in subgraph.operators.enumerated() { try read(node, number) }
    var outputs: [ValueID?] = []
    for place in subgraph.outputs { outputs.append(try storedValue(place)) }
    return outputs
  }

  /// The name of a layer is that of its first result.
  private func read(_ node: TFLiteOperator, _ number: Int) throws(LoadError) {
    let first = node.outputs.first.map { subgraph.tensors[$0].name } ?? ""
    let name = first.isEmpty ? "\(node.kind)_\(number)" : first
    var inputs: [ValueID?] = []
    for place in node.inputs {
      guard let place else { continue }
      // A constant whose numbers nobody asked for yet stays what it is.
      inputs.append(try storedValue(stored[place] == nil ? decodedForms[place] ?? place : place))
    }
    let results = try layers.layer(name, kind: node.kind, reading: inputs, outputs: node.outputs.count) {
      () throws(OperatorError) in
      // The census found a rule for each.
      guard let rule = TFLiteRules.all[node.kind] else { throw .unsupported("there is no rule for \(node.kind)") }
      return try rule.results(TFLiteLayer(node, self, rule.form))
    }
    for (place, result) in zip(node.outputs, results) {
      guard let result else { continue }
      stored[place] = result
      if depth == 0, layers.constant(result) == nil { layers.name(result, subgraph.tensors[place].name) }
    }
  }

  // MARK: - Values

  /// The value of a tensor as the file stores it; nil if no operator and no buffer gives one.
  func storedValue(_ place: Int) throws(LoadError) -> ValueID? {
    if let value = stored[place] { return value }
    if let form = decodedForms[place] {
      guard let value = try storedValue(form) else { return nil }
      do throws(OperatorError) {
        stored[place] = try number(value, of: subgraph.tensors[form], widens: true)
      } catch {
        throw LoadError(.malformed, error.message, remedy: error.remedy, path: subgraph.tensors[place].name)
      }
      return stored[place]
    }
    guard let constant = try program.constant(subgraph.tensors[place]) else { return nil }
    // In main graphs constants keep their names.
    let value = layers.constant(constant, name: depth == 0 ? subgraph.tensors[place].name : "")
    stored[place] = value
    return value
  }

  /// Tensor `place` is the decoded form of the constant `constant`. Nothing is computed before somebody asks.
  func decode(_ constant: Int, as place: Int) { decodedForms[place] = constant }

  /// The value of a tensor as numbers; nil if it has none.
  func numberValue(_ place: Int) throws(OperatorError) -> ValueID? {
    if let known = numbers[place] { return known }
    guard let value = try TFLiteLayer.rethrowing({ () throws(LoadError) in try storedValue(place) }) else { return nil }
    let tensor = subgraph.tensors[place]
    let number = tensor.quantization == nil ? value : try number(value, of: tensor)
    numbers[place] = number
    return number
  }

  // MARK: - Quantization

  /// `value`, stored as `tensor` is, as numbers; `axis` is that of the scales if the axes were moved. Those of 16 bits
  /// become wide where the file says so.
  func number(
    _ value: ValueID, of tensor: TFLiteTensor, axis: Int? = nil, widens: Bool = false
  ) throws(OperatorError) -> ValueID {
    guard let quantization = tensor.quantization, let type = tensor.type else {
      return widens ? try layers.cast(value, to: .float32) : value
    }
    if type == .int64 {
      // Sums of 16-bit activations, which ONNX has no decoded form of.
      return try layers.emit("Mul", [try layers.cast(value, to: .float32), scale(quantization)])
    }
    var inputs: [ValueID?] = [value, scale(quantization)]
    if type != .int32 || quantization.zeroPoints.contains(where: { $0 != 0 }) {
      inputs.append(try zeroPoint(quantization, type))
    }
    let axes: [(String, AttributeValue)] = quantization.isWhole ? [] : [("axis", .int(axis ?? quantization.axis))]
    return try layers.emit("DequantizeLinear", inputs, axes)
  }

  /// Numbers as `tensor` stores them.
  func codes(_ value: ValueID, of tensor: TFLiteTensor) throws(OperatorError) -> ValueID {
    guard let quantization = tensor.quantization, let type = tensor.type, type != .int32, type != .int64 else {
      return value
    }
    let axes: [(String, AttributeValue)] = quantization.isWhole ? [] : [("axis", .int(quantization.axis))]
    return try layers.emit(
      "QuantizeLinear", [value, scale(quantization), try zeroPoint(quantization, type)], axes)
  }

  func scale(_ quantization: TFLiteQuantization) -> ValueID {
    parameter(Parameter(quantization: quantization, type: .float32, isScale: true)) {
      quantization.isWhole
        ? Tensor(scalar: quantization.scales[0]) : Tensor(quantization.scales)
    }
  }

  private func zeroPoint(_ quantization: TFLiteQuantization, _ type: DataType) throws(OperatorError) -> ValueID {
    let range = try TFLiteLayer.codeRange(of: type)
    guard quantization.zeroPoints.allSatisfy({ range.contains($0) }) else {
      throw .invalid("the zero points of \(type) should be codes of it; they are \(quantization.zeroPoints.prefix(4))")
    }
    let key = Parameter(quantization: quantization, type: type, isScale: false)
    if let known = parameters[key] { return known }
    let points = quantization.zeroPoints
    let value = try layers.cast(
      layers.constant(quantization.isWhole ? Tensor(scalar: Int64(points[0])) : Tensor(points.map { Int64($0) })),
      to: type)
    parameters[key] = value
    return value
  }

  private func parameter(_ key: Parameter, _ make: () -> Tensor) -> ValueID {
    if let known = parameters[key] { return known }
    let value = layers.constant(make())
    parameters[key] = value
    return value
  }
}
