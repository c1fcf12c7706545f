// Graphs that must compute the same as a given one: constants elsewhere in memory, inputs as constants, open shapes.

import ApusGraph
import ApusOperators
import ApusTensor

extension Graph {
  /// The bytes of all constants, those of subgraphs included.
  var constantBytes: Int {
    values.reduce(0) { $0 + ($1.constant?.byteCount ?? 0) }
      + nodes.reduce(0) { $0 + $1.subgraphs.reduce(0) { $0 + $1.subgraph.graph.constantBytes } }
  }

  /// True if an operator, also one of a subgraph, has the trait.
  package func hasTrait(_ trait: OperatorSchema.Traits) -> Bool {
    nodes.contains { node in
      OperatorRegistry.standard.definition(of: node.op)?.schema.traits.contains(trait) ?? false
        || node.subgraphs.contains { $0.subgraph.graph.hasTrait(trait) }
    }
  }

  /// The same graph with every constant `offset` bytes from a multiple of 64.
  func placingConstants(at offset: Int) -> Graph {
    var graph = self
    for index in graph.values.indices {
      graph.values[index].constant = graph.values[index].constant?.placed(at: offset)
    }
    graph.updateSubgraphs { $0 = $0.placingConstants(at: offset) }
    return graph
  }

  /// The same graph with a constant in place of an input.
  func withConstant(_ tensor: Tensor, forInput index: Int) -> Graph {
    var graph = self
    let id = graph.inputs.remove(at: index)
    graph[id].constant = tensor
    graph[id].fact = .tensor(TensorFact(tensor))
    return graph
  }

  /// The same graph for inputs of the same types and ranks with any extents.
  var withSymbolicInputs: Graph {
    var graph = self
    for index in graph.values.indices where graph.values[index].constant == nil {
      let fact = graph.values[index].fact
      graph.values[index].fact = fact.withoutShapes
      if graph.inputs.contains(ValueID(index)), let tensor = fact.tensor, let shape = tensor.shape {
        graph.values[index].fact = .tensor(tensor.dataType, shape.indices.map { .symbol("s\(index)_\($0)") })
      }
    }
    return graph
  }
}
