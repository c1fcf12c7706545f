// A graph while its nodes become those of 16 bits, one after the other.

import ApusGraph
import ApusOperators
import ApusTensor

/// The graph, and which values there are in 16 bits.
///
/// A value of float32 that is computed in 16 bits keeps its identity for its float32 form, which a Cast makes before
/// the first node that wants it; so nodes that stay float32 need no change.
struct HalfWork: ~Copyable {
  private var graph: GraphEditor
  private let decisions: HalfDecisions
  private let options: HalfConversionOptions
  private let keepsInterface: Bool
  /// By value of float32: its form of 16 bits.
  private var halves: [ValueID: ValueID] = [:]
  /// Values whose float32 form nobody computes yet.
  private var unmade: Set<ValueID> = []
  /// By where constants lie: their form of 16 bits.
  private var constants: [WeightKey: Tensor] = [:]
  private var casts = 0
  /// Inputs that are of 16 bits now: those of float32 before, and their float32 forms.
  private var changedInputs: [(input: ValueID, wide: ValueID)] = []

  init(
    _ graph: Graph, _ decisions: HalfDecisions, _ options: HalfConversionOptions, _ inference: InferenceDriver,
    keepsInterface: Bool
  ) {
    (self.decisions, self.options, self.keepsInterface) = (decisions, options, keepsInterface)
    self.graph = GraphEditor(graph, inference: inference)
  }

  var nodes: [NodeID] { graph.nodes }
  func hasSubgraphs(_ id: NodeID) -> Bool { graph.hasSubgraphs(id) }

  /// Lets a node compute in 16 bits; returns the operator set that it needs.
  mutating func convert(_ id: NodeID) throws(CompressionError) -> Int? {
    let node = graph[id]
    guard let schema = graph.schema(of: node.op) else { return nil }
    var changed = node
    for position in node.inputs.indices {
      guard let value = node.inputs[position] else { continue }
      if decisions.takes(node, position, schema, in: graph) {
        changed.inputs[position] = try half(of: value, before: id)
      } else {
        try makeWide(value, before: id)
      }
    }
    let facts = try results(of: changed)
    for (position, output) in node.outputs.enumerated() {
      guard let output, facts[position].elementType == options.type.dataType,
        graph.fact(output).elementType == .float32
      else { continue }
      let narrow = graph.addValue(fact: .tensor(options.type.dataType, graph.fact(output).tensor?.shape))
      halves[output] = narrow
      unmade.insert(output)
      changed.outputs[position] = narrow
    }
    let (inputs, outputs) = (changed.inputs, changed.outputs)
    graph.update(id) { ($0.inputs, $0.outputs) = (inputs, outputs) }
    return HalfConverter.opset(of: schema, options.type)
  }

  private func results(of node: Node) throws(CompressionError) -> [ValueFact] {
    do throws(OperatorError) {
      return try graph.inference.infer(
        node, inputs: node.inputs.map { $0.map { graph.fact($0) } }, constants: node.inputs.map { graph.constant($0) }
      ) { _ in .unknown }
    } catch {
      throw CompressionError(error)
    }
  }

  /// Gives a node that stays as it is what it reads in float32, its own graphs included. What nothing is lost for, it
  /// reads in 16 bits.
  mutating func widen(_ id: NodeID) throws(CompressionError) {
    let node = graph[id]
    if decisions.decisions[id] == .neutral, !node.hasSubgraphs,
      !node.outputs.contains(where: { $0.map { graph.fact($0).elementType == .float32 } ?? false }),
      let schema = graph.schema(of: node.op)
    {
      var inputs = node.inputs
      for position in inputs.indices where decisions.takes(node, position, schema, in: graph) {
        if let value = inputs[position], let narrow = halves[value] { inputs[position] = narrow }
      }
      let changed = inputs
      graph.update(id) { $0.inputs = changed }
    }
    for value in graph[id].dependencies { try makeWide(value, before: id) }
  }

  mutating func updateSubgraphs(
    of id: NodeID, _ change: (inout Graph) throws(CompressionError) -> Void
  ) throws(CompressionError) {
    var failure: CompressionError?
    do throws(OperatorError) {
      _ = try graph.updateSubgraphs(of: id) { (subgraph) throws(OperatorError) in
        if failure != nil { return 0 }
        do throws(CompressionError) { try change(&subgraph.graph) } catch { failure = error }
        return 1
      }
    } catch {
      throw CompressionError(error)
    }
    if let failure { throw failure }
  }

