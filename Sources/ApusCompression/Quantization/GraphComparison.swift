// Runs two forms of a graph on the same samples and compares values that have the same name in both.

import ApusGraph
import ApusTensor

/// A comparison in progress.
package final class GraphComparison {
  private let runs: [GraphRun]
  private let names: [String]
  /// By name of the value: how far the second graph is from the first.
  package private(set) var noise: [String: SignalNoise] = [:]
  package private(set) var samples = 0

  /// - Parameter values: names of values to compare beside the outputs; those that are not in both are left out.
  package init(
    _ first: Graph, _ second: Graph, values: [String], in surroundings: RunSurroundings
  ) throws(CompressionError) {
    var graphs = [first, second]
    var names = first.outputs.map { first[$0].name }
    // What is not computed any more, since operators on integers took its place, cannot be compared.
    let tables = graphs.map { graph in
      let computed = graph.inputs + graph.nodes.flatMap { $0.outputs.compactMap { $0 } } + graph.outputs
      return Dictionary(computed.map { (graph[$0].name, $0.index) }, uniquingKeysWith: { first, _ in first })
    }
    for name in values where !names.contains(name) && tables.allSatisfy({ $0[name] != nil }) { names.append(name) }
    for index in graphs.indices {
      graphs[index].outputs = names.compactMap { tables[index][$0].map { ValueID($0) } }
      graphs[index].outputDeclarations = []
    }
    self.names = names
    var runs: [GraphRun] = []
    for graph in graphs { runs.append(try GraphRun(graph, in: surroundings)) }
    self.runs = runs
  }

  /// Runs both graphs on a sample, a tensor for each input by name.
  package func add(_ sample: [String: Tensor]) throws(CompressionError) {
    let ordered = try runs[0].inputs(of: sample, number: samples + 1)
    let wanted = try runs[0].outputs(for: ordered)
    let found = try runs[1].outputs(for: ordered)
    for (index, name) in names.enumerated() {
      guard let x = wanted[index].tensor?.elements(as: Float.self),
        let y = found[index].tensor?.elements(as: Float.self)
      else { continue }
      x.withUnsafeBufferPointer { x in
        y.withUnsafeBufferPointer { noise[name, default: SignalNoise()].add(x, $0) }
      }
    }
    samples += 1
  }
}
