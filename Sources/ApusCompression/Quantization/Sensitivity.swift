// Which nodes cost most accuracy on integers, and how many of them must stay in float for a target.

import ApusGraph
import ApusTensor

/// How much the outputs lose if one node alone is computed on integers.
public struct NodeSensitivity: Sendable, Hashable {
  public let name: String
  /// The ratio of signal to noise of the outputs in decibels, the worst of them.
  public let decibels: Double
}

/// A point between all nodes on integers and none.
public struct TradeOff: Sendable, Hashable {
  /// Nodes with weights that stay in float: the worst ones.
  public let nodesInFloat: Int
  /// What was asked for: decibels, or the accuracy that the caller measures.
  public let quality: Double
  /// Of all constants of the model.
  public let bytes: Int
}

/// The outputs of a graph on some samples, for others to be held against.
package struct ReferenceOutputs {
  private var samples: [(inputs: [Value], outputs: [Value])] = []
  private let surroundings: RunSurroundings

  /// Samples are kept in memory up to this many bytes.
  private static let mostBytes = 256 << 20

  /// Runs `graph` on the first `count` samples of `data`, fewer if they are large.
  package init(
    of graph: Graph, on data: some CalibrationData, count: Int, in surroundings: RunSurroundings
  ) throws {
    self.surroundings = surroundings
    let run = try GraphRun(graph, in: surroundings)
    var bytes = 0
    var found: [(inputs: [Value], outputs: [Value])] = []
    do {
      try data.forEachSample { sample in
        if found.count == count || bytes > ReferenceOutputs.mostBytes { throw Enough() }
        let inputs = try run.inputs(of: sample, number: found.count + 1)
        let outputs = try run.outputs(for: inputs)
        for value in inputs + outputs { bytes += value.tensor?.byteCount ?? 0 }
        found.append((inputs, outputs))
      }
    } catch is Enough {
      // No more are wanted.
    }
    samples = found
    if samples.isEmpty {
      throw CompressionError(.invalidSample, "there are no samples", remedy: "Give at least one")
    }
  }

  private struct Enough: Error {}

  /// The worst ratio of signal to noise among the outputs of another graph, in decibels.
  package func decibels(of graph: Graph) throws(CompressionError) -> Double {
    let run = try GraphRun(graph, in: surroundings)
    var noise: [Int: SignalNoise] = [:]
    for sample in samples {
      let outputs = try run.outputs(for: sample.inputs)
      for (index, (wanted, found)) in zip(sample.outputs, outputs).enumerated() {
        guard let x = wanted.tensor?.elements(as: Float.self), let y = found.tensor?.elements(as: Float.self) else {
          continue
        }
        x.withUnsafeBufferPointer { x in
          y.withUnsafeBufferPointer { noise[index, default: SignalNoise()].add(x, $0) }
        }
      }
    }
    return noise.values.compactMap(\.decibels).min() ?? .infinity
  }
}

extension GraphQuantizer {
  /// Each node with weights alone on integers, the worst first.
  ///
  /// - Parameter progress: is told how many of how many are done.
  package func sensitivities(
    _ ranges: Ranges, _ reference: ReferenceOutputs, progress: (Int, Int) -> Void
  ) throws(CompressionError) -> [NodeSensitivity] {
    let names = try quantized(ranges).report.nodes.map(\.name)
    var found: [NodeSensitivity] = []
    for (index, name) in names.enumerated() {
      progress(index, names.count)
      let others = Set(names).subtracting([name])
      let alone = try quantized(ranges, leavingOut: others)
      found.append(NodeSensitivity(name: name, decibels: try reference.decibels(of: alone.graph)))
    }
    return found.sorted { ($0.decibels, $0.name) < ($1.decibels, $1.name) }
  }

  /// The graph with as few nodes in float as reach a quality, worst first.
  ///
  /// - Parameter quality: of a graph; more is better.
  /// - Returns: the graph, and what was tried, by the number of nodes in float.
  package func search(
    _ ranges: Ranges, ranking: [NodeSensitivity], target: Double, quality: (QuantizedGraph) throws -> Double
  ) throws -> (graph: QuantizedGraph, curve: [TradeOff]) {
    var tried: [Int: (graph: QuantizedGraph, quality: Double)] = [:]
    func attempt(_ count: Int) throws -> Bool {
      if let known = tried[count] { return known.quality >= target }
      let floats = Set(ranking.prefix(count).map(\.name))
      let graph = try quantized(ranges, leavingOut: floats)
      tried[count] = (graph, try quality(graph))
      return (tried[count]?.quality ?? -.infinity) >= target
    }
    var (failed, passed) = (-1, 0)
    while try !attempt(passed) {
      failed = passed
      if passed >= ranking.count - 1 {
        let best = tried.values.map(\.quality).max() ?? -.infinity
        throw CompressionError(
          .targetNotMet,
          "no choice of nodes reaches \(target); the best was \((best * 1000).rounded() / 1000) "
            + "with \(passed) nodes in float",
          remedy: "Ask for less, calibrate with more samples, or try another range method or type")
      }
      passed = min(max(2 * passed, 1), ranking.count - 1)
    }
    while passed - failed > 1 {
      let middle = (passed + failed) / 2
      if try attempt(middle) { passed = middle } else { failed = middle }
    }
    let curve = tried.sorted { $0.key < $1.key }.map { count, found in
      TradeOff(nodesInFloat: count, quality: found.quality, bytes: found.graph.graph.constantByteCount)
    }
    guard let best = tried[passed] else { throw CompressionError(.targetNotMet, "nothing was tried") }
    return (best.graph, curve)
  }
}

extension Graph {
  /// Bytes of the constants that nodes or outputs use, here and in the graphs inside nodes.
  package var constantByteCount: Int {
    var seen: Set<ConstantPlace> = []
    var bytes = 0
    forEachGraph { graph in
      var used = Set(graph.outputs)
      for node in graph.nodes { used.formUnion(node.dependencies) }
      for value in used {
        // Several graphs may use one constant.
        guard let tensor = graph.constant(value) else { continue }
        if seen.insert(ConstantPlace(tensor)).inserted { bytes += tensor.byteCount }
      }
    }
    return bytes
  }

  /// Shows this graph and all that are inside of nodes, outermost first.
  package func forEachGraph(_ body: (Graph) -> Void) {
    body(self)
    for node in nodes { for (_, subgraph) in node.subgraphs { subgraph.graph.forEachGraph(body) } }
  }
}
