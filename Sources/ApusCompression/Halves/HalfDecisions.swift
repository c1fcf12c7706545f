// Which nodes of a graph compute in 16 bits, and why others do not.

import ApusGraph
import ApusOperators
import ApusTensor

/// What becomes of each node of one graph.
struct HalfDecisions {
  enum Decision: Equatable {
    /// Its operands of float32 become those of 16 bits.
    case half
    /// It stays as it is, for a reason that people want to know,
    case kept(String)
    /// or because floats are nothing to it: it takes what it gets.
    case neutral
    /// It moves elements, and takes the type that those around it have.
    case moving
  }

  private(set) var decisions: [NodeID: Decision] = [:]
  private let options: HalfConversionOptions
  private let selection: NodeSelection
  private let ranges: HalfRanges
  private var constants: [ValueID: HalfRange] = [:]
  /// Floats that are integers as large as they like, and no samples tell how large.
  private var unbounded: Set<ValueID> = []

  init(
    _ graph: borrowing GraphEditor, _ options: HalfConversionOptions, _ ranges: HalfRanges
  ) throws(CompressionError) {
    (self.options, self.ranges) = (options, ranges)
    selection = NodeSelection(included: options.include, excluded: options.keep)
    for id in graph.nodes {
      noteIntegers(graph[id], in: graph)
      decisions[id] = try decide(id, in: graph)
    }
    settleMoving(in: graph)
  }

  /// What was found in the constants that nodes of 16 bits use.
  var constantRanges: [(value: ValueID, range: HalfRange)] {
    constants.map { ($0.key, $0.value) }.sorted { $0.value.index < $1.value.index }
  }

  private mutating func decide(_ id: NodeID, in graph: borrowing GraphEditor) throws(CompressionError) -> Decision {
    let node = graph[id]
    guard let schema = graph.schema(of: node.op) else { return .kept("nobody knows the operator") }
    let floats = node.inputs.compactMap { $0 }.filter { isFloat($0, in: graph) }
    let results = node.outputs.compactMap { $0 }.filter { isFloat($0, in: graph) }
    if node.hasSubgraphs {
      return floats.isEmpty && results.isEmpty ? .neutral : .kept("its graphs take and give float32")
    }
    if floats.isEmpty { return .neutral }
    if node.outputs.contains(where: { $0.map { isContainer($0, in: graph) } ?? false }) {
      return .kept("those who read what it makes take float32")
    }
    if !selection.contains(node) { return .kept("it is among those to keep") }
    // Shapes, comparisons of one value and conversions: they read what there is.
    if results.isEmpty, Set(floats).count == 1 { return .neutral }
    if results.isEmpty, floats.allSatisfy({ graph.constant($0) != nil }) {
      return .kept("it computes on integers; of floats it has scales alone")
    }
    if options.keepsSensitive, schema.traits.contains(.isSensitive) {
      return .kept("it adds up many elements, or raises to powers")
    }
    for value in floats {
      guard graph.constant(value) != nil else { continue }
      if let reason = try range(of: value, in: graph).refusal {
        return .kept("of the constant '\(graph.name(of: value))' " + reason)
      }
    }
    for value in floats + results {
      if let range = ranges.ranges[value], range.largest >= options.type.overflow {
        return .kept("'\(graph.name(of: value))' reached \(range.largest) on the samples")
      }
    }
    if let reason = refusal(of: node, schema, in: graph) { return .kept(reason) }
    if !schema.traits.contains(.movesData), floats.contains(where: { unbounded.contains($0) }) {
      return .kept("it reads integers that may be beyond the range of \(options.type.dataType)")
    }
    return schema.traits.contains(.movesData) ? .moving : .half
  }

