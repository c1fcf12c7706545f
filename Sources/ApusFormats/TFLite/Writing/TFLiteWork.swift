// A graph while it becomes a TensorFlow Lite model: which tensors its values are, as numbers and as codes.

import ApusContainers
import ApusGraph
import ApusTensor

/// Integers that stand for floats: the tensor that holds them, and their scale.
struct TFLiteCodes {
  var tensor: Int
  var quantization: TFLiteQuantization
}

/// What all nodes of a graph share.
final class TFLiteWork {
  let graph: Graph
  let inference: InferenceDriver
  let ledger: ExportLedger
  private(set) var draft = TFLiteDraft()
  /// By value: the tensor that holds what the graph says it holds.
  private var tensors: [ValueID: Int] = [:]
  /// By value of floats: the tensor of integers that stand for them.
  private var codes: [ValueID: TFLiteCodes] = [:]
  /// By value of floats that a constant stands for: its integers.
  private var constantCodes: [ValueID: (tensor: Tensor, quantization: TFLiteQuantization)] = [:]
  /// By value of integers that QuantizeLinear computes: how the file holds them, as int8 always.
  private var encoded: [ValueID: TFLiteCodes] = [:]
  /// The nodes that use a value, as positions in the graph.
  private let users: [ValueID: [Int]]
  /// Nodes that others have taken with them.
  private var finished: Set<Int> = []
  /// The node that is written now, and those that it has taken with it.
  private var current: [Int] = []
  /// What nodes that cannot be said compute, where not even the rank is known.
  private var unknown: Set<ValueID> = []
  private var constants: [ConstantKey: Int] = [:]

  private struct ConstantKey: Hashable {
    var value: ValueID
    var permutation: [Int]
    var shape: [Int]
  }

  /// In files of 16 bits, constants of fewer elements stay as they are: what widens them takes as many bytes.
  private static let leastHalves = 64

  init(_ graph: Graph, _ inference: InferenceDriver, _ ledger: ExportLedger) {
    (self.graph, self.inference, self.ledger) = (graph, inference, ledger)
    var users: [ValueID: [Int]] = [:]
    for (index, node) in graph.nodes.enumerated() {
      for value in node.dependencies { users[value, default: []].append(index) }
    }
    self.users = users
    for input in graph.inputs {
      guard let fact = graph.fact(input).tensor else { continue }
      tensors[input] = draft.addTensor(graph[input].name, fact.dataType, fact.shape ?? [])
    }
  }

  // MARK: - Nodes

  func isFinished(_ node: Int) -> Bool { finished.contains(node) }
  func finish(_ node: Int) {
    finished.insert(node)
    current.append(node)
  }

  /// A node is about to be written.
  func begin(_ node: Int) { current = [node] }

  /// The node that was begun cannot be said. What it computes gets tensors all the same: so the nodes behind it are
  /// judged by themselves.
  func passOver() {
    for index in current {
      for case let output? in graph.nodes[index].outputs where tensors[output] == nil {
        if let fact = graph.fact(output).tensor, let shape = fact.shape {
          tensors[output] = draft.addTensor(graph[output].name, fact.dataType, shape)
        } else {
          unknown.insert(output)
        }
      }
    }
  }

  /// Whether a node reads something of which only nodes that cannot be said know more.
  func readsUnknown(_ node: Node) -> Bool { node.inputs.contains { $0.map { unknown.contains($0) } ?? false } }

  func isUsed(_ value: ValueID) -> Bool { users[value] != nil || graph.outputs.contains(value) }

  /// The one node that uses a value; nil if there are more, or callers see the value.
  func onlyUser(of value: ValueID) -> Int? {
    guard let list = users[value], list.count == 1, !graph.outputs.contains(value) else { return nil }
    return list[0]
  }

  // MARK: - Facts

  func fact(_ value: ValueID) throws(OperatorError) -> TensorFact {
    guard let fact = graph.fact(value).tensor else { throw .unsupported("an operand is no tensor") }
    return fact
  }

  func shape(_ value: ValueID) throws(OperatorError) -> [Dim] {
    guard let shape = try fact(value).shape else { throw .unsupported("the rank of an operand is not known") }
    return shape
  }

  func draftTensor(_ tensor: Int) -> TFLiteDraft.Tensor { draft.tensors[tensor] }

  // MARK: - Tensors of values

  /// The tensor that holds a value as the graph has it.
  func tensor(_ value: ValueID) throws(OperatorError) -> Int {
    if let known = tensors[value] { return known }
    let made = try makeTensor(value)
    tensors[value] = made
    return made
  }

