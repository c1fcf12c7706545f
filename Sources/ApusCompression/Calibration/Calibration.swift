// Runs a graph on samples and keeps what was seen of chosen values: no sample stays in memory.

import ApusGraph
import ApusOperators
import ApusTensor

/// A calibration in progress.
package final class Calibration {
  private let run: GraphRun
  /// Of the observed values, in the order of the outputs of the run.
  private let names: [String]
  /// By the name of the value.
  package private(set) var statistics: [String: TensorStatistics] = [:]
  package private(set) var samples = 0
  private let channelNames: [String]
  /// By the name of the value: what was seen of each index along the axis that was asked for.
  package private(set) var channels: [String: ChannelStatistics] = [:]

  /// Prepares a graph for observing values of it.
  ///
  /// - Parameters:
  ///   - values: float32 tensors of the graph that have names.
  ///   - bins: of histograms; 0: none.
  ///   - channels: values, and an axis of each whose indices are looked at one by one.
  package init(
    _ graph: Graph, values: [ValueID], bins: Int, channels: [(value: ValueID, axis: Int)] = [],
    in surroundings: RunSurroundings
  ) throws(CompressionError) {
    let registry = OperatorRegistry.standard.adding([Observation()])
    let builder = GraphBuilder(continuing: graph, inference: InferenceDriver(registry: registry))
    builder.graph.outputs = []
    builder.graph.outputDeclarations = []
    do throws(OperatorError) {
      for value in values {
        builder.graph.outputs.append(
          try builder.apply(Observation.id, name: "observe \(graph[value].name)", [value], [("bins", .int(bins))]))
      }
      for (value, axis) in channels { try Calibration.observe(value, along: axis, in: builder) }
    } catch {
      throw CompressionError(error)
    }
    run = try GraphRun(builder.graph, registry: registry, in: surroundings)
    names = values.map { graph[$0].name }
    channelNames = channels.map { graph[$0.value].name }
  }

  /// Appends the least, greatest and mean element of each index along an axis as outputs.
  private static func observe(_ value: ValueID, along axis: Int, in builder: GraphBuilder) throws(OperatorError) {
    guard let rank = builder.shape(value)?.count else {
      throw .mismatch("the rank of '\(builder.graph[value].name)' is not known")
    }
    let axes = builder.addConstant(Tensor((0..<rank).filter { $0 != axis }))
    for op in ["ReduceMin", "ReduceMax", "ReduceMean"] {
      builder.graph.outputs.append(
        try builder.apply(
          OperatorID(op), name: "\(op) \(builder.graph[value].name)", [value, axes], [("keepdims", .int(0))]))
    }
  }

  /// Runs the graph on one sample: a tensor for each of its inputs, by name.
  package func add(_ sample: [String: Tensor]) throws(CompressionError) {
    let outputs = try run.outputs(for: sample, number: samples + 1)
    for (name, output) in zip(names, outputs) {
      guard let observed = output.tensor?.elements(as: Double.self) else { continue }
      let seen: TensorStatistics?
      do throws(TensorStatistics.NotFinite) {
        seen = try TensorStatistics(observed)
      } catch {
        throw CompressionError(
          .invalidSample,
          "sample \(samples + 1): \(error.count) elements of '\(name)' are NaN or infinite; expected finite numbers",
          remedy: "Leave the sample out; `apus run --value` shows the values")
      }
      guard let seen else { continue }
      // Where they lie: to copy the bins would take as long as counting.
      if statistics[name]?.add(seen) == nil { statistics[name] = seen }
    }
    for (position, name) in channelNames.enumerated() {
      let found = outputs[(names.count + 3 * position)...].prefix(3).compactMap { $0.tensor?.elements(as: Float.self) }
      if found.count == 3 { channels[name, default: ChannelStatistics()].add(found[0], found[1], found[2]) }
    }
    samples += 1
  }

  /// What was seen so far, of the graph with that fingerprint.
  package func cache(_ fingerprint: String) -> CalibrationCache {
    CalibrationCache(statistics: statistics, channels: channels, samples: samples, fingerprint: fingerprint)
  }
}

/// What was seen of a tensor, index by index along one of its axes.
package struct ChannelStatistics: Sendable, Hashable, Codable {
  package private(set) var minima: [Float] = []
  package private(set) var maxima: [Float] = []
  private var sums: [Double] = []
  private var samples = 0

  /// The mean over samples of the mean of each index.
  package var means: [Float] { sums.map { Float($0 / Double(max(samples, 1))) } }
  /// The greatest magnitude of each index.
  package var magnitudes: [Float] { zip(minima, maxima).map { max(abs($0), abs($1)) } }

  mutating func add(_ low: [Float], _ high: [Float], _ mean: [Float]) {
    if samples == 0 { (minima, maxima, sums) = (low, high, mean.map { _ in 0 }) }
    guard minima.count == low.count else { return }
    for index in low.indices {
      (minima[index], maxima[index]) = (min(minima[index], low[index]), max(maxima[index], high[index]))
      sums[index] += Double(mean[index])
    }
    samples += 1
  }
}
