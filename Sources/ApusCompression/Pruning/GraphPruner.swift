// Pruning: elements of weights that become 0, or channels that go. Han et al., arXiv 1506.02626; Li et al., arXiv
// 1608.08710; Fang et al. on dependent channels, arXiv 2301.12900.

import ApusGraph
import ApusOperators
import ApusTensor

/// Prunes graphs as its options say.
package struct GraphPruner: Sendable {
  private let options: PruningOptions
  private let registry: OperatorRegistry
  /// Is told how far the work is.
  private let progress: @Sendable (String) -> Void

  package init(
    _ options: PruningOptions, registry: OperatorRegistry = .standard,
    progress: @escaping @Sendable (String) -> Void = { _ in }
  ) throws(CompressionError) {
    (self.options, self.registry, self.progress) = (options, registry, progress)
    try options.check()
  }

  /// Prunes the graph, and tells what went. The graph stays as it is where an error is thrown.
  package func prune(_ graph: inout Graph) throws(CompressionError) -> PruningReport {
    let weights = graph.allWeights(registry: registry).map(\.weight)
    try options.selection.check(weights, others: options.fractions.keys.sorted())
    for name in options.importance.keys.sorted() where !weights.contains(where: { $0.name == name || $0.node == name })
    {
      throw CompressionError(.invalidFile, "importance is given for '\(name)'; there is no such weight or node")
    }
    var report = PruningReport()
    report.parametersBefore = graph.parameterCount
    switch options.method {
    case .structured: try removeChannels(of: &graph, &report)
    case .magnitude, .pattern: try zeroElements(of: &graph, &report)
    }
    report.parametersAfter = graph.parameterCount
    return report
  }

  // MARK: - Channels

  private func removeChannels(of graph: inout Graph, _ report: inout PruningReport) throws(CompressionError) {
    progress("looking for channels that depend on each other")
    let groups = ChannelGroups(graph, registry: registry)
    report.kept = groups.kept.map {
      .init(weight: $0.weight.name, node: $0.weight.node, channels: $0.channels, reason: $0.reason)
    }
    let selection = try ChannelSelection(groups, graph, options, &report)
    guard !selection.candidates.isEmpty else {
      let reasons = report.kept.prefix(3).map { "'\($0.node)' because \($0.reason)" }.joined(separator: "; ")
      let none = "the main graph has no weights of products; those of graphs inside nodes keep their shapes"
      throw CompressionError(
        .nothingToDo,
        "no channel of the model can be taken away: " + (reasons.isEmpty ? none : "kept are \(reasons)"))
    }
    var counts = selection.countsByFraction
    if options.parameterTarget != nil || options.multiplyAddTarget != nil {
      counts = try target(selection, groups, graph, &report)
    }
    let pruned = try selection.removal(counts, groups).applied(to: graph, registry: registry)
    for (candidate, count) in zip(selection.candidates, counts) {
      let gone = candidate.order.prefix(count).reduce(0) { $0 + candidate.sizes[$1] }
      let all = candidate.sizes.reduce(0, +)
      report.groups.append(
        .init(
          producers: candidate.group.producers.map(\.node), consumers: candidate.group.consumers.map(\.node),
          channelsBefore: candidate.sizes.count, channelsAfter: candidate.sizes.count - count,
          lostNorm: all > 0 ? gone / all : 0))
    }
    graph = pruned
  }

  /// The fewest channels, the smallest of all first, without which the target is met.
  private func target(
    _ selection: ChannelSelection, _ groups: ChannelGroups, _ graph: Graph, _ report: inout PruningReport
  ) throws(CompressionError) -> [Int] {
    let order = selection.globalOrder
    let (share, word) =
      options.multiplyAddTarget.map { ($0, "multiply-adds") } ?? (options.parameterTarget ?? 1, "parameters")
    guard let before = measure(graph) else {
      throw CompressionError(
        .invalidOption, "the multiply-adds of the model cannot be counted: an extent is unknown",
        remedy: "Give the shapes of the inputs, or a target of parameters")
    }
    let bound = Double(before) * share
    var steps = 0
    func left(_ count: Int) throws(CompressionError) -> Int {
      steps += 1
      progress("step \(steps) of the bisection: \(count) of \(order.count) channels")
      let removal = selection.removal(selection.counts(ofSmallest: count, in: order), groups)
      return measure(try removal.applied(to: graph, registry: registry)) ?? before
    }
    let least = try left(order.count)
    guard Double(least) <= bound else {
      throw CompressionError(
        .targetNotMet, "\(word) can be reduced to \(percent(least, before)); the target is \(share * 100) %",
        remedy: "Choose a larger one; `kept` in the report says what stays")
    }
    var (low, high) = (-1, order.count)
    while high - low > 1 {
      let middle = low + (high - low) / 2
      if Double(try left(middle)) <= bound { high = middle } else { low = middle }
    }
    report.chosenFraction = Double(high) / Double(max(order.count, 1))
    return selection.counts(ofSmallest: high, in: order)
  }

  private func measure(_ graph: Graph) -> Int? {
    options.multiplyAddTarget == nil ? graph.parameterCount : graph.multiplyAdds(registry: registry)
  }

  private func percent(_ part: Int, _ whole: Int) -> String {
    "\((Double(part) / Double(max(whole, 1)) * 1000).rounded() / 10) %"
  }

  // MARK: - Elements

  private func zeroElements(of graph: inout Graph, _ report: inout PruningReport) throws(CompressionError) {
    let all = graph.allWeights(registry: registry).filter { options.selection.contains($0.weight) }
    guard !all.isEmpty else {
      throw CompressionError(.nothingToDo, "the model has no weights of products that could lose elements")
    }
    var bounds: MagnitudeBound?
    if options.isGlobal || options.parameterTarget != nil, options.method == .magnitude {
      bounds = try globalBound(all.map(\.tensor), graph, &report)
    }
    var weights: [PruningReport.Weight] = []
    do throws(OperatorError) {
      _ = try graph.replaceWeights(registry: registry) { (weight, tensor) throws(OperatorError) in
        guard options.selection.contains(weight), let numbers = WeightNumbers.read(tensor) else { return nil }
        progress("pruning \(weight.name)")
        let isZero: [Bool]
        switch options.method {
        case .pattern(let kept, let group):
          isZero = SparsePattern(kept: kept, group: group).zeros(numbers, tensor.shape, axis: weight.inputAxis)
        case .magnitude, .structured:
          if bounds != nil {
            isZero = numbers.map { bounds?.takes($0) ?? false }
          } else {
            var own = MagnitudeBound([numbers], smallest: Int(Double(numbers.count) * fraction(of: weight)))
            isZero = numbers.map { own.takes($0) }
          }
        }
        weights.append(Self.row(weight, tensor.shape, numbers, isZero))
        do throws(TensorError) {
          return try WeightNumbers.zeroing(tensor, where: isZero)
        } catch {
          throw .invalid("\(error)")
        }
      }
    } catch {
      throw CompressionError(error)
    }
    report.weights = weights
    if case .pattern(let kept, let group) = options.method {
      report.notes = all.map(\.weight).filter { !$0.crossReaders.isEmpty }.map { weight in
        "\(kept):\(group) holds for '\(weight.name)' as '\(weight.node)' reads it, not for "
          + weight.crossReaders.map { "'\($0)'" }.joined(separator: ", ") + ", which sums over another of its axes"
      }
    }
  }

  private func fraction(of weight: WeightReference) -> Double {
    // Of several patterns the first in alphabetical order: each weight is by itself here.
    options.fractions.sorted { $0.key < $1.key }.first { WeightSelection.fits($0.key, weight) }?.value
      ?? options.fraction
  }

  private func globalBound(
    _ tensors: [Tensor], _ graph: Graph, _ report: inout PruningReport
  ) throws(CompressionError) -> MagnitudeBound {
    let numbers = tensors.compactMap { WeightNumbers.read($0) }
    let count = numbers.reduce(0) { $0 + $1.count }
    guard let share = options.parameterTarget else {
      return MagnitudeBound(numbers, smallest: Int(Double(count) * options.fraction))
    }
    let total = graph.parameterCount
    // What is no weight of a product stays.
    let goal = Int((Double(total) * share).rounded(.down))
    let wanted = total - goal
    guard wanted <= count else {
      throw CompressionError(
        .targetNotMet, "\(count) of \(total) parameters may become 0; the target asks for \(wanted)",
        remedy: "Choose a larger target, or include more weights")
    }
    report.chosenFraction = Double(wanted) / Double(max(count, 1))
    return MagnitudeBound(numbers, smallest: wanted)
  }

  private static func row(
    _ weight: WeightReference, _ shape: Shape, _ numbers: [Float], _ isZero: [Bool]
  ) -> PruningReport.Weight {
    var (all, gone, power, lost) = (0.0, 0.0, 0.0, 0.0)
    var (before, after) = (0, 0)
    for (number, zero) in zip(numbers, isZero) {
      let size = Double(abs(number))
      all += size
      power += size * size
      if zero {
        gone += size
        lost += size * size
      }
      if number == 0 { before += 1 }
      if number == 0 || zero { after += 1 }
    }
    return PruningReport.Weight(
      weight: weight.name, node: weight.node, operator: weight.op.description, shape: shape.dims,
      elements: numbers.count, zerosBefore: before, zerosAfter: after, lostMagnitude: all > 0 ? gone / all : 0,
      sqnr: Decibels.ratio(power, lost))
  }
}
