// The steps of a quantization: what has to be seen, seeing it, rewriting the graph, and measuring what that cost.

import ApusGraph
import ApusOperators
import ApusOptimizer
import ApusTensor

/// A quantized graph and what became of its nodes.
package struct QuantizedGraph: Sendable {
  package var graph: Graph
  package var report: QuantizationReport

  package init(graph: Graph, report: QuantizationReport) { (self.graph, self.report) = (graph, report) }
}

/// Quantizes one graph, whose values have names.
package struct GraphQuantizer {
  /// As it was given, and as it is quantized: scales may have been moved from one node to another.
  package let original: Graph
  package private(set) var graph: Graph
  package let options: QuantizationOptions
  private let surroundings: RunSurroundings

  /// Weights of products that hold numbers that are not finite.
  private var infiniteWeights: Set<String>

  /// The pairs of products that were equalized, and the values that were smoothed.
  package private(set) var equalized = 0
  package private(set) var smoothed = 0

  package init(
    _ graph: Graph, _ options: QuantizationOptions, in surroundings: RunSurroundings
  ) throws(CompressionError) {
    (original, self.options, self.surroundings) = (graph, options.settled, surroundings)
    var graph = graph
    if options.equalizesLayers {
      var editor = GraphEditor(graph, inference: InferenceDriver(registry: .standard))
      equalized = LayerEqualization.apply(to: &editor)
      graph = try GraphQuantizer.settled(editor)
    }
    self.graph = graph
    infiniteWeights = graph.infiniteWeights
    try options.selection.check(against: graph)
    let names = Set(graph.values.lazy.map(\.name))
    for name in options.overrides.keys.sorted() where !names.contains(name) {
      throw CompressionError(
        .invalidOption, "there is no value '\(name)' to override", remedy: "`apus info --json` lists the names")
    }
  }

  /// The graph of an editor whose changes are done.
  private static func settled(_ editor: consuming GraphEditor) throws(CompressionError) -> Graph {
    var editor = editor
    do throws(OperatorError) {
      try editor.settle()
      try editor.verify()
    } catch {
      throw CompressionError(error)
    }
    return editor.finish()
  }

  private func editor() -> GraphEditor { GraphEditor(graph, inference: InferenceDriver(registry: .standard)) }

  /// Why a value cannot be integers.
  private func refusal(_ value: ValueID, _ statistics: [String: TensorStatistics]) -> String? {
    let record = graph[value]
    let override = options.overrides[record.name]
    if override?.isFloat ?? false { return "'\(record.name)' shall stay float" }
    if record.fact.elementType != .float32 { return "it computes on \(record.fact)" }
    if infiniteWeights.contains(record.name) { return "'\(record.name)' holds numbers that are not finite" }
    if let seen = statistics[record.name], override?.low == nil, override?.high == nil,
      max(-seen.minimum, seen.maximum) <= TensorCode.leastScale
    {
      return "'\(record.name)' was 0 in all samples, which say nothing of its range then"
    }
    return nil
  }

  /// - Parameter statistics: what is known of the ranges of values, by name.
  private func units(
    _ editor: borrowing GraphEditor, leavingOut floats: Set<String>, _ statistics: [String: TensorStatistics] = [:]
  ) -> QuantizationUnits {
    var selection = options.selection
    selection.exactlyExcluded = floats
    return QuantizationUnits(editor, selection: selection) { refusal($0, statistics) }
  }

  // MARK: - Static

  /// A calibration of the values that will be integers, whichever nodes are left out of these later.
  package func calibration() throws(CompressionError) -> Calibration {
    let editor = editor()
    let units = units(editor, leavingOut: [])
    try check(units, editor)
    let values = CodePlan(units, in: editor).values
    var channels: [(value: ValueID, axis: Int)] = []
    if options.correctsBiases {
      for unit in units.units {
        guard case .product(let axes) = unit.kind, let value = unit.operands.first,
          !channels.contains(where: { $0.value == value })
        else { continue }
        channels.append((value, axes.data))
      }
    }
    return try Calibration(
      graph, values: values, bins: options.range.needsHistogram ? Histogram.usualBins : 0, channels: channels,
      in: surroundings)
  }

  /// A calibration of the channels whose magnitudes `smooth` moves.
  package func smoothingCalibration() throws(CompressionError) -> Calibration {
    let editor = editor()
    let sites = Smoothing.sites(units(editor, leavingOut: []), in: editor)
    return try Calibration(
      graph, values: [], bins: 0,
      channels: sites.map { site in (site.value, (graph.fact(site.value).tensor?.shape?.count ?? 1) - 1) },
      in: surroundings)
  }

  /// Moves magnitudes of activations into weights, for what a `smoothingCalibration` has seen.
  package mutating func smooth(_ seen: [String: ChannelStatistics]) throws(CompressionError) {
    guard let strength = options.smoothing else { return }
    var editor = editor()
    let sites = Smoothing.sites(units(editor, leavingOut: []), in: editor)
    do throws(OperatorError) {
      smoothed = try Smoothing(strength: strength).apply(to: &editor, sites, seen)
    } catch {
      throw CompressionError(error)
    }
    graph = try GraphQuantizer.settled(editor)
    graph.nameValues()
    infiniteWeights = graph.infiniteWeights
  }

  private func check(_ units: QuantizationUnits, _ editor: borrowing GraphEditor) throws(CompressionError) {
    if units.units.contains(where: \.isProduct) { return }
    let reasons = units.kept.prefix(3).map { "\(editor[$0.node].op) '\(editor[$0.node].name)': \($0.reason)" }
    throw CompressionError(
      .nothingToDo,
      "no node can be computed on integers" + (reasons.isEmpty ? "" : ": \(reasons.joined(separator: "; "))"),
      remedy: "Quantization is for convolutions and products of matrices with constant float32 weights")
  }

  /// The graph on integers, for what a calibration has seen.
  ///
  /// - Parameter floats: names of nodes that stay in float.
  package func quantized(
    _ statistics: [String: TensorStatistics], channels: [String: ChannelStatistics] = [:],
    leavingOut floats: Set<String> = []
  ) throws(CompressionError) -> QuantizedGraph {
    let editor = editor()
    let units = units(editor, leavingOut: floats, statistics)
    try check(units, editor)
    let plan = CodePlan(units, in: editor)
    let codes = try plan.codes(statistics, options, in: editor)
    var report = QuantizationReport(method: .static)
    report.kept = units.kept.map { kept in
      QuantizationReport.Kept(
        name: editor[kept.node].name, op: editor[kept.node].op.description,
        reason: floats.contains(editor[kept.node].name) ? "it costs too much accuracy" : kept.reason)
    }
    report.tensors = plan.values.compactMap { value in
      codes[value].map { code in
        let name = graph[value].name
        return QuantizationReport.CodedTensor(name: name, code: code, statistics: statistics[name])
      }
    }
    let means = options.correctsBiases ? channels.mapValues(\.means) : [:]
    let result = try StaticQuantization(editor, units, plan, options, means: means).apply(codes)
    report.nodes = result.report
    for index in report.nodes.indices {
      guard let code = report.nodes[index].inputCode else { continue }
      report.nodes[index].saturation = statistics[report.nodes[index].input]?.histogram?.share(outside: code.span)
    }
    return try finished(result.graph, report)
  }

  /// The graph with the names of the original's outputs, and with operators on integers if the options ask for them.
  private func finished(_ graph: Graph, _ report: QuantizationReport) throws(CompressionError) -> QuantizedGraph {
    var (graph, report) = (graph, report)
    if options.format == .qoperator {
      do throws(OperatorError) {
        _ = try Optimizer(registry: .standard, passes: Optimizer.integerOperatorPasses).optimize(&graph)
      } catch {
        throw CompressionError(error)
      }
    }
    do throws(OperatorError) {
      try graph.keepOutputNames(of: original)
    } catch {
      throw CompressionError(error)
    }
    graph.nameValues()
    (report.equalizedPairs, report.smoothedValues) = (equalized, smoothed)
    (report.bytesBefore, report.bytesAfter) = (original.constantByteCount, graph.constantByteCount)
    return QuantizedGraph(graph: graph, report: report)
  }

  // MARK: - Dynamic

  /// The graph with products that are computed on integers found in each run.
  package func dynamic() throws(CompressionError) -> QuantizedGraph {
    let result = try DynamicQuantization(editor(), options).apply()
    if result.report.isEmpty {
      let reasons = result.kept.prefix(3).map { "\($0.op) '\($0.name)': \($0.reason)" }
      throw CompressionError(
        .nothingToDo,
        "no product of matrices can be computed on integers"
          + (reasons.isEmpty ? "" : ": \(reasons.joined(separator: "; "))"),
        remedy: "Dynamic quantization is for MatMul and Gemm with constant float32 weights")
    }
    var report = QuantizationReport(method: .dynamic)
    report.nodes = result.report
    report.kept = result.kept.map { QuantizationReport.Kept(name: $0.name, op: $0.op, reason: $0.reason) }
    return try finished(result.graph, report)
  }

  // MARK: - Cost

  /// What the nodes of a report and the outputs lose, measured on some samples.
  package func measure(
    _ quantized: inout QuantizedGraph, on data: some CalibrationData, samples: Int
  ) throws {
    let comparison = try GraphComparison(
      original, quantized.graph, values: quantized.report.nodes.map(\.output), in: surroundings)
    var count = 0
    do {
      try data.forEachSample { sample in
        if count == samples { throw Enough() }
        try comparison.add(sample.mapValues { .tensor($0) })
        count += 1
      }
    } catch is Enough {
      // No more are wanted.
    }
    for index in quantized.report.nodes.indices {
      quantized.report.nodes[index].outputNoise = comparison.noise[quantized.report.nodes[index].output]
    }
    quantized.report.outputs = graph.outputs.map { graph[$0].name }.compactMap { name in
      comparison.noise[name].map { (name, $0) }
    }.map { QuantizationReport.Output(name: $0.0, noise: $0.1) }
    quantized.report.measuredSamples = count
  }

  /// The end of samples that are looked at.
  private struct Enough: Error {}
}

