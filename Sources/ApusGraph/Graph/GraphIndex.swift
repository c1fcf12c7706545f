// Who makes and who uses each value of a graph.

import ApusTensor

/// Producers and users of a graph at one moment, to look at. Whoever changes a graph uses `GraphEditor`.
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
