// Subgraphs, variables and the edges between numbers and codes of TensorFlow Lite.

import ApusContainers
import ApusGraph
import ApusTensor

extension TFLiteRules {
  // MARK: - Numbers and codes

  static let quantization: [String: TFLiteRule] = [
    "QUANTIZE": TFLiteRule(.stored, quantize), "DEQUANTIZE": TFLiteRule(.stored, dequantize),
    "FAKE_QUANT": TFLiteRule(fakeQuantize),
  ]

  /// From numbers, or from codes of other scales.
  private static func quantize(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (source, target) = (try layer.tensor(0), try layer.output(0))
    if source.quantization == target.quantization, source.type == target.type {
      return [try layer.stored(0)]
    }
    return [try layer.codes(layer.number(0))]
  }

  /// A constant stays what it is until somebody asks for its numbers.
  private static func dequantize(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    if layer.layers.constant(try layer.stored(0)) != nil, layer.node.outputs.count == 1 {
      layer.scope.decode(try layer.place(0), as: layer.node.outputs[0])
      return [nil]
    }
    return [try layer.layers.cast(layer.number(0), to: .float32)]
  }

  /// The nearest of 2^bits steps between two bounds, which are moved so that zero is a step.
  private static func fakeQuantize(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let layers = layer.layers
    let (low, high, bits) = (try layer.real(0), try layer.real(1), try layer.option(2))
    guard (2...16).contains(bits), low <= 0, high >= 0, low < high else {
      throw .invalid("bounds around zero and 2 to 16 bits were expected; they are \(low), \(high), \(bits)")
    }
    let (first, last) = (Float(try layer.flag(3) ? 1 : 0), Float((1 << bits) - 1))
    let scale = (high - low) / (last - first)
    let zero = min(max((first - low / scale).rounded(), first), last)
    let bounded = try layers.clip(
      layer.input(0), Double((first - zero) * scale), Double((last - zero) * scale))
    // Halves go up, as the formula of TensorFlow has it.
    let shifted = try layers.emit("Sub", [bounded, layers.scalar((first - zero) * scale)])
    let steps = try layers.emit("Mul", [shifted, layers.scalar(1 / scale)])
    let nearest = try layers.emit("Floor", [layers.emit("Add", [steps, layers.scalar(0.5)])])
    let moved = try layers.emit("Mul", [nearest, layers.scalar(scale)])
    return [try layers.emit("Add", [moved, layers.scalar((first - zero) * scale)])]
  }

  // MARK: - Subgraphs

  static let controlFlow: [String: TFLiteRule] = [
    "IF": TFLiteRule(.stored, choose), "WHILE": TFLiteRule(.stored, loop), "CALL": TFLiteRule(.stored, call),
    "CALL_ONCE": TFLiteRule(.stored, callOnce), "STABLEHLO_COMPOSITE": TFLiteRule(.stored, composite),
    "VAR_HANDLE": TFLiteRule(.stored, handle), "READ_VARIABLE": TFLiteRule(.stored, readVariable),
    "ASSIGN_VARIABLE": TFLiteRule(.stored, assignVariable),
  ]

  /// The outputs of subgraph `number` for `inputs`, its nodes appended to `layers`.
  private static func inline(
    _ number: Int, _ inputs: [ValueID?], of layer: TFLiteLayer, into layers: LayerBuilder
  ) throws(OperatorError) -> [ValueID] {
    let program = layer.scope.program
    guard number > 0, program.model.subgraphs.indices.contains(number) else {
      throw .invalid("one of \(program.model.subgraphs.count) subgraphs was expected; it is number \(number)")
    }
    guard layer.scope.depth < TFLiteProgram.maximumDepth else {
      throw OperatorError(.limit, "subgraphs lie more than \(TFLiteProgram.maximumDepth) deep in each other")
    }
    let subgraph = program.model.subgraphs[number]
    guard subgraph.inputs.count == inputs.count else {
      throw .invalid("subgraph \(number) takes \(subgraph.inputs.count) values; \(inputs.count) were given")
    }
    let scope = TFLiteScope(program, number, layers, depth: layer.scope.depth + 1)
    let outputs = try TFLiteLayer.rethrowing { () throws(LoadError) in try scope.run(inputs) }
    let values = outputs.compactMap(\.self)
    guard values.count == outputs.count else { throw .invalid("an output of subgraph \(number) has no value") }
    return values
  }

  private static func operands(_ layer: TFLiteLayer, from first: Int = 0) throws(OperatorError) -> [ValueID] {
    guard layer.inputCount >= first else { throw .invalid("at least \(first) operands were expected") }
    return try (first..<layer.inputCount).map { (index) throws(OperatorError) in try layer.stored(index) }
  }

  private static func call(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let results = try inline(layer.option(0), operands(layer), of: layer, into: layer.layers)
    guard results.count == layer.outputCount else { throw .invalid("as many results as outputs were expected") }
    return results
  }

  private static func composite(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    try inline(layer.option(1), operands(layer), of: layer, into: layer.layers)
  }

  /// A condition of one element, as a scalar.
  private static func condition(_ value: ValueID, _ layers: LayerBuilder) throws(OperatorError) -> ValueID {
    let flag = try layers.cast(value, to: .bool)
    return try layers.rank(flag) == 0 ? flag : try layers.reshape(flag, [])
  }

