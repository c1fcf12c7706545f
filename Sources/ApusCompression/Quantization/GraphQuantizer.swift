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

/// Quantizes one graph, whose values have names, and the graphs inside its nodes.
package struct GraphQuantizer {
  /// As it was given, and as it is quantized: scales may have been moved from one node to another.
  package let original: Graph
  package private(set) var graph: Graph
  package let options: QuantizationOptions
  private let surroundings: RunSurroundings

  /// Weights of products that hold numbers that are not finite.
  private var infiniteWeights: Set<ConstantPlace>

  /// The pairs of products that were equalized, and the values that were smoothed.
  package private(set) var equalized = 0
  package private(set) var smoothed = 0
  private var rounding: AdaptiveRounding?

  /// Where the ranges of integers come from.
  package enum Ranges {
    /// What a calibration has seen of each value, and of the channels of some.
    case seen([String: TensorStatistics], channels: [String: ChannelStatistics])
    /// They are found in each run.
    case found
  }

  package init(
    _ graph: Graph, _ options: QuantizationOptions, in surroundings: RunSurroundings
  ) throws(CompressionError) {
    (original, self.options, self.surroundings) = (graph, options.settled, surroundings)
    var graph = graph
    if options.equalizesLayers {
      var pairs = 0
      try graph.editEveryGraph { pairs += LayerEqualization.apply(to: &$0) }
      equalized = pairs
    }
    self.graph = graph
    if options.roundsAdaptively, self.options.weights.bits > 8 || options.method == .dynamic {
      throw CompressionError(
        .invalidOption, "adaptive rounding is for static quantization with weights of 8 bits or less")
    }
    infiniteWeights = graph.infiniteWeights
    var names: Set<String> = []
    try options.selection.check(against: graph)
    graph.forEachGraph { inner in names.formUnion(inner.values.lazy.map(\.name)) }
    for name in options.overrides.keys.sorted() where !names.contains(name) {
      throw CompressionError(
        .invalidOption, "there is no value '\(name)' to override", remedy: "`apus info --json` lists the names")
    }
  }

  /// Why a value cannot be integers.
  ///
  /// - Parameter seen: what a calibration has seen, by name; nil: it is not asked yet.
  private func refusal(
    _ value: ValueID, _ graph: borrowing GraphEditor, _ seen: [String: TensorStatistics]?
  ) -> String? {
    let name = graph.name(of: value)
    let override = options.overrides[name]
    if override?.isFloat ?? false { return "'\(name)' shall stay float" }
    if graph.fact(value).elementType != .float32 { return "it computes on \(graph.fact(value))" }
    if let constant = graph.constant(value) {
      return infiniteWeights.contains(ConstantPlace(constant))
        ? "'\(name)' holds numbers that are not finite" : nil
    }
    if graph.standsForCodes(value) { return "'\(name)' stands for integers that the model has already" }
    guard let seen, override?.low == nil || override?.high == nil else { return nil }
    guard let found = seen[name] else { return "no sample of the calibration reaches it" }
    return max(-found.minimum, found.maximum) <= TensorCode.leastScale
      ? "'\(name)' was 0 in all samples, which say nothing of its range then" : nil
  }

  private func units(
    _ editor: borrowing GraphEditor, leavingOut floats: Set<String> = [], _ seen: [String: TensorStatistics]? = nil
  ) -> QuantizationUnits {
    var selection = options.selection
    selection.exactlyExcluded = floats
    return QuantizationUnits(editor, selection: selection) { refusal($0, $1, seen) }
  }

  // MARK: - Static

  /// A calibration of the values that will be integers, whichever nodes are left out of these later.
  ///
  /// - Parameter isComplete: whether it sees what other options want to know too.
  package func calibration(isComplete: Bool = false) throws(CompressionError) -> Calibration {
    var (values, channels): (Set<String>, [String: Int]) = ([], [:])
    var kept: [QuantizationReport.Kept] = []
    var hasProducts = false
    graph.forEachGraph { graph in
      let editor = GraphEditor(graph, inference: .standard)
      let units = units(editor)
      kept += units.report(in: editor)
      hasProducts = hasProducts || units.hasProducts
      if !units.hasProducts { return }
      values.formUnion(CodePlan(units, in: editor).values.map { editor.name(of: $0) })
      guard options.correctsBiases || isComplete else { return }
      for unit in units.units {
        guard case .product(let axes) = unit.kind, let value = unit.operands.first,
          editor.fact(value).tensor?.shape != nil
        else { continue }
        channels[editor.name(of: value)] = axes.data
      }
    }
    if !hasProducts { throw GraphQuantizer.nothingToDo(.static, kept) }
    return try Calibration(
      graph, values: values, bins: options.range.needsHistogram || isComplete ? Histogram.usualBins : 0,
      channels: channels, in: surroundings)
  }

  private static func nothingToDo(
    _ method: QuantizationOptions.Method, _ kept: [QuantizationReport.Kept]
  ) -> CompressionError {
    let reasons = kept.prefix(3).map { "\($0.op) '\($0.name)': \($0.reason)" }
    let kinds = method == .dynamic ? "MatMul, Gemm and LSTM" : "convolutions and products of matrices"
    return CompressionError(
      .nothingToDo,
      "no node can be computed on integers" + (reasons.isEmpty ? "" : ": \(reasons.joined(separator: "; "))"),
      remedy: "\(method == .dynamic ? "Dynamic" : "Static") quantization is for \(kinds) with constant float32 weights")
  }

  /// A calibration of the channels whose magnitudes `smooth` moves.
  package func smoothingCalibration() throws(CompressionError) -> Calibration {
    var channels: [String: Int] = [:]
    graph.forEachGraph { graph in
      let editor = GraphEditor(graph, inference: .standard)
      for site in Smoothing.sites(units(editor), in: editor) {
        channels[editor.name(of: site.value)] = (editor.fact(site.value).tensor?.shape?.count ?? 1) - 1
      }
    }
    return try Calibration(graph, values: [], bins: 0, channels: channels, in: surroundings)
  }

  /// Moves magnitudes of activations into weights, for what a `smoothingCalibration` has seen.
  package mutating func smooth(_ seen: [String: ChannelStatistics]) throws(CompressionError) {
    guard let strength = options.smoothing else { return }
    var (graph, count) = (graph, 0)
    try graph.editEveryGraph { (editor) throws(OperatorError) in
      let sites = Smoothing.sites(units(editor), in: editor)
      count += try Smoothing(strength: strength).apply(to: &editor, sites, seen)
    }
    graph.nameValues()
    infiniteWeights = graph.infiniteWeights
    (self.graph, smoothed) = (graph, count)
  }

  /// Chooses the integers of weights for the error of their products, if the options say so. What is found is for the
  /// graph as it is smoothed now; graphs inside nodes get the nearest integers.
  ///
  /// - Throws: `CompressionError`, and what `data` throws.
  package mutating func round(on data: some CalibrationData, progress: (String) -> Void) throws {
    guard options.roundsAdaptively else { return }
    let editor = GraphEditor(graph, inference: .standard)
    rounding = try AdaptiveRounding(
      units(editor), in: graph, editor, options, on: data, surroundings, progress: progress)
  }

  // MARK: - Integers

  /// The graph on integers.
  ///
  /// - Parameter floats: names of nodes that stay in float.
  package func quantized(
    _ ranges: Ranges, leavingOut floats: Set<String> = []
  ) throws(CompressionError) -> QuantizedGraph {
    var graph = graph
    var report: QuantizationReport
    switch ranges {
    case .seen(let statistics, let channels):
      report = QuantizationReport(method: .static)
      let means = options.correctsBiases ? channels.mapValues(\.means) : [:]
      try quantize(&graph, statistics, means: means, leavingOut: floats, &report)
    case .found:
      report = QuantizationReport(method: .dynamic)
      try quantizeDynamically(&graph, leavingOut: floats, &report)
    }
    if report.nodes.isEmpty { throw GraphQuantizer.nothingToDo(report.method, report.kept) }
    for index in report.kept.indices where floats.contains(report.kept[index].name) {
      report.kept[index].reason = "it costs too much accuracy"
    }
    return try finished(graph, report)
  }

  /// Quantizes the graphs inside nodes, then the graph.
  private func quantize(
    _ graph: inout Graph, _ statistics: [String: TensorStatistics], means: [String: [Float]],
    leavingOut floats: Set<String>, _ report: inout QuantizationReport
  ) throws(CompressionError) {
    try graph.updateSubgraphs { (inner) throws(CompressionError) in
      try quantize(&inner, statistics, means: means, leavingOut: floats, &report)
    }
    let editor = GraphEditor(graph, inference: .standard)
    let units = units(editor, leavingOut: floats, statistics)
    report.kept += units.report(in: editor)
    if !units.hasProducts { return }
    let plan = CodePlan(units, in: editor)
    let codes = try plan.codes(statistics, options, in: editor)
    report.tensors += plan.values.compactMap { value in
      codes[value].map { code in
        let name = editor.name(of: value)
        return QuantizationReport.CodedTensor(name: name, code: code, statistics: statistics[name])
      }
    }
    var nodes: [QuantizedNode]
    (graph, nodes) = try StaticQuantization(editor, units, plan, options, means: means, rounding: rounding)
      .apply(codes)
    for index in nodes.indices {
      guard let code = nodes[index].inputCode else { continue }
      nodes[index].saturation = statistics[nodes[index].input]?.histogram?.share(outside: code.span)
    }
    report.nodes += nodes
  }

  /// Products that are computed on integers found in each run, in the graphs inside nodes and in the graph.
  private func quantizeDynamically(
    _ graph: inout Graph, leavingOut floats: Set<String>, _ report: inout QuantizationReport
  ) throws(CompressionError) {
    try graph.updateSubgraphs { (inner) throws(CompressionError) in
      try quantizeDynamically(&inner, leavingOut: floats, &report)
    }
    var options = options
    options.selection.exactlyExcluded = floats
    let editor = GraphEditor(graph, inference: .standard)
    let result = try DynamicQuantization(editor, options).apply()
    graph = result.graph
    report.nodes += result.report
    report.kept += result.kept.map { QuantizationReport.Kept(name: $0.name, op: $0.op, reason: $0.reason) }
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
        try comparison.add(sample)
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

extension InferenceDriver {
  fileprivate static var standard: InferenceDriver { InferenceDriver(registry: .standard) }
}

extension QuantizationUnits {
  fileprivate var hasProducts: Bool { units.contains(where: \.isProduct) }

  fileprivate func report(in graph: borrowing GraphEditor) -> [QuantizationReport.Kept] {
    kept.map { kept in
      QuantizationReport.Kept(
        name: graph[kept.node].name, op: graph[kept.node].op.description, reason: kept.reason)
    }
  }
}

extension Graph {
  /// Changes the graphs inside nodes, innermost first, and then this one.
  fileprivate mutating func editEveryGraph(
    _ change: (inout GraphEditor) throws(OperatorError) -> Void
  ) throws(CompressionError) {
    try updateSubgraphs { (inner) throws(CompressionError) in try inner.editEveryGraph(change) }
    var editor = GraphEditor(self, inference: .standard)
    do throws(OperatorError) {
      try change(&editor)
      try editor.settle()
      try editor.verify()
    } catch {
      throw CompressionError(error)
    }
    self = editor.finish()
  }

  /// The memory of weights of products that hold numbers that are not finite.
  fileprivate var infiniteWeights: Set<ConstantPlace> {
    var found: Set<ConstantPlace> = []
    forEachGraph { graph in
      let editor = GraphEditor(graph, inference: .standard)
      for node in graph.nodes {
        guard let trait = OperatorRegistry.standard.definition(of: node.op)?.schema.weights,
          node.inputs.count > trait.weights, let operand = node.inputs[trait.weights],
          let tensor = ProductWeights(operand, in: editor).flatMap({ graph.constant($0.value) }),
          let numbers = tensor.elements(as: Float.self), !numbers.allSatisfy(\.isFinite)
        else { continue }
        found.insert(ConstantPlace(tensor))
      }
    }
    return found
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
