// Graphs inside the nodes of an exported program: in the place of the node, or as subgraphs of If and Loop.

import ApusContainers
import ApusGraph
import ApusTensor

extension TorchLowering {
  /// A tensor or number that is an argument. Numbers have the shape [1].
  func value(_ argument: TorchArgument) throws(OperatorError) -> ValueID {
    switch argument {
    case .tensor(let name): return try tensor(name)
    case .size(let size): return try self.size(size)
    case .symbol(let name): return try symbol(name)
    case .float(let number): return layers.constant(Tensor([number]))
    case .bool(let truth): return try layers.cast(layers.integers([truth ? 1 : 0]), to: .bool)
    default: throw .unsupported("an operand that is neither a tensor nor a number")
    }
  }

  private func lowering(_ graph: TorchGraph, _ layers: LayerBuilder) -> TorchLowering {
    TorchLowering(graph, layers: layers, archive: nil, outputs: graph.outputs.flatMap(\.names))
  }

  /// Gives the inputs of a graph their values.
  private func bind(_ operands: [ValueID]) throws(OperatorError) {
    guard graph.inputs.count == operands.count else {
      throw .invalid("a graph of \(graph.inputs.count) inputs has \(operands.count) operands")
    }
    for (input, value) in zip(graph.inputs, operands) {
      switch input {
      case .tensor(let name): bind(name, to: value)
      case .size(.name(let name)), .symbol(let name): bind(symbol: name, to: value)
      default: continue
      }
    }
  }

  private func results() throws(OperatorError) -> [ValueID] {
    var values: [ValueID] = []
    for output in graph.outputs { values.append(try value(output)) }
    return values
  }

  /// Runs as a part of a layer: what is wrong with a node is an error of the layer.
  private func runInside() throws(OperatorError) {
    for node in graph.nodes where isNeeded(node) {
      do throws(OperatorError) {
        bindResults(of: node, try make(node))
      } catch {
        throw OperatorError(
          error.code, "in its graph, \(node.target) '\(node.name)': \(error.message)", remedy: error.remedy)
      }
    }
  }

  /// The results of a graph whose nodes go where the caller stands.
  func inline(_ inner: TorchGraph, _ operands: [TorchArgument]) throws(OperatorError) -> [ValueID?] {
    let lowering = lowering(inner, layers)
    var values: [ValueID] = []
    for operand in operands { values.append(try value(operand)) }
    try lowering.bind(values)
    try lowering.runInside()
    return try lowering.results().map { $0 }
  }

  /// A graph as one of a node, which captures its operands.
  func subgraph(_ inner: TorchGraph, _ operands: [TorchArgument], name: String) throws(OperatorError) -> Subgraph {
    let builder = LayerBuilder(name: name, inside: layers)
    let lowering = lowering(inner, builder)
    var values: [ValueID] = []
    for operand in operands { values.append(builder.builder.importing(try value(operand), of: layers.builder)) }
    try lowering.bind(values)
    try lowering.runInside()
    for result in try lowering.results() { try builder.result(result) }
    return builder.builder.subgraph
  }

  /// The body of a Loop: round and condition, then what is carried, of which the program gives the types.
  func loop(
    _ body: TorchGraph, _ check: TorchGraph, carried: [TorchArgument], rest: [TorchArgument]
  ) throws(OperatorError) -> Subgraph {
    let builder = LayerBuilder(name: "body", inside: layers)
    _ = builder.input("round", .int64, [])
    _ = builder.input("goes_on", .bool, [])
    let lowering = lowering(body, builder)
    var values: [ValueID] = []
    for (index, argument) in carried.enumerated() {
      let outer = try value(argument)
      guard let type = layers.type(outer) else { throw .unsupported("a carried value of unknown type") }
      values.append(builder.input("carried_\(index)", type, layers.builder.shape(outer)))
    }
    var others: [ValueID] = []
    for argument in rest { others.append(builder.builder.importing(try value(argument), of: layers.builder)) }
    try lowering.bind(values + others)
    try lowering.runInside()
    let results = try lowering.results()
    guard results.count == carried.count else { throw .invalid("a body should give what it carries") }
    let condition = TorchLowering(check, layers: builder, archive: nil, outputs: check.outputs.flatMap(\.names))
    try condition.bind(results + others)
    try condition.runInside()
    guard let goesOn = try condition.results().first else { throw .invalid("a condition should have a result") }
    try builder.result(try builder.cast(try builder.reshape(goesOn, []), to: .bool))
    for result in results { try builder.result(result) }
    return builder.builder.subgraph
  }
}

extension LayerBuilder {
  /// Makes a value an output of a graph inside a node, by a node of its own where no node of the graph computes it.
  fileprivate func result(_ value: ValueID) throws(OperatorError) {
    let graph = builder.graph
    let isOwn = graph.nodes.contains { $0.outputs.contains(value) } && !graph.outputs.contains(value)
    let output = isOwn ? value : try emit("Identity", [value])
    builder.graph.outputs.append(output)
    builder.graph.outputDeclarations.append(fact(output))
  }
}