  // MARK: - Both forms of a value

  /// The form of 16 bits of a value of float32.
  private mutating func half(of value: ValueID, before id: NodeID) throws(CompressionError) -> ValueID {
    if let known = halves[value] { return known }
    if let tensor = graph.constant(value) {
      let narrow = graph.addConstant(try halved(tensor))
      halves[value] = narrow
      return narrow
    }
    if !keepsInterface, graph.inputs.contains(value) {
      // The input itself is of 16 bits; `finish` says so.
      let narrow = graph.addValue(fact: .tensor(options.type.dataType, graph.fact(value).tensor?.shape))
      changedInputs.append((narrow, value))
      halves[value] = narrow
      unmade.insert(value)
      // Nodes that were passed by stay float32.
      if graph.users(of: value).contains(where: { graph.isBefore($0, id) }) {
        try makeWide(value, before: graph.firstNode)
      }
      return narrow
    }
    // Before whatever reads it first: right behind what computes it, at the latest.
    let place = graph.producer(of: value).flatMap { graph.node(after: $0) } ?? graph.firstNode ?? id
    let narrow = try cast(unconverted(value), to: options.type.dataType, name: graph.name(of: value), before: place)
    halves[value] = narrow
    return narrow
  }

  /// What a Cast to float32 reads, instead of what it gives.
  private func unconverted(_ value: ValueID) -> ValueID {
    guard let producer = graph.producer(of: value), graph.op(of: producer) == OperatorID("Cast"),
      let input = graph[producer].inputs.first ?? nil, graph.fact(input).elementType.map(\.isInteger) ?? false
    else { return value }
    return input
  }

  private mutating func halved(_ tensor: Tensor) throws(CompressionError) -> Tensor {
    let key = WeightKey(tensor, depthAxis: 0)
    if let known = constants[key] { return known }
    let narrow = try tensor.halved(options.type.dataType)
    constants[key] = narrow
    return narrow
  }

  /// Sees to it that the float32 form of a value exists.
  private mutating func makeWide(_ value: ValueID, before id: NodeID?) throws(CompressionError) {
    guard unmade.remove(value) != nil, let narrow = halves[value] else { return }
    casts += 1
    do throws(OperatorError) {
      try graph.insert(
        Node(
          OperatorID("Cast"), name: "\(graph.name(of: value))/float32", inputs: [narrow], outputs: [value],
          attributes: Attributes([("to", .int(Int(DataType.float32.rawValue)))])), before: id)
    } catch {
      throw CompressionError(error)
    }
  }

  private mutating func cast(
    _ value: ValueID, to type: DataType, name: String, before place: NodeID
  ) throws(CompressionError) -> ValueID {
    casts += 1
    do throws(OperatorError) {
      return try graph.apply(
        OperatorID("Cast"), name: "\(name)/\(type)", [value], [("to", .int(Int(type.rawValue)))], before: place)
    } catch {
      throw CompressionError(error)
    }
  }

  // MARK: - The end

  /// The graph with its outputs, and the number of Casts that were put in.
  consuming func finish() throws(CompressionError) -> (graph: Graph, casts: Int) {
    let outputs = graph.outputs
    if keepsInterface {
      for value in outputs { try makeWide(value, before: nil) }
    }
    do throws(OperatorError) {
      try graph.settle(keepsFaults: true)
    } catch {
      throw CompressionError(error)
    }
    let (halves, changedInputs, casts) = (halves, changedInputs, casts)
    var result = graph.finish()
    if keepsInterface { return (result, casts) }
    for (position, value) in outputs.enumerated() {
      guard let narrow = halves[value], result.constant(narrow) == nil else { continue }
      result.outputs[position] = narrow
      result.rename(value, to: narrow)
    }
    for (input, former) in changedInputs {
      guard let position = result.inputs.firstIndex(of: former) else { continue }
      result.inputs[position] = input
      result.rename(former, to: input)
    }
    result.inputDeclarations = []
    result.outputDeclarations = []
    return (result, casts)
  }
}

extension Graph {
  /// Gives the name of a value to another one.
  fileprivate mutating func rename(_ former: ValueID, to value: ValueID) {
    if self[former].name.isEmpty { return }
    self[value].name = self[former].name
    self[former].name = ""
  }
}
