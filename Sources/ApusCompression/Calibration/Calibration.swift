// Runs a graph on samples and keeps what was seen of chosen values: no sample stays in memory.

import ApusGraph
import ApusOperators
import ApusTensor

/// A calibration in progress.
package final class Calibration {
  private let run: GraphRun
  /// What the outputs of the run are.
  private let labels: [Label]
  /// By the name of the value.
  package private(set) var statistics: [String: TensorStatistics] = [:]
  package private(set) var samples = 0
  /// By the name of the value: what was seen of each index along the axis that was asked for.
  package private(set) var channels: [String: ChannelStatistics] = [:]

  /// What an output of the run tells, and of which value.
  private enum Label: Sendable {
    case statistics(of: String)
    case channels(of: String)
  }

  /// Prepares a graph for observing values of it and of the graphs inside its nodes.
  ///
  /// - Parameters:
  ///   - values: names of float32 tensors.
  ///   - bins: of histograms; 0: none.
  ///   - channels: by the names of values: the axis whose indices are looked at one by one.
  package init(
    _ graph: Graph, values: Set<String>, bins: Int, channels: [String: Int] = [:], in surroundings: RunSurroundings
  ) throws(CompressionError) {
    let registry = OperatorRegistry.standard.adding([Observation()])
    let exposure = GraphExposure<Label>(
      inference: InferenceDriver(registry: registry), entersLoops: true
    ) { (graph) throws(OperatorError) in
      var exposures: [Exposure<Label>] = []
      for value in graph.madeValues {
        let name = graph.name(of: value)
        if values.contains(name) { exposures.append(try Calibration.observe(value, bins: bins, &graph)) }
        if let axis = channels[name] { exposures += try Calibration.observe(value, along: axis, &graph) }
      }
      return exposures
    }
    var observed = graph
    do throws(OperatorError) {
      labels = try exposure.replaceOutputs(of: &observed)
    } catch {
      throw CompressionError(error)
    }
    run = try GraphRun(observed, registry: registry, in: surroundings)
  }

  private static func observe(
    _ value: ValueID, bins: Int, _ graph: inout GraphEditor
  ) throws(OperatorError) -> Exposure<Label> {
    let name = graph.name(of: value)
    let result = try graph.apply(
      Observation.id, name: "observe \(name)", [value], [("bins", .int(bins))], before: nil)
    let nothing = [Double](repeating: 0, count: Observation.headCount + bins)
    return Exposure(label: .statistics(of: name), value: result, absent: Tensor(nothing))
  }

  /// The least, greatest and mean element of each index along an axis.
  private static func observe(
    _ value: ValueID, along axis: Int, _ graph: inout GraphEditor
  ) throws(OperatorError) -> [Exposure<Label>] {
    let name = graph.name(of: value)
    guard let shape = graph.fact(value).tensor?.shape else { throw .mismatch("the rank of '\(name)' is not known") }
    let axes = graph.addConstant(Tensor(shape.indices.filter { $0 != axis }))
    let absent = Tensor([Float](repeating: .nan, count: shape[axis].known ?? 0))
    return try ["ReduceMin", "ReduceMax", "ReduceMean"].map { (op) throws(OperatorError) in
      let result = try graph.apply(
        OperatorID(op), name: "\(op) \(name)", [value, axes], [("keepdims", .int(0))], before: nil)
      return Exposure(label: .channels(of: name), value: result, absent: absent)
    }
  }

  /// Runs the graph on one sample: a tensor for each of its inputs, by name.
  package func add(_ sample: [String: Tensor]) throws(CompressionError) {
    var extremes: [String: [Tensor]] = [:]
    for (label, output) in zip(labels, try run.outputs(for: sample, number: samples + 1)) {
      guard let tensor = output.tensor else { continue }
      switch label {
      case .statistics(let name): try add(tensor, of: name)
      case .channels(let name):
        extremes[name, default: []].append(tensor)
        if let found = extremes[name], found.count == 3 { channels[name, default: ChannelStatistics()].add(found) }
      }
    }
    samples += 1
  }

  /// Adds what observations tell: one, or one for each run of a body.
  private func add(_ observed: Tensor, of name: String) throws(CompressionError) {
    guard let numbers = observed.elements(as: Double.self), let width = observed.shape.dims.last, width > 0 else {
      return
    }
    for start in stride(from: 0, to: numbers.count, by: width) {
      let seen: TensorStatistics?
      do throws(TensorStatistics.NotFinite) {
        seen = try TensorStatistics(numbers[start..<start + width])
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

  /// Adds the minima, maxima and means of one sample, or of each run of a body.
  mutating func add(_ found: [Tensor]) {
    let numbers = found.compactMap { $0.elements(as: Float.self) }
    guard numbers.count == 3, let width = found[0].shape.dims.last, width > 0 else { return }
    for start in stride(from: 0, to: numbers[0].count, by: width) {
      let row = numbers.map { $0[start..<start + width] }
      // What stands for a branch that was not taken.
      if row[0].allSatisfy(\.isNaN) { continue }
      add(Array(row[0]), Array(row[1]), Array(row[2]))
    }
  }

  private mutating func add(_ low: [Float], _ high: [Float], _ mean: [Float]) {
    if samples == 0 { (minima, maxima, sums) = (low, high, mean.map { _ in 0 }) }
    guard minima.count == low.count else { return }
    for index in low.indices {
      (minima[index], maxima[index]) = (min(minima[index], low[index]), max(maxima[index], high[index]))
      sums[index] += Double(mean[index])
    }
    samples += 1
  }
}
