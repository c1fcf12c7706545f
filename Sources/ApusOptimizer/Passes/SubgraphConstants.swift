// Makes constants of what is constant inside of a subgraph: values that a Loop or Scan carries unchanged become
// captured ones, and captured constants become constants of the subgraph.

import ApusGraph
import ApusTensor

struct SubgraphConstants: GraphPass {
  let name = "subgraph-constants"

  func run(_ graph: inout GraphEditor, within work: OptimizerWork) throws(OperatorError) -> Int {
    var changes = 0
    for id in graph.nodes where graph.hasSubgraphs(id) {
      var node = graph[id]
      let (released, copies) = releaseCarried(&node, graph, work.registry)
      var shared = 0
      node.attributes.updateGraphs { subgraph in shared += share(graph, with: &subgraph) }
      guard released + shared > 0, work.budget.take() else { continue }
      changes += released + shared
      graph.update(id) { $0 = node }
      let next = graph.node(after: id)
      for copy in copies { try graph.insert(copy, before: next) }
    }
    return changes
  }

  // MARK: - Carried values

  /// The value that a body carries at a position: which input and output of the body and of the node it is.
  private struct Carried {
    let input: Int
    let bodyOutput: Int
    let output: Int
  }

  private func carried(_ node: Node, _ body: Graph, _ registry: OperatorRegistry) -> [Carried] {
    guard let values = registry.definition(of: node.op)?.schema.carried else { return [] }
    return (0..<max(0, values.count(node, body.inputs.count))).map {
      Carried(input: values.input + $0, bodyOutput: values.bodyOutput + $0, output: values.output + $0)
    }
  }

  /// Lets the body of a loop capture the tensors that it hands on as it gets them. Returns their number, and nodes that
  /// compute what was the last value of each.
  private func releaseCarried(
    _ node: inout Node, _ graph: borrowing GraphEditor, _ registry: OperatorRegistry
  ) -> (count: Int, copies: [Node]) {
    guard case .graph(var subgraph)? = node.attributes["body"] else { return (0, []) }
    let places = carried(node, subgraph.graph, registry)
    // Without an iteration the extents of what is scanned come from inputs of the node: those of unknown extents stay.
    let scans = (places.last?.bodyOutput ?? 0) + 1 < subgraph.graph.outputs.count
    let producers = GraphIndex(subgraph.graph).producers
    var count = 0
    var copies: [Node] = []
    // From the last one, so that positions before it stay.
    for place in places.reversed() {
      guard place.input < node.inputs.count, place.bodyOutput < subgraph.graph.outputs.count,
        let initial = node.inputs[place.input], let fact = graph.fact(initial).tensor,
        !scans || fact.concreteShape != nil,
        case let inner = subgraph.graph.inputs[place.input],
        source(of: subgraph.graph.outputs[place.bodyOutput], in: subgraph.graph, producers, registry) == inner
      else { continue }
      count += 1
      subgraph.graph.removeInput(at: place.input)
      subgraph.graph.removeOutput(at: place.bodyOutput)
      subgraph.graph.captures.append(inner)
      subgraph.captured.append(initial)
      node.inputs.remove(at: place.input)
      guard place.output < node.outputs.count else { continue }
      if let output = node.outputs.remove(at: place.output) {
        copies.append(Node(OperatorID("Identity"), name: "\(node.name)/carried", inputs: [initial], outputs: [output]))
      }
    }
    node.attributes["body"] = .graph(subgraph)
    return (count, copies)
  }

  /// The value that goes into a chain of nodes that always hand their input on.
  private func source(
    of value: ValueID, in graph: Graph, _ producers: [Int?], _ registry: OperatorRegistry
  ) -> ValueID {
    var value = value
    while let index = producers[value.index], graph.nodes[index].outputs.first == value,
      case .always? = registry.definition(of: graph.nodes[index].op)?.schema.identity,
      let input = graph.nodes[index].inputs.first ?? nil
    {
      value = input
    }
    return value
  }

  // MARK: - Captured constants

  private func share(_ outer: borrowing GraphEditor, with subgraph: inout Subgraph) -> Int {
    var kept: [(inner: ValueID, outer: ValueID)] = []
    for (inner, value) in zip(subgraph.graph.captures, subgraph.captured) {
      if let constant = outer.constant(value) {
        subgraph.graph[inner].constant = constant
        subgraph.graph[inner].fact = .tensor(TensorFact(constant))
      } else {
        kept.append((inner, value))
      }
    }
    let changes = subgraph.captured.count - kept.count
    subgraph.graph.captures = kept.map(\.inner)
    subgraph.captured = kept.map(\.outer)
    return changes
  }
}

extension Graph {
  fileprivate mutating func removeInput(at position: Int) {
    inputs.remove(at: position)
    if position < inputDeclarations.count { inputDeclarations.remove(at: position) }
  }

  fileprivate mutating func removeOutput(at position: Int) {
    outputs.remove(at: position)
    if position < outputDeclarations.count { outputDeclarations.remove(at: position) }
    settledOutputs?.remove(at: position)
  }
}
