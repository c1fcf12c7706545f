// What a rule sees of the operator that it makes nodes of: operands as numbers or as they are stored, options, results.

import ApusContainers
import ApusGraph
import ApusTensor

/// How an operator becomes nodes.
struct TFLiteRule: Sendable {
  /// What operands and results are while the nodes are made.
  enum Form: Sendable {
    /// Numbers: integers that stand for numbers are decoded before and encoded behind.
    case numbers
    /// As they are stored, if operands and results are stored alike; else numbers.
    case moved
    /// As they are stored; the rule sees to the rest.
    case stored
  }

  let form: Form
  private let make: @Sendable (TFLiteLayer) throws(OperatorError) -> [ValueID?]

  /// Of numbers.
  init(_ make: @escaping @Sendable (TFLiteLayer) throws(OperatorError) -> [ValueID?]) { self.init(.numbers, make) }

  init(_ form: Form, _ make: @escaping @Sendable (TFLiteLayer) throws(OperatorError) -> [ValueID?]) {
    (self.form, self.make) = (form, make)
  }

  func results(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    try layer.checkComplexNumbers()
    let results = try make(layer)
    guard layer.form == .numbers else { return results }
    var stored: [ValueID?] = []
    for (index, result) in results.enumerated() {
      stored.append(try result.map { (value) throws(OperatorError) in try layer.codes(value, output: index) })
    }
    return stored
  }
}

/// An operator with its operands.
final class TFLiteLayer {
  let node: TFLiteOperator
  let scope: TFLiteScope
  /// `.numbers` or `.stored`.
  let form: TFLiteRule.Form
  var layers: LayerBuilder { scope.layers }

  init(_ node: TFLiteOperator, _ scope: TFLiteScope, _ form: TFLiteRule.Form) throws(OperatorError) {
    (self.node, self.scope) = (node, scope)
    guard form == .moved else {
      self.form = form
      return
    }
    let places = node.inputs.compactMap { $0 } + node.outputs
    let forms = Set(places.map { scope.subgraph.tensors[$0] }.compactMap(\.quantization))
    self.form = forms.count <= 1 ? .stored : .numbers
  }

  // MARK: - Operands

  var inputCount: Int { node.inputs.count }
  var outputCount: Int { node.outputs.count }

  func has(_ index: Int) -> Bool { index < node.inputs.count && node.inputs[index] != nil }

  /// The tensor of an operand; an error if it is left out.
  func tensor(_ index: Int) throws(OperatorError) -> TFLiteTensor { scope.subgraph.tensors[try place(index)] }

  func output(_ index: Int) throws(OperatorError) -> TFLiteTensor {
    guard index < node.outputs.count else {
      throw .invalid("at least \(index + 1) outputs were expected; the operator has \(node.outputs.count)")
    }
    return scope.subgraph.tensors[node.outputs[index]]
  }

  /// An error if an operand or a result is of complex numbers, and the rule of the operator knows nothing of these.
  func checkComplexNumbers() throws(OperatorError) {
    try check(node.inputs.compactMap(\.self), TFLiteRules.complexReaders, "operands")
    try check(node.outputs, TFLiteRules.complexMakers, "results")
  }

  private func check(_ places: [Int], _ takers: Set<String>, _ what: String) throws(OperatorError) {
    for tensor in places.map({ scope.subgraph.tensors[$0] }) {
      guard let type = tensor.type, type.isComplex, type != .complex64 || !takers.contains(node.kind) else { continue }
      throw .unsupported(
        "\(what) of \(type) are not supported; '\(tensor.name)' is of that type",
        remedy: "Compute with real and imaginary parts or magnitudes (tf.math.real, tf.math.imag, tf.abs)")
    }
  }

  func place(_ index: Int) throws(OperatorError) -> Int {
    guard index < node.inputs.count, let place = node.inputs[index] else {
      throw .invalid("operand \(index) is missing; the operator has \(node.inputs.count) operands")
    }
    return place
  }

  /// An operand in the form of the rule.
  func input(_ index: Int) throws(OperatorError) -> ValueID {
    try form == .numbers ? number(index) : stored(index)
  }

