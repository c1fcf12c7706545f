// Who makes and who uses each value of a graph.

import ApusTensor

/// Producers and users of a graph at one moment. Passes make a new one after they have changed the graph.
package struct GraphIndex: Sendable {
  /// By value: the node that computes it.
  package let producers: [Int?]
  /// By value: the nodes that use it, each once a use.
  package let users: [[Int]]
  /// By value: true for outputs of the graph.
  package let isOutput: [Bool]

  package init(_ graph: Graph) {
    var producers = [Int?](repeating: nil, count: graph.values.count)
    var users = [[Int]](repeating: [], count: graph.values.count)
    var isOutput = [Bool](repeating: false, count: graph.values.count)
    for (index, node) in graph.nodes.enumerated() {
      for value in node.dependencies { users[value.index].append(index) }
      for value in node.outputs { if let value { producers[value.index] = index } }
    }
    for value in graph.outputs { isOutput[value.index] = true }
    (self.producers, self.users, self.isOutput) = (producers, users, isOutput)
  }

  package func producer(of value: ValueID?) -> Int? { value.flatMap { producers[$0.index] } }

  /// The only node that uses the value, if the value has one use and is no output.
  package func onlyUser(of value: ValueID) -> Int? {
    users[value.index].count == 1 && !isOutput[value.index] ? users[value.index][0] : nil
  }
}

extension Graph {
  /// Lets every use of a value, as input, captured value or output, use another.
  package mutating func replaceUses(of old: ValueID, with new: ValueID) {
    replaceUses { $0 == old ? new : $0 }
  }

  /// Maps every use of every value.
  package mutating func replaceUses(_ map: (ValueID) -> ValueID) {
    for index in nodes.indices {
      for position in nodes[index].inputs.indices {
        if let value = nodes[index].inputs[position] { nodes[index].inputs[position] = map(value) }
      }
      for entry in nodes[index].attributes.entries.indices {
        switch nodes[index].attributes.entries[entry].value {
        case .graph(var subgraph):
          subgraph.captured = subgraph.captured.map(map)
          nodes[index].attributes.entries[entry].value = .graph(subgraph)
        case .graphs(let subgraphs):
          nodes[index].attributes.entries[entry].value = .graphs(
            subgraphs.map { Subgraph(graph: $0.graph, captured: $0.captured.map(map)) })
        default: break
        }
      }
    }
    outputs = outputs.map(map)
  }
}