  /// Makes a value of `layers` an output of its graph, which must have a node for it.
  private static func output(_ value: ValueID, of layers: LayerBuilder) throws(OperatorError) {
    let isForeign = layers.builder.graph.captures.contains(value)
    try layers.output(isForeign ? layers.emit("Identity", [value]) : value, named: "")
  }

  private static func choose(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let values = try operands(layer, from: 1)
    var branches: [(String, AttributeValue)] = []
    for (field, name) in [(0, "then_branch"), (1, "else_branch")] {
      let inner = LayerBuilder(name: name, inside: layer.layers)
      let inputs = values.map { inner.builder.importing($0, of: layer.layers.builder) }
      let results = try inline(layer.option(field), inputs, of: layer, into: inner)
      guard results.count == layer.outputCount else { throw .invalid("as many results as outputs were expected") }
      for result in results { try output(result, of: inner) }
      branches.append((name, .graph(inner.builder.subgraph)))
    }
    let flag = try condition(layer.stored(0), layer.layers)
    return try layer.layers.emit("If", [flag], branches, outputs: layer.outputCount)
  }

  /// Values that the body hands on unchanged are not values of the loop.
  private static func loop(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, model) = (layer.layers, layer.scope.program.model)
    let (test, body) = (try layer.option(0), try layer.option(1))
    let initial = try operands(layer)
    guard body > 0, model.subgraphs.indices.contains(body), model.subgraphs[body].inputs.count == initial.count,
      model.subgraphs[body].outputs.count == initial.count, layer.outputCount == initial.count
    else { throw .invalid("a body of \(initial.count) values was expected") }
    let graph = model.subgraphs[body]
    let carried = initial.indices.filter { graph.outputs[$0] != graph.inputs[$0] }
    let first = try condition(one(inline(test, initial, of: layer, into: layers)), layers)
    let inner = LayerBuilder(name: "body", inside: layers)
    _ = inner.builder.addInput("iteration", fact: .tensor(.int64, []))
    _ = inner.builder.addInput("goes_on", fact: .tensor(.bool, []))
    var inputs: [ValueID] = []
    for (index, value) in initial.enumerated() {
      if carried.contains(index) {
        let fact = fact(of: graph.tensors[graph.inputs[index]], layers.fact(value))
        inputs.append(inner.builder.addInput("", fact: fact))
      } else {
        inputs.append(inner.builder.importing(value, of: layers.builder))
      }
    }
    let next = try inline(body, inputs, of: layer, into: inner)
    let again = try condition(one(inline(test, next, of: layer, into: inner)), inner)
    try output(again, of: inner)
    for index in carried { try output(next[index], of: inner) }
    let results = try layers.emit(
      "Loop", [nil, first] + carried.map { initial[$0] }, [("body", .graph(inner.builder.subgraph))],
      outputs: carried.count)
    var values: [ValueID?] = initial
    for (index, result) in zip(carried, results) { values[index] = result }
    return values
  }

  private static func one(_ values: [ValueID]) throws(OperatorError) -> ValueID {
    guard values.count == 1 else { throw .invalid("a condition should give one value; it gives \(values.count)") }
    return values[0]
  }

  /// What is known of a value of a loop in every turn: the extents that the file fixes.
  private static func fact(of tensor: TFLiteTensor, _ first: ValueFact) -> ValueFact {
    guard let known = first.tensor, let shape = known.shape else { return first.withoutShapes }
    guard shape.count == tensor.shape.count else { return .tensor(known.dataType, nil) }
    let fixed = tensor.signature?.count == shape.count ? tensor.signature ?? [] : tensor.shape
    return .tensor(
      known.dataType,
      zip(shape, fixed).map { dim, extent in dim.known == extent || dim.known == nil ? dim : .unknown })
  }

  // MARK: - Variables

  /// Gives variables their first values.
  private static func callOnce(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let program = layer.scope.program
    program.isInitializing = true
    defer { program.isInitializing = false }
    _ = try inline(layer.option(0), [], of: layer, into: layer.layers)
    return []
  }

  /// A handle is the name of its variable.
  private static func handle(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let name = try TFLiteLayer.rethrowing { () throws(LoadError) in
      (try layer.node.options?.string(0) ?? "") + "/" + (try layer.node.options?.string(1) ?? "")
    }
    return [layer.layers.constant(Tensor(strings: [name], shape: []))]
  }

  private static func variable(_ layer: TFLiteLayer) throws(OperatorError) -> String {
    guard let name = layer.layers.constant(try layer.stored(0))?.strings?.first else {
      throw .unsupported("the variable should be known when the model is read")
    }
    return name
  }

  private static func readVariable(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let name = try variable(layer)
    guard let (value, owner) = layer.scope.program.variables[name] else {
      throw .unsupported("the variable '\(name)' has no value when it is read")
    }
    return [layer.layers.builder.importing(value, of: owner)]
  }

  private static func assignVariable(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let name = try variable(layer)
    guard layer.scope.program.isInitializing else {
      throw .unsupported(
        "the model changes its variable '\(name)' when it runs, and a graph keeps nothing between runs",
        remedy: "Export the model with the state as an input and an output")
    }
    layer.scope.program.variables[name] = (try layer.stored(1), layer.layers.builder)
    return []
  }
}