  /// An operand in the form of the rule; nil if it is left out.
  func optional(_ index: Int) throws(OperatorError) -> ValueID? { has(index) ? try input(index) : nil }

  /// An operand as the file stores it.
  func stored(_ index: Int) throws(OperatorError) -> ValueID {
    let place = try place(index)
    guard let value = try Self.rethrowing({ () throws(LoadError) in try scope.storedValue(place) }) else {
      throw .invalid("operand \(index), '\(scope.subgraph.tensors[place].name)', has no value")
    }
    return value
  }

  /// An operand as numbers.
  func number(_ index: Int) throws(OperatorError) -> ValueID {
    let place = try place(index)
    guard let value = try scope.numberValue(place) else {
      throw .invalid("operand \(index), '\(scope.subgraph.tensors[place].name)', has no value")
    }
    return value
  }

  /// An operand as numbers with its axes in another order, changed as it is stored, so that constants stay integers.
  func number(_ index: Int, transposed permutation: [Int]) throws(OperatorError) -> ValueID {
    var place = try place(index)
    // The constant behind a tensor of numbers.
    let constant = scope.decodedForms[place]
    place = constant ?? place
    let tensor = scope.subgraph.tensors[place]
    guard let value = try Self.rethrowing({ () throws(LoadError) in try scope.storedValue(place) }) else {
      throw .invalid("operand \(index), '\(tensor.name)', has no value")
    }
    guard try layers.rank(value) == permutation.count else {
      throw .mismatch("operand \(index) should have \(permutation.count) axes; it has \(try layers.rank(value))")
    }
    let moved = try layers.transpose(value, permutation)
    guard permutation != Array(permutation.indices) else { return try number(index) }
    let axis = tensor.quantization.flatMap { permutation.firstIndex(of: $0.axis) }
    return try scope.number(moved, of: tensor, axis: axis, widens: constant != nil)
  }

  /// A picture or volume with the channels behind the batch, as numbers. The order is changed as it is stored.
  func image(_ index: Int = 0) throws(OperatorError) -> ValueID {
    let rank = try imageRank(index)
    return try number(index, transposed: [0, rank - 1] + Array(1..<(rank - 1)))
  }

  /// The same in the form of the rule.
  func storedImage(_ index: Int = 0) throws(OperatorError) -> ValueID {
    _ = try imageRank(index)
    return try form == .numbers ? image(index) : layers.channelsFirst(stored(index))
  }

  private func imageRank(_ index: Int) throws(OperatorError) -> Int {
    let rank = try layers.rank(stored(index))
    if rank < 3 { throw .mismatch("batch, spatial axes and channels were expected; the operand has \(rank) axes") }
    return rank
  }

  /// The integers of an operand that must be known.
  func integers(_ index: Int, _ what: String) throws(OperatorError) -> [Int] {
    guard let numbers = layers.integers(try stored(index)) else {
      throw .unsupported(
        "\(what) should be known when the model is read; operand \(index) is computed",
        remedy: "Export the model with fixed shapes")
    }
    return numbers
  }

  /// The one integer of an operand, which must be known.
  func integer(_ index: Int, _ what: String) throws(OperatorError) -> Int {
    let numbers = try integers(index, what)
    guard numbers.count == 1 else { throw .invalid("\(what) should be one number; there are \(numbers.count)") }
    return numbers[0]
  }

  /// The one float of a constant operand.
  func float(_ index: Int, _ what: String) throws(OperatorError) -> Float {
    guard let numbers = layers.constant(try stored(index))?.elements(as: Float.self), numbers.count == 1 else {
      throw .unsupported("\(what) should be one constant number")
    }
    return numbers[0]
  }

  /// An operand of indices or extents, as int64.
  func longs(_ index: Int) throws(OperatorError) -> ValueID { try layers.cast(stored(index), to: .int64) }

  /// An axis of `rank`, counted from the front.
  func axis(_ axis: Int, rank: Int) throws(OperatorError) -> Int {
    let position = axis < 0 ? axis + rank : axis
    guard position >= 0, position < rank else { throw .invalid("there is no axis \(axis) of \(rank)") }
    return position
  }

  // MARK: - Options

