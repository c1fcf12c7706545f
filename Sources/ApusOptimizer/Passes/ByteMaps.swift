// Functions of single bytes → tables: whatever is computed element by element between a tensor of bytes and a
// QuantizeLinear to bytes has 256 values.

import ApusGraph
import ApusOperators
import ApusTensor

/// DequantizeLinear → operators element by element on one tensor and constant numbers → QuantizeLinear becomes
/// apus.ByteMap. Its table is what these nodes compute, so the bits stay the same.
struct ByteMaps: GraphPass {
  let name = "map-bytes"

  func run(_ graph: inout GraphEditor, within work: OptimizerWork) throws(OperatorError) -> Int {
    var changes = 0
    for root in graph.nodes where graph[root].op == OperatorID("QuantizeLinear") {
      try work.allowance.checkTime()
      guard let function = ByteFunction(root, in: graph), let table = function.table(in: graph, work),
        let output = graph[root].outputs[0], work.budget.take()
      else { continue }
      let inputs = [function.source, graph.addConstant(table)]
      graph.update(root) { node in
        node = Node(ByteMap.id, name: node.name, inputs: inputs, outputs: [output], attributes: Attributes())
      }
      changes += 1
    }
    return changes
  }
}

/// What a node computes, as a function of the elements of one tensor of bytes.
private struct ByteFunction {
  /// The tensor.
  let source: ValueID
  /// The nodes, each after those whose results it reads.
  private let nodes: [NodeID]

  /// More nodes than a function would have.
  private static let largest = 32
  private static let bytes: [DataType] = [.int8, .uint8]

  /// nil if the node is no such function, or none that is worth a table.
  init?(_ root: NodeID, in graph: borrowing GraphEditor) {
    guard let output = graph[root].outputs[0], ByteFunction.isByte(output, in: graph) else { return nil }
    var search = Search(shapedAs: output)
    guard search.add(root, in: graph), let source = search.source, search.nodes.count > 1 else { return nil }
    (self.source, nodes) = (source, search.nodes)
  }

  static func isByte(_ value: ValueID, in graph: borrowing GraphEditor) -> Bool {
    graph.dataType(value).map { bytes.contains($0) } ?? false
  }

  /// Walks from the result to the tensor that it is a function of.
  private struct Search {
    private(set) var source: ValueID?
    private(set) var nodes: [NodeID] = []
    private let result: ValueID

    init(shapedAs result: ValueID) { self.result = result }

    /// Adds a node and all before it; false if they depend on anything but the elements of one tensor of bytes.
    mutating func add(_ id: NodeID, in graph: borrowing GraphEditor) -> Bool {
      if nodes.contains(id) { return true }
      let node = graph[id]
      guard nodes.count < ByteFunction.largest, let schema = graph.schema(of: node.op), node.outputs.count == 1,
        node.subgraphs.isEmpty, !schema.traits.contains(.random), isElementwise(node, schema, in: graph)
      else { return false }
      for input in node.inputs {
        guard let input, graph.constant(input) == nil else { continue }
        guard graph.haveSameShape(input, result), follow(input, in: graph) else { return false }
      }
      nodes.append(id)
      return true
    }

    /// A value on the way: a tensor of bytes where the function begins, or what a node computes.
    private mutating func follow(_ value: ValueID, in graph: borrowing GraphEditor) -> Bool {
      let producer = graph.producer(of: value)
      if ByteFunction.isByte(value, in: graph) {
        if let producer, graph[producer].op == ByteMap.id { return add(producer, in: graph) }
        guard source == nil || source == value else { return false }
        source = value
        return true
      }
      guard let producer else { return false }
      return add(producer, in: graph)
    }

    /// Whether each element of the result comes from those in its place, and constants are numbers.
    private func isElementwise(_ node: Node, _ schema: OperatorSchema, in graph: borrowing GraphEditor) -> Bool {
      switch schema.layout {
      case .elementwise(let condition): return condition(graph.facts(of: node, schema))
      case .broadcasting: return node.inputs.allSatisfy { graph.constant($0).map { $0.count == 1 } ?? true }
      default: return false
      }
    }
  }

  /// The values of the function by the pattern of bits of its argument; nil if they cannot be computed.
  func table(in graph: borrowing GraphEditor, _ work: OptimizerWork) -> Tensor? {
    guard let type = graph.dataType(source) else { return nil }
    let all = (0..<ByteMap.size).map { UInt8($0) }
    var known: [ValueID: Tensor] = [
      source: type == .uint8 ? Tensor(all) : Tensor(all.map { Int8(bitPattern: $0) })
    ]
    for id in nodes {
      let node = graph[id]
      let inputs = node.inputs.map { $0.flatMap { known[$0] ?? graph.constant($0) } }
      let facts = zip(node.inputs, inputs).map { value, tensor in
        value == nil ? nil : tensor.map { ValueFact.tensor(TensorFact($0)) }
      }
      guard
        let results = work.inference.evaluate(
          node, facts: facts, constants: inputs, limit: 1 << 16, memory: work.folding),
        let output = node.outputs[0], let tensor = results.first??.tensor, tensor.count == ByteMap.size
      else { return nil }
      known[output] = tensor.rank == 1 ? tensor : tensor.reshaped(to: [ByteMap.size])
    }
    return nodes.last.flatMap { graph[$0].outputs[0] }.flatMap { known[$0] }
  }
}
