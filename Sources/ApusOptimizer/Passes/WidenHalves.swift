// Computes what models of float16 and bfloat16 compute between Casts in float32, so that all kernels and fusions are
// theirs too. The weights of matrix products stay what they are.

import ApusGraph
import ApusOperators
import ApusTensor

/// Nodes of 16-bit floats that are connected, with a product of matrices among them, work on float32: what they read
/// from others is cast before, what others read from them behind. Every operator of 16 bits computes in float32 and
/// rounds its result; between such nodes that rounding falls away. Operators whose results jump see rounded numbers as
/// before (`isContinuous`), and so does a product of matrices with constant bfloat16, which some machines multiply
/// faster than floats.
struct WidenHalves: GraphPass {
  let name = "widen-halves"

  func run(_ graph: inout GraphEditor, within work: OptimizerWork) throws(OperatorError) -> Int {
    let nodes = HalfRegions(graph).nodes
    if nodes.isEmpty { return 0 }
    var widening = Widening()
    var changes = 0
    for node in nodes where work.budget.take() {
      try widening.widen(node, in: &graph)
      changes += 1
    }
    try widening.finish(&graph)
    return changes
  }
}

/// The nodes that are to work on float32.
private struct HalfRegions {
  /// In the order of the graph.
  private(set) var nodes: [NodeID] = []

  init(_ graph: borrowing GraphEditor) {
    let all = graph.nodes
    var places: [NodeID: Int] = [:]
    var candidates: [NodeID] = []
    for node in all where Self.isCandidate(node, in: graph, known: places) {
      places[node] = candidates.count
      candidates.append(node)
    }
    // Those that hand a value to each other belong together.
    var parents = Array(candidates.indices)
    func root(_ index: Int) -> Int {
      var index = index
      while parents[index] != index {
        parents[index] = parents[parents[index]]
        index = parents[index]
      }
      return index
    }
    var hasProduct = [Bool](repeating: false, count: candidates.count)
    for (index, node) in candidates.enumerated() {
      for case let value? in graph[node].inputs {
        guard graph.isHalf(value), let other = graph.producer(of: value).flatMap({ places[$0] }) else { continue }
        parents[root(other)] = root(index)
      }
    }
    for (index, node) in candidates.enumerated() where graph.schema(of: graph.op(of: node))?.multiplyAdds != nil {
      hasProduct[root(index)] = true
    }
    nodes = candidates.enumerated().filter { hasProduct[root($0.offset)] }.map(\.element)
  }

  /// `known`: the candidates before the node.
  private static func isCandidate(
    _ id: NodeID, in graph: borrowing GraphEditor, known: [NodeID: Int]
  ) -> Bool {
    let node = graph[id]
    guard !node.hasSubgraphs, let schema = graph.schema(of: node.op), node.attributes["softmax_precision"] == nil else {
      return false
    }
    var type: DataType?
    func isCommon(_ value: ValueID) -> Bool {
      guard let found = graph.dataType(value), graph.isHalf(value), type ?? found == found else { return false }
      type = found
      return true
    }
    let outputs = node.outputs.compactMap { $0 }
    guard !outputs.isEmpty, outputs.allSatisfy(isCommon) else { return false }
    var floats: [ValueID] = []
    for case let value? in node.inputs {
      guard let found = graph.dataType(value) else { return false }
      if !found.isFloat { continue }
      guard isCommon(value) else { return false }
      floats.append(value)
    }
    let moving = floats.filter { graph.constant($0) == nil }
    if schema.traits.contains(.movesData) {
      // Caches and tables stay as they are.
      return !moving.isEmpty && moving.allSatisfy { graph.producer(of: $0).flatMap { known[$0] } != nil }
    }
    return outputs.count == 1 && !moving.isEmpty && isContinuous(node.op, schema)
  }
}

extension GraphEditor {
  /// True for tensors of float16 and bfloat16.
  fileprivate func isHalf(_ value: ValueID) -> Bool {
    let type = dataType(value)
    return type == .float16 || type == .bfloat16
  }
}

/// Nodes being changed.
private struct Widening {
  /// The float32 form of values of 16 bits, and that of what is rounded to 16 bits.
  private var wide: [ValueID: ValueID] = [:]
  private var rounded: [ValueID: ValueID] = [:]
  /// Values that others may want in 16 bits, their float32 forms, and who computes those.
  private var results: [(narrow: ValueID, wide: ValueID, node: NodeID)] = []

  mutating func widen(_ id: NodeID, in graph: inout GraphEditor) throws(OperatorError) {
    var node = graph[id]
    let takesRounded = Self.multipliesConstant(node, in: graph)
    for (position, input) in node.inputs.enumerated() {
      guard let input, graph.isHalf(input) else { continue }
      let isRounded = takesRounded && position == 0
      if let known = isRounded ? rounded[input] : wide[input] {
        node.inputs[position] = known
        continue
      }
      let cast = try graph.apply(
        OperatorID("Cast"), name: "\(graph.name(of: input))/wide", [input],
        [("to", .int(Int(DataType.float32.rawValue)))],
        before: id)
      rounded[input] = cast
      if wide[input] == nil { wide[input] = cast }
      node.inputs[position] = cast
    }
    for (position, output) in node.outputs.enumerated() {
      guard let output else { continue }
      let value = graph.addValue(fact: .tensor(.float32, graph.shape(output)))
      wide[output] = value
      results.append((output, value, id))
      node.outputs[position] = value
    }
    let (inputs, outputs) = (node.inputs, node.outputs)
    graph.update(id) { ($0.inputs, $0.outputs) = (inputs, outputs) }
  }

  /// True for products with a constant matrix of bfloat16 that this machine multiplies faster than floats.
  private static func multipliesConstant(_ node: Node, in graph: borrowing GraphEditor) -> Bool {
    guard FusedGemm.canRoundRows, graph.schema(of: node.op)?.multiplyAdds != nil, node.inputs.count >= 2,
      let b = graph.constant(node.inputs[1])
    else { return false }
    return b.dataType == .bfloat16 && b.rank == 2
  }

  /// Gives the values that others want their 16 bits.
  func finish(_ graph: inout GraphEditor) throws(OperatorError) {
    for result in results where !graph.isUnused(result.narrow) {
      guard let type = graph.dataType(result.narrow) else { continue }
      try graph.insert(
        Node(
          OperatorID("Cast"), name: "\(graph.name(of: result.narrow))/narrow", inputs: [result.wide],
          outputs: [result.narrow], attributes: Attributes([("to", .int(Int(type.rawValue)))])),
        before: graph.node(after: result.node))
    }
  }
}