  /// Sums of products of bytes, sizes and positions are soon beyond float16, which what they are multiplied with would
  /// undo too late.
  private mutating func noteIntegers(_ node: Node, in graph: borrowing GraphEditor) {
    guard options.type == .float16, let input = node.inputs.first ?? nil, let output = node.outputs.first ?? nil,
      isFloat(output, in: graph), ranges.ranges[output] == nil
    else { return }
    let isMoved = graph.schema(of: node.op)?.traits.contains(.movesData) ?? false
    if isMoved ? unbounded.contains(input) : node.op == OperatorID("Cast") && isWide(graph.fact(input).elementType) {
      unbounded.insert(output)
    }
  }

  private func isWide(_ type: DataType?) -> Bool {
    switch type {
    case .uint16, .int32, .uint32, .int64, .uint64: true
    default: false
    }
  }

  private mutating func range(
    of value: ValueID, in graph: borrowing GraphEditor
  ) throws(CompressionError) -> HalfRange {
    if let known = constants[value] { return known }
    guard let tensor = graph.constant(value) else { preconditionFailure("no constant") }
    let range = try HalfRange(tensor, options.type)
    constants[value] = range
    return range
  }

  private func isFloat(_ value: ValueID, in graph: borrowing GraphEditor) -> Bool {
    graph.fact(value).elementType == .float32
  }

  private func isContainer(_ value: ValueID, in graph: borrowing GraphEditor) -> Bool {
    switch graph.fact(value) {
    case .sequence, .optional, .map: true
    case .tensor, .unknown: false
    }
  }

  /// Why the node cannot take 16 bits: what its schema and its inference say.
  private func refusal(of node: Node, _ schema: OperatorSchema, in graph: borrowing GraphEditor) -> String? {
    let type = options.type.dataType
    if HalfConverter.opset(of: schema, options.type) == nil {
      return "it takes \(type) only in operator sets that few runtimes read"
    }
    let takers = node.inputs.indices.filter { takes(node, $0, schema, in: graph) }
    if takers.isEmpty { return "its operands are float32 by its definition" }
    let facts = node.inputs.indices.map { position -> ValueFact? in
      guard let value = node.inputs[position] else { return nil }
      let fact = graph.fact(value)
      return takers.contains(position) ? .tensor(type, fact.tensor?.shape) : fact
    }
    let constants = node.inputs.indices.map { takers.contains($0) ? nil : graph.constant(node.inputs[$0]) }
    do throws(OperatorError) {
      _ = try graph.inference.infer(node, inputs: facts, constants: constants) { _ in .unknown }
      return nil
    } catch {
      return "it does not take \(type): \(error.message)"
    }
  }

  /// Whether an input of a node of 16 bits is one of 16 bits: it is float32 now and may be another.
  func takes(_ node: Node, _ position: Int, _ schema: OperatorSchema, in graph: borrowing GraphEditor) -> Bool {
    guard let value = node.inputs[position], isFloat(value, in: graph), let parameter = schema.input(at: position)
    else { return false }
    return schema.types[parameter.type]?.tensors.contains(options.type.dataType) ?? false
  }

  // MARK: - Movement

  /// Nodes that move elements are of 16 bits where what they read is computed so, or what they give is wanted so:
  /// between nodes of float32 they change nothing.
  private mutating func settleMoving(in graph: borrowing GraphEditor) {
    let nodes = graph.nodes
    var wanted: Set<NodeID> = []
    for id in nodes.reversed() where decisions[id] == .moving {
      let users = graph[id].outputs.compactMap { $0 }.flatMap { graph.users(of: $0) }
      if users.contains(where: { decisions[$0] == .half || wanted.contains($0) }) { wanted.insert(id) }
    }
    for id in nodes where decisions[id] == .moving {
      let isComputedSo = graph[id].inputs.compactMap { $0 }.contains { value in
        isFloat(value, in: graph) && graph.producer(of: value).map { decisions[$0] == .half } ?? false
      }
      decisions[id] = isComputedSo || wanted.contains(id) ? .half : .neutral
    }
  }
}