  private func makeTensor(_ value: ValueID) throws(OperatorError) -> Int {
    if let constant = graph.constant(value) { return wide(constant, graph[value].name) }
    if let (integers, quantization) = constantCodes[value], integers.dataType == .int32 {
      return try decoded(integers, quantization, graph[value].name)
    }
    if let codes = try codes(of: value) {
      let result = try newTensor(value, graph[value].name)
      emit("DEQUANTIZE", [codes.tensor], [result])
      return result
    }
    if let codes = encoded[value] {
      guard try fact(value).dataType == .uint8 else { return codes.tensor }
      // Codes of 0 to 255 lie in the file as those of -128 to 127.
      let result = try newTensor(value, graph[value].name)
      draft.quantize(result, codes.quantization.shifted(by: 128))
      emit("QUANTIZE", [codes.tensor], [result])
      return result
    }
    throw .inconsistency("the value '\(graph[value].name)' is used before it is computed")
  }

  /// A tensor for what a node computes.
  func newTensor(_ value: ValueID, _ name: String = "") throws(OperatorError) -> Int {
    let fact = try fact(value)
    try checkElements(value)
    return draft.addTensor(name.isEmpty ? graph[value].name : name, fact.dataType, try shape(value))
  }

  /// Throws where a value surely has no elements, which operators of the interpreter do not expect.
  func checkElements(_ value: ValueID) throws(OperatorError) {
    guard try shape(value).contains(where: { $0.known == 0 }) else { return }
    throw .unsupported("TensorFlow Lite takes no tensors without elements; '\(graph[value].name)' is one")
  }

  func newTensor(
    _ name: String, _ type: DataType, _ dims: [Dim], _ quantization: TFLiteQuantization? = nil
  ) -> Int { draft.addTensor(name, type, dims, quantization: quantization) }

  /// A tensor that the interpreter keeps from run to run, zeros at first.
  func newVariable(_ name: String, _ dims: [Dim]) -> Int { draft.addVariable(name, .float32, dims) }

  func define(_ value: ValueID, as tensor: Int) { tensors[value] = tensor }
  func define(_ value: ValueID, as codes: TFLiteCodes) { self.codes[value] = codes }
  /// QuantizeLinear has `value` as its result, which the file holds as `codes`.
  func define(encoded value: ValueID, as codes: TFLiteCodes) { encoded[value] = codes }
  func define(_ value: ValueID, standsFor tensor: Tensor, _ quantization: TFLiteQuantization) {
    constantCodes[value] = (tensor, quantization)
  }

  /// How the file holds integers that are decoded with `quantization`: codes of int8, or the tensor as it is.
  func stored(
    _ value: ValueID, _ quantization: TFLiteQuantization
  ) throws(OperatorError) -> TFLiteCodes {
    if let known = encoded[value] { return known }
    let tensor = try tensor(value)
    if let own = draft.tensors[tensor].quantization {
      guard own == quantization else {
        throw .unsupported("the same integers are decoded with two scales, for which TensorFlow Lite has no place")
      }
    }
    draft.quantize(tensor, quantization)
    guard try fact(value).dataType == .uint8 else { return TFLiteCodes(tensor: tensor, quantization: quantization) }
    let signed = quantization.shifted(by: -128)
    let codes = TFLiteCodes(
      tensor: newTensor("\(graph[value].name)/signed", .int8, try shape(value), signed), quantization: signed)
    emit("QUANTIZE", [tensor], [codes.tensor])
    encoded[value] = codes
    return codes
  }

  /// Integers that were only moved stand for the same floats: delegates ask for the scale of every tensor of them.
  func quantize(_ tensor: Int, like source: Int) {
    let (made, known) = (draft.tensors[tensor], draft.tensors[source])
    guard let quantization = known.quantization, quantization.isWhole, made.type == known.type else { return }
    draft.quantize(tensor, quantization)
  }

  // MARK: - Codes

  /// The integers that stand for a value of floats; nil if there are none.
  func codes(of value: ValueID) throws(OperatorError) -> TFLiteCodes? {
    if let known = codes[value] { return known }
    guard let (tensor, quantization) = constantCodes[value], tensor.dataType == .int8 else { return nil }
    let place = draft.addConstant(graph[value].name, tensor, quantization: quantization)
    let made = TFLiteCodes(tensor: place, quantization: quantization)
    codes[value] = made
    return made
  }