extension Graph {
  /// The names of weights of products that hold numbers that are not finite.
  fileprivate var infiniteWeights: Set<String> {
    var found: Set<String> = []
    for node in nodes {
      guard let trait = OperatorRegistry.standard.definition(of: node.op)?.schema.weights,
        node.inputs.count > trait.weights, let value = node.inputs[trait.weights],
        let numbers = constant(value)?.elements(as: Float.self), !numbers.allSatisfy(\.isFinite)
      else { continue }
      found.insert(self[value].name)
    }
    return found
  }

  /// The operator set that its integers need: QuantizeLinear has 8 bits from 10 on, 4 and 16 from 21 on.
  package var leastOpset: Int {
    let young: Set<DataType> = [.int16, .uint16, .int4, .uint4]
    let isYoung = nodes.contains { node in
      guard node.op == OperatorID("QuantizeLinear") || node.op == OperatorID("DequantizeLinear") else { return false }
      let types = (node.inputs + node.outputs).compactMap { $0.flatMap { self[$0].fact.elementType } }
      return !young.isDisjoint(with: types)
    }
    return isYoung ? 21 : 10
  }
}

extension Histogram {
  /// The share of the elements that lie outside of a range, by the middle of their bins.
  package func share(outside range: ClosedRange<Float>) -> Double {
    var outside = 0
    for (bin, count) in counts.enumerated() where count > 0 {
      let centre = centre(bin)
      if centre < Double(range.lowerBound) - binWidth || centre > Double(range.upperBound) + binWidth {
        outside += count
      }
    }
    return total > 0 ? Double(outside) / Double(total) : 0
  }
}
