// Keeps the weights of a graph in few bits: finds them, measures what meets them, quantizes and rewrites.

import ApusGraph
import ApusOperators
import ApusOptimizer
import ApusRuntime
import ApusTensor

/// Quantizes the constant matrices of products, and tables, of a graph and the graphs inside its nodes.
package struct WeightQuantizer {
  private let options: WeightQuantizationOptions
  private let surroundings: RunSurroundings
  private let progress: (String) -> Void
  private let inference = InferenceDriver(registry: .standard, keepsFaultySubgraphs: true)

  /// - Parameter progress: is told what is being done, on the thread of the caller.
  package init(
    _ options: WeightQuantizationOptions, in surroundings: RunSurroundings,
    progress: @escaping (String) -> Void = { _ in }
  ) throws(CompressionError) {
    try options.check()
    (self.options, self.surroundings, self.progress) = (options, surroundings, progress)
  }

  /// The operator set that the standard form needs: blocks and 4 bits came with 21, 2 bits with 25.
  package static func leastOpset(_ options: WeightQuantizationOptions) -> Int {
    guard options.format == .standard else { return 1 }
    let types = [options.type] + options.types.map(\.type)
    return types.contains { $0.bits == 2 } ? 25 : 21
  }

  /// - Parameters:
  ///   - graph: typed; stays as it is if an error is thrown.
  ///   - samples: for methods that go by activations, and for the report on products. They are gone through as often
  ///     as the memory for sums of activations takes.
  /// - Throws: `CompressionError`, and what `samples` throw.
  package func quantize(
    _ graph: inout Graph, samples: (any CalibrationData)? = nil
  ) throws -> WeightQuantizationReport {
    if options.method.wantsSamples, samples == nil {
      throw CompressionError(
        .invalidOption, "the method \(options.method.rawValue) goes by activations and there are no samples",
        remedy: "Give samples, or take rtn or hqq")
    }
    var source = graph
    if let samples, options.method == .activationAware { try scaleChannels(of: &source, samples) }
    var editor = GraphEditor(source, inference: inference)
    let main = WeightSites(editor, options)
    var (inner, kept) = ([WeightSite](), main.kept)
    for node in source.nodes { collectSites(inside: node, &inner, &kept) }
    try options.checkPatterns(
      (main.sites + inner).map { [$0.nodeName, $0.op.description, $0.name] }
        + kept.map { [$0.node, $0.operator, $0.weight] })
    var work = try WeightWork(main.sites, inner, options, surroundings, progress)
    if work.isEmpty {
      let reasons = Set(kept.map(\.reason)).sorted().prefix(3).joined(separator: "; ")
      throw CompressionError(
        .nothingToDo, "no weight of the model can be kept in few bits" + (reasons.isEmpty ? "" : ": \(reasons)"))
    }
    if let samples {
      let collector = MomentCollector(source, in: surroundings, budget: options.statisticsMemory)
      let activations = Self.activations(main.sites, in: source)
      try collector.collect(activations, over: samples, progress: progress) { (sums) throws(CompressionError) in
        try work.quantize(with: Self.byValue(sums, activations))
      }
    }
    try work.quantizeRest()
    do throws(OperatorError) {
      try rewrite(&editor, main.sites, work.weights)
      try editor.verify()
      var result = editor.finish()
      _ = try Optimizer(registry: .standard, passes: Optimizer.loweredPasses).optimize(&result)
      try result.keepOutputNames(of: graph)
      graph = result
    } catch {
      throw CompressionError(error)
    }
    return WeightQuantizationReport(weights: work.report, kept: kept)
  }

  /// The values of a graph that sites are multiplied with, each once, with the depth of the products.
  private static func activations(_ sites: [WeightSite], in graph: Graph) -> [MomentSource] {
    var seen: Set<ValueID> = []
    return sites.compactMap { site in
      guard let value = site.activation, graph.constant(value) == nil, graph.fact(value).elementType == .float32,
        seen.insert(value).inserted
      else { return nil }
      return MomentSource(value: value, rows: .axis(-1), depth: site.depth)
    }
  }

  private static func byValue(
    _ sums: [Int: [ActivationMoments]], _ sources: [MomentSource]
  ) -> [ValueID: ActivationMoments] {
    Dictionary(uniqueKeysWithValues: sums.map { (sources[$0.key].value, $0.value[0]) })
  }

  // MARK: - Graphs inside nodes

  private func collectSites(
    inside node: Node, _ sites: inout [WeightSite], _ kept: inout [WeightQuantizationReport.Kept]
  ) {
    for (_, subgraph) in node.subgraphs {
      let editor = GraphEditor(subgraph.graph, inference: inference)
      let found = WeightSites(editor, options)
      sites += found.sites
      kept += found.kept
      for inner in subgraph.graph.nodes { collectSites(inside: inner, &sites, &kept) }
    }
  }

  private func rewrite(
    _ editor: inout GraphEditor, _ sites: [WeightSite], _ weights: [WeightKey: QuantizedWeight]
  ) throws(OperatorError) {
    var rewriting = WeightRewriting(weights, options)
    try rewriting.apply(to: sites, in: &editor)
    for node in editor.nodes where editor.hasSubgraphs(node) {
      _ = try editor.updateSubgraphs(of: node) { (subgraph) throws(OperatorError) in
        var inner = GraphEditor(subgraph.graph, inference: inference)
        let found = WeightSites(inner, options).sites
        try rewrite(&inner, found, weights)
        subgraph.graph = inner.finish()
        return found.count
      }
    }
    try editor.settle(keepsFaults: true)
  }

  // MARK: - Channels

  /// Scales the columns of weights by what they meet, and what comes before them the other way.
  private func scaleChannels(of graph: inout Graph, _ samples: any CalibrationData) throws {
    var editor = GraphEditor(graph, inference: inference)
    let scaling = try ChannelScaling(on: surroundings.pool)
    let sources = Self.activations(WeightSites(editor, options).sites, in: graph)
    let collector = MomentCollector(graph, in: surroundings, budget: options.statisticsMemory)
    try collector.collect(sources, over: samples, progress: progress) { (found) throws(CompressionError) in
      let sums = Self.byValue(found, sources)
      for value in sources.map(\.value) {
        guard let moments = sums[value] else { continue }
        // Constants may have changed with the value before.
        let sites = WeightSites(editor, options).sites
        let group = sites.filter { $0.activation == value }
        let isWhole = editor.useCount(of: value) == group.count && !editor.isOutput(value)
        let isShared = group.contains { site in
          sites.contains { $0.key == site.key && $0.activation != value }
        }
        if !isWhole || isShared || group.isEmpty { continue }
        progress("scaling the channels of '\(editor.name(of: value))'")
        try scale(group, value, moments, scaling, in: &editor)
      }
    }
    graph = editor.finish()
  }

  private func scale(
    _ group: [WeightSite], _ value: ValueID, _ moments: ActivationMoments, _ scaling: ChannelScaling,
    in editor: inout GraphEditor
  ) throws(CompressionError) {
    // Whether there is a place for factors at all, before they are searched.
    let ones = [Float](repeating: 1, count: moments.depth)
    guard ScaleFolding(value, dividedBy: ones, in: editor) != nil else { return }
    let matrices = group.map { site in
      ChannelScaling.Factor(
        weights: site.rowsOfDepth(), grid: site.grid(options, names: [site.name, site.nodeName, site.op.description]))
    }
    guard let factors = try scaling.factors(for: matrices, moments),
      let folding = ScaleFolding(value, dividedBy: factors, in: editor)
    else { return }
    try folding.apply(to: &editor)
    for site in group {
      guard var numbers = site.tensor.elements(as: Float.self) else { continue }
      let columns = site.tensor.shape[1]
      for index in numbers.indices {
        numbers[index] *= factors[site.key.depthAxis == 0 ? index / columns : index % columns]
      }
      let constant = editor.addConstant(Tensor(numbers, shape: site.tensor.shape))
      editor.update(site.holder.node) { $0.inputs[site.holder.input] = constant }
    }
    do throws(OperatorError) { try editor.settle() } catch { throw CompressionError(error) }
  }
}

extension WeightSite {
  /// The weight as [rows, depth].
  func rowsOfDepth() -> [Float] {
    let numbers = tensor.elements(as: Float.self) ?? []
    return role != .convolution && key.depthAxis == 0
      ? transposed(numbers, tensor.shape[0], tensor.shape[1]) : numbers
  }

  /// How the options cut it. `names`: those that patterns of types go by.
  func grid(_ options: WeightQuantizationOptions, names: [String]) -> WeightGrid {
    let type = options.type(for: names)
    return WeightGrid(
      rows: rows, depth: depth, bits: type.bits, block: role == .convolution ? nil : options.blockSize,
      hasZeroPoints: options.usesZeroPoints ?? (type.bits < 8 || !type.isSigned))
  }
}

extension WeightQuantizationOptions {
  /// The type of a weight with these names: its own, those of its nodes.
  func type(for names: [String]) -> ElementType {
    types.first { NamePatterns([$0.pattern]).fit(names) }?.type ?? type
  }
}