  /// The scale of the integers that stand for a value of floats; nil if there are none.
  func quantization(of value: ValueID) -> TFLiteQuantization? {
    if let known = codes[value] { return known.quantization }
    return constantCodes[value].flatMap { $0.tensor.dataType == .int8 ? $0.quantization : nil }
  }

  func constantInteger(_ value: ValueID) -> (tensor: Tensor, quantization: TFLiteQuantization)? {
    constantCodes[value]
  }

  /// The same numbers with another scale.
  func rescaled(_ codes: TFLiteCodes, _ quantization: TFLiteQuantization, _ name: String) -> TFLiteCodes {
    if codes.quantization.isSame(as: quantization) { return codes }
    let tensor = draft.tensors[codes.tensor]
    let dims = (tensor.signature ?? tensor.shape).map { $0 < 0 ? Dim.unknown : Dim($0) }
    let result = newTensor("\(name)/rescaled", .int8, dims, quantization)
    emit("QUANTIZE", [codes.tensor], [result])
    return TFLiteCodes(tensor: result, quantization: quantization)
  }

  // MARK: - Constants

  /// A constant of the graph, or the only number that an integer of it stands for.
  func constant(of value: ValueID?) -> Tensor? {
    if let own = graph.constant(value) { return own }
    guard let known = value.flatMap({ constantCodes[$0] }), let codes = known.tensor.integers, codes.count == 1 else {
      return nil
    }
    let number = Float(codes[0] - known.quantization.zeroPoints[0]) * known.quantization.scales[0]
    return Tensor([number], shape: known.tensor.shape)
  }

  /// Integers as floats, computed now.
  private func decoded(
    _ integers: Tensor, _ quantization: TFLiteQuantization, _ name: String
  ) throws(OperatorError) -> Int {
    guard let numbers = integers.integers else { throw .inconsistency("codes of \(integers.dataType)") }
    let dims = integers.shape.dims
    let block = quantization.isWhole ? 1 : dims.dropFirst(quantization.axis + 1).reduce(1, *)
    let count = quantization.scales.count
    let floats = numbers.enumerated().map { index, code in
      let channel = index / max(block, 1) % count
      return Float(code - quantization.zeroPoints[channel]) * quantization.scales[channel]
    }
    return draft.addConstant(name, Tensor(floats, shape: integers.shape))
  }

  /// A constant of numbers: in 16 bits and widened by an operator, where the caller wants that.
  func wide(_ constant: Tensor, _ name: String) -> Int {
    guard ledger.options.halvesWeights, constant.count >= Self.leastHalves,
      let floats = constant.elements(as: Float.self)
    else { return draft.addConstant(name, constant) }
    if floats.contains(where: { $0.isFinite && !Float16($0).isFinite }) {
      ledger.note("Weights that are larger than 16 bits can hold stayed in 32.")
      return draft.addConstant(name, constant)
    }
    let halves = draft.addConstant("\(name)/float16", Tensor(floats.map { Float16($0) }, shape: constant.shape))
    let result = newTensor(name, .float32, constant.shape.dims.map { Dim($0) })
    emit("DEQUANTIZE", [halves], [result])
    return result
  }

  /// A value whose axes are put in another order, and which gets another shape: at once where it is constant, as the
  /// integers that it stands for if there are any. `name` is that of the node that asks.
  func weights(
    _ value: ValueID, _ permutation: [Int], shape: [Int]? = nil, isCoded: Bool = false, _ name: String
  ) throws(OperatorError) -> TFLiteWeights {
    let extents = try self.shape(value)
    guard extents.count == permutation.count else {
      throw .mismatch("weights of \(permutation.count) axes were expected; they have \(extents.count)")
    }
    let moved = shape?.map { Dim($0) } ?? permutation.map { extents[$0] }
    if let (integers, quantization) = constantCodes[value], integers.dataType == .int8 {
      let ordered = try transposed(integers, permutation)
      var own = quantization
      if !own.isWhole {
        let axis = permutation.firstIndex(of: own.axis) ?? 0
        own.axis = shape.map { Self.axis(axis, of: ordered.shape.dims, in: $0) } ?? axis
      }
      let elements = shape.map { ordered.reshaped(to: Shape($0)) } ?? ordered
      let place = draft.addConstant(graph[value].name, elements, quantization: own)
      if isCoded { return TFLiteWeights(tensor: place, quantization: own) }
      let result = newTensor("\(name)/weights", .float32, moved)
      emit("DEQUANTIZE", [place], [result])
      return TFLiteWeights(tensor: result, quantization: nil)
    }
    if let constant = graph.constant(value) {
      let key = ConstantKey(value: value, permutation: permutation, shape: shape ?? [])
      if let known = constants[key] { return TFLiteWeights(tensor: known, quantization: nil) }
      let ordered = try transposed(constant, permutation)
      let place = wide(shape.map { ordered.reshaped(to: Shape($0)) } ?? ordered, graph[value].name)
      constants[key] = place
      return TFLiteWeights(tensor: place, quantization: nil)
    }
    var place = try tensor(value)
    if permutation != Array(permutation.indices) {
      let result = newTensor("\(name)/weights", try fact(value).dataType, permutation.map { extents[$0] })
      emit("TRANSPOSE", [place, integers(permutation)], [result])
      place = result
    }
    if let shape {
      let result = newTensor("\(name)/weights", try fact(value).dataType, moved)
      emit("RESHAPE", [place, integers(shape)], [result], TFLiteOptions([(0, .ints(shape))]))
      place = result
    }
    return TFLiteWeights(tensor: place, quantization: nil)
  }

