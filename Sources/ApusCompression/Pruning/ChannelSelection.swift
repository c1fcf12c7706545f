// Which channels go: their sizes, the smallest of each group or of all groups, and the bisection to a target.

import ApusGraph
import ApusTensor

/// The groups that may lose channels, with the size of each channel.
struct ChannelSelection {
  struct Candidate {
    let group: ChannelGroups.Group
    /// By channel.
    let sizes: [Double]
    let fraction: Double
    /// The channels from the smallest on; of equal ones the first goes first.
    let order: [Int]
  }

  private(set) var candidates: [Candidate] = []
  private let options: PruningOptions

  init(
    _ groups: ChannelGroups, _ graph: Graph, _ options: PruningOptions, _ report: inout PruningReport
  ) throws(CompressionError) {
    self.options = options
    var norms: [ValueID: [Double]] = [:]
    for group in groups.groups {
      if let excluded = group.producers.first(where: { !options.selection.contains($0) }) {
        report.kept.append(
          .init(
            weight: excluded.name, node: excluded.node, channels: group.channels.count,
            reason: "it is not among what is included, or is excluded"))
        continue
      }
      var sizes = [Double](repeating: 0, count: group.channels.count)
      for producer in group.producers {
        if norms[producer.value] == nil { norms[producer.value] = try channelSizes(of: producer, in: graph) }
        guard let own = norms[producer.value], let slot = groups.table.slot(producer.value, producer.outputAxis)
        else { continue }
        for (channel, content) in group.channels.enumerated() {
          for (place, index) in content.members where place == slot { sizes[channel] += own[index] }
        }
      }
      let order = sizes.indices.sorted { (sizes[$0], $0) < (sizes[$1], $1) }
      candidates.append(
        Candidate(group: group, sizes: sizes, fraction: try fraction(of: group), order: order))
    }
  }

  private func channelSizes(of weight: WeightReference, in graph: Graph) throws(CompressionError) -> [Double] {
    guard let tensor = graph.constant(weight.value), let numbers = WeightNumbers.read(tensor) else { return [] }
    let extent = tensor.shape[weight.outputAxis]
    if let given = options.importance[weight.name] ?? options.importance[weight.node] {
      guard given.count == extent, given.allSatisfy({ $0.isFinite }) else {
        throw CompressionError(
          .invalidFile,
          "the importance of '\(weight.name)' has \(given.count) numbers; expected \(extent) finite ones, one for "
            + "each output channel")
      }
      return given
    }
    let walk = AxisWalk(tensor.shape, axis: weight.outputAxis)
    var sums = [Double](repeating: 0, count: extent)
    for (element, number) in numbers.enumerated() {
      let size = Double(abs(number))
      sums[walk.index(of: element)] += options.norm == .l1 ? size : size * size
    }
    // What is no number is never the smallest.
    return sums.map { $0.isNaN ? .infinity : options.norm == .l1 ? $0 : $0.squareRoot() }
  }

  private func fraction(of group: ChannelGroups.Group) throws(CompressionError) -> Double {
    let fitting = options.fractions.filter { entry in
      group.producers.contains { WeightSelection.fits(entry.key, $0) }
    }
    if Set(fitting.values).count > 1 {
      let names = group.producers.map(\.node).joined(separator: ", ")
      throw CompressionError(
        .invalidOption,
        "the layers \(names) lose the same channels, and the fractions "
          + fitting.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }.joined(separator: ", ")
          + " are given for them; expected one")
    }
    return fitting.values.first ?? options.fraction
  }

  // MARK: - Choosing

  /// By candidate: how many of its smallest channels go, each by its fraction.
  var countsByFraction: [Int] {
    if !options.isGlobal { return candidates.map { allowed(Int(Double($0.sizes.count) * $0.fraction), of: $0) } }
    return counts(ofSmallest: Int(Double(globalOrder.count) * options.fraction), in: globalOrder)
  }

  /// All channels of all candidates, from the smallest in its group on: sizes are compared as multiples of the mean of
  /// the group.
  var globalOrder: [Int] {
    var all: [(size: Double, candidate: Int)] = []
    for (number, candidate) in candidates.enumerated() {
      let finite = candidate.sizes.filter { $0.isFinite }
      let mean = finite.isEmpty ? 1 : finite.reduce(0, +) / Double(finite.count)
      for channel in candidate.order { all.append((mean > 0 ? candidate.sizes[channel] / mean : 0, number)) }
    }
    // Stable, so that the channels of a candidate stay in their order.
    return all.enumerated().sorted { ($0.element.size, $0.offset) < ($1.element.size, $1.offset) }
      .map(\.element.candidate)
  }

  func counts(ofSmallest count: Int, in order: [Int]) -> [Int] {
    var counts = [Int](repeating: 0, count: candidates.count)
    for candidate in order.prefix(count) { counts[candidate] += 1 }
    return counts.enumerated().map { allowed($0.element, of: candidates[$0.offset]) }
  }

  /// At least one channel stays, and as many as the multiple asks for.
  private func allowed(_ count: Int, of candidate: Candidate) -> Int {
    let all = candidate.sizes.count
    let kept = max(all - count, 1)
    let multiple = options.channelMultiple
    return all - min((kept + multiple - 1) / multiple * multiple, all)
  }

  func removal(_ counts: [Int], _ groups: ChannelGroups) -> ChannelRemoval {
    var removal = ChannelRemoval(groups)
    for (candidate, count) in zip(candidates, counts) {
      for channel in candidate.order.prefix(count) { removal.remove(candidate.group.channels[channel]) }
    }
    return removal
  }
}