  func option(_ field: Int, default value: Int = 0) throws(OperatorError) -> Int {
    try Self.rethrowing { () throws(LoadError) in
      Int(try node.options?.int32(field, default: Int32(value)) ?? Int32(value))
    }
  }
  /// An option of a byte: an enumeration.
  func choice(_ field: Int) throws(OperatorError) -> Int {
    try Self.rethrowing { () throws(LoadError) in Int(try node.options?.int8(field) ?? 0) }
  }
  func flag(_ field: Int, default value: Bool = false) throws(OperatorError) -> Bool {
    try Self.rethrowing { () throws(LoadError) in try node.options?.bool(field, default: value) ?? value }
  }
  func real(_ field: Int, default value: Float = 0) throws(OperatorError) -> Float {
    let number = try Self.rethrowing { () throws(LoadError) in
      try node.options?.float32(field, default: value) ?? value
    }
    guard number.isFinite else { throw .invalid("an option should be a finite number; it is \(number)") }
    return number
  }
  /// An element type that an option names.
  func type(_ field: Int, default value: DataType) throws(OperatorError) -> DataType {
    guard node.options != nil else { return value }
    let code = try choice(field)
    guard TFLiteSchema.elementTypes.indices.contains(code), let type = TFLiteSchema.elementTypes[code] else {
      throw .invalid("an option should name an element type; it is \(code)")
    }
    return type
  }

  static func rethrowing<Result>(_ body: () throws(LoadError) -> Result) throws(OperatorError) -> Result {
    do throws(LoadError) {
      return try body()
    } catch {
      throw OperatorError(
        error.code == .limitExceeded ? .limit : error.code == .unsupported ? .unsupported : .invalidNode,
        error.message, remedy: error.remedy)
    }
  }

  // MARK: - Results

  /// Numbers as output `index` stores them.
  func codes(_ value: ValueID, output index: Int = 0) throws(OperatorError) -> ValueID {
    try scope.codes(value, of: output(index))
  }

  /// The codes of a type of integers.
  static func codeRange(of type: DataType) throws(OperatorError) -> ClosedRange<Int> {
    guard type.isInteger, type.bits <= 32 else { throw .unsupported("codes of \(type) are not supported") }
    return type.isSignedInteger ? -(1 << (type.bits - 1))...((1 << (type.bits - 1)) - 1) : 0...((1 << type.bits) - 1)
  }

  /// Numbers behind the activation that an operator ends with, as output 0 stores them.
  func activated(_ value: ValueID, _ code: Int) throws(OperatorError) -> ValueID {
    let tensor = try output(0)
    guard let quantization = tensor.quantization, let type = tensor.type, quantization.isWhole, type.bits == 8,
      quantization.scales[0] > 0, let (low, high) = bounds(code)
    else { return try codes(activation(value, code)) }
    // Bounds of the codes, which the codes often keep by themselves.
    let range = try Self.codeRange(of: type)
    let bounds = [low, high].map { bound in
      bound.map { Double($0) / Double(quantization.scales[0]) + Double(quantization.zeroPoints[0]) }
        .map { $0.rounded() }.map { Int(min(max($0, Double(range.lowerBound)), Double(range.upperBound))) }
    }
    let encoded = try codes(value)
    let least = bounds[0].flatMap { $0 > range.lowerBound ? Double($0) : nil }
    let most = bounds[1].flatMap { $0 < range.upperBound ? Double($0) : nil }
    return least == nil && most == nil ? encoded : try layers.clip(encoded, least, most)
  }

  /// The bounds of an activation that is a clip; nil if it is none.
  private func bounds(_ code: Int) -> (Float?, Float?)? {
    switch code {
    case 0: (nil, nil)
    case 1: (0, nil)
    case 2: (-1, 1)
    case 3: (0, 6)
    default: nil
    }
  }

  /// The activation with the number `code` of the schema.
  func activation(_ value: ValueID, _ code: Int) throws(OperatorError) -> ValueID {
    switch code {
    case 0: value
    case 1: try layers.emit("Relu", [value])
    case 2: try layers.clip(value, -1, 1)
    case 3: try layers.clip(value, 0, 6)
    case 4: try layers.emit("Tanh", [value])
    default: throw .unsupported("the fused activation \(code) is not supported")
    }
  }
}