  /// Where an axis lies when axes of one element come or go around it.
  private static func axis(_ axis: Int, of dims: [Int], in shape: [Int]) -> Int {
    let before = dims[..<axis].reduce(1, *)
    var product = 1
    for (place, extent) in shape.enumerated() {
      if product == before, extent == dims[axis] { return place }
      product *= extent
    }
    return axis
  }

  /// A constant with its axes in another order.
  func transposed(_ constant: Tensor, _ permutation: [Int]) throws(OperatorError) -> Tensor {
    if permutation == Array(permutation.indices) { return constant }
    let node = Node(
      OperatorID("Transpose"), inputs: [ValueID(0)], outputs: [ValueID(0)],
      attributes: Attributes([("perm", .ints(permutation))]))
    guard
      let results = inference.evaluate(
        node, facts: [.tensor(TensorFact(constant))], constants: [constant], limit: max(constant.byteCount, 1),
        memory: inference.allowance), let moved = results.first??.tensor
    else { throw OperatorError(.limit, "there is no memory for weights in the order of TensorFlow Lite") }
    return moved
  }

  /// A tensor of one axis of 32-bit integers, as most operators want what is no data.
  func integers(_ numbers: [Int]) -> Int {
    // Extents and places beyond 32 bits are refused when the tensors are written that have them.
    draft.addConstant("shape", Tensor(numbers.map { Int32(clamping: $0) }))
  }

  func constant(_ tensor: Tensor, _ name: String = "constant", _ quantization: TFLiteQuantization? = nil) -> Int {
    draft.addConstant(name, tensor, quantization: quantization)
  }

  // MARK: - Operators

  func emit(
    _ kind: String, _ inputs: [Int?], _ outputs: [Int], _ options: TFLiteOptions = .none, isGrouped: Bool = false
  ) {
    let known = inputs.map { $0.map { draft.tensors[$0] } }
    let shapes = known.compactMap { $0?.shape }
    var signature = TFLiteVersions.Signature(
      types: known.map { $0?.type }, outputs: outputs.map { draft.tensors[$0].type }, ranks: shapes.map(\.count),
      broadcasts: Set(shapes).count > 1, options: options)
    signature.isGrouped = isGrouped
    signature.hasScalesByChannel = (known.compactMap { $0 } + outputs.map { draft.tensors[$0] }).contains {
      $0.quantization.map { !$0.isWhole } ?? false
    }
    draft.addOperator(kind, version: TFLiteVersions.version(kind, signature), inputs, outputs, options)
  }
}

/// The weights of a product in the file.
struct TFLiteWeights {
  var tensor: Int
  /// nil: they are numbers.
  var quantization: TFLiteQuantization?
}

extension TFLiteQuantization {
  /// The same numbers for codes that are all larger by `steps`.
  func shifted(by steps: Int) -> TFLiteQuantization {
    TFLiteQuantization(scales: scales, zeroPoints: zeroPoints.map { $0 + steps }, axis: axis)
  }

  /// Scales that differ by less than this are the same: they were computed in two ways.
  private static let tolerance: Float = 1e-6

  func isSame(as other: TFLiteQuantization) -> Bool {
    guard scales.count == other.scales.count, zeroPoints == other.zeroPoints, isWhole || axis == other.axis else {
      return false
    }
    return zip(scales, other.scales).allSatisfy { abs($0 - $1) <= Self.tolerance * max($0, $1) }
  }
}
