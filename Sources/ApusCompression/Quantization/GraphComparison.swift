// Runs two forms of a graph on the same samples and compares values that have the same name in both.

import ApusGraph
import ApusOperators
import ApusTensor

/// A comparison in progress.
package final class GraphComparison {
  private let runs: [GraphRun]
  /// Of the outputs of each run. What is not computed any more, since operators on integers took its place, is in one
  /// only.
  private let names: [[String]]
  /// By name of the value: how far the second graph is from the first.
  package private(set) var noise: [String: SignalNoise] = [:]
  package private(set) var samples = 0

  /// - Parameter values: names of values to compare beside the outputs; those that are not in both are left out.
  package init(
    _ first: Graph, _ second: Graph, values: [String], in surroundings: RunSurroundings
  ) throws(CompressionError) {
    let outputs = first.outputs.map { first[$0].name }
    let wanted = Set(values).subtracting(outputs)
    var (names, runs): ([[String]], [GraphRun]) = ([], [])
    for graph in [first, second] {
      let exposure = GraphExposure<String>(
        inference: InferenceDriver(registry: .standard), entersLoops: false
      ) { (graph) throws(OperatorError) in
        let captured = Set(graph.captures)
        return graph.madeValues.compactMap { value in
          let name = graph.name(of: value)
          if !wanted.contains(name) || captured.contains(value) || graph.fact(value).elementType != .float32 {
            return nil
          }
          return Exposure(label: name, value: value, absent: Tensor([Float]()))
        }
      }
      var exposed = graph
      do throws(OperatorError) {
        names.append(outputs + (try exposure.replaceOutputs(of: &exposed, keeping: outputs.count)))
      } catch {
        throw CompressionError(error)
      }
      runs.append(try GraphRun(exposed, in: surroundings))
    }
    (self.names, self.runs) = (names, runs)
  }

  /// Runs both graphs on a sample, a tensor for each input by name.
  package func add(_ sample: [String: Tensor]) throws(CompressionError) {
    let ordered = try runs[0].inputs(of: sample, number: samples + 1)
    let wanted = try runs[0].outputs(for: ordered)
    let found = try runs[1].outputs(for: ordered)
    let foundByName = Dictionary(zip(names[1], found), uniquingKeysWith: { first, _ in first })
    for (name, value) in zip(names[0], wanted) {
      guard let x = value.tensor?.elements(as: Float.self), let y = foundByName[name]?.tensor?.elements(as: Float.self)
      else { continue }
      x.withUnsafeBufferPointer { x in
        y.withUnsafeBufferPointer { noise[name, default: SignalNoise()].add(x, $0) }
      }
    }
    samples += 1
  }
}
