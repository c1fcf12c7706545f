// Which channels of a graph depend on each other: what must go with a channel of a weight when that is taken away.

import ApusGraph
import ApusTensor

/// The channels of the main graph that can be taken away, in groups.
///
/// A channel is a class of indices of axes, those of weights, biases and values alike, that go together or not at all.
/// The channels of a group lie in the same axes, so one may stand for another. Where a channel is taken away, the graph
/// computes what it computed with 0 in all weights that read the channel.
package struct ChannelGroups {
  package struct Channel: Sendable {
    /// By slot of `table`, in ascending order.
    package let members: [(slot: Int, index: Int)]
  }

  package struct Group: Sendable {
    /// The weights that compute the channels.
    package let producers: [WeightReference]
    /// The weights that read them.
    package let consumers: [WeightReference]
    package let channels: [Channel]
  }

  /// Channels of a weight that stay.
  package struct Kept: Sendable, Hashable {
    package let weight: WeightReference
    /// How many of them.
    package let channels: Int
    package let reason: String
  }

  package private(set) var groups: [Group] = []
  package private(set) var kept: [Kept] = []
  package private(set) var table: AxisTable
  /// The links of every node of the graph.
  package private(set) var links: [AxisLinks] = []
  package let weights: [WeightReference]

  package init(_ graph: Graph, registry: OperatorRegistry) {
    table = AxisTable(graph)
    let index = GraphIndex(graph)
    weights = graph.productWeights(registry: registry)
    for node in graph.nodes {
      links.append(registry.definition(of: node.op).map { graph.facts(of: node, $0.schema).axisLinks } ?? AxisLinks())
    }
    for (number, node) in graph.nodes.enumerated() {
      let traits = registry.definition(of: node.op)?.schema.traits ?? []
      apply(links[number], of: node, readsShapeOnly: traits.contains(.readsShapeOnly))
      keepWhatIsSeen(by: node, in: graph, index, registry)
    }
    keepEnds(of: graph)
    for weight in weights {
      if let slot = table.slot(weight.value, weight.outputAxis) { table.markSource(slot) }
    }
    for (number, node) in graph.nodes.enumerated() where links[number].isReshaping { linkReshape(node, in: graph) }
    collect()
  }

  // MARK: - Links

  private func value(_ operand: AxisLinks.Operand, of node: Node) -> ValueID? {
    switch operand {
    case .input(let input): input < node.inputs.count ? node.inputs[input] : nil
    case .output(let output): output < node.outputs.count ? node.outputs[output] : nil
    }
  }

  private func label(_ node: Node) -> String { "\(node.op) '\(node.name)'" }

  private mutating func apply(_ links: AxisLinks, of node: Node, readsShapeOnly: Bool) {
    var mentioned = Set(links.summed)
    for link in links.links {
      mentioned.insert(link.axis)
      mentioned.insert(link.other)
      guard let a = value(link.axis.operand, of: node), let b = value(link.other.operand, of: node) else { continue }
      switch (table.slot(a, link.axis.axis), table.slot(b, link.other.axis)) {
      case (let slot?, let other?): join(slot, other, link, node)
      case (let slot?, nil), (nil, let slot?):
        table.keep(slot, because: "\(label(node)) joins it with an axis of unknown extent")
      case (nil, nil): break
      }
    }
    if links.isReshaping { return keepParameters(of: node, from: 1) }
    for (operands, values) in [(AxisLinks.Operand.input, node.inputs), (AxisLinks.Operand.output, node.outputs)] {
      for case (let position, let value?) in values.enumerated() where !readsShapeOnly || position > 0 {
        for slot in table.slots(of: value)
        where !mentioned.contains(.init(operands(position), table.slots[slot].axis)) {
          table.keep(slot, because: "\(label(node)) needs all of it")
        }
      }
    }
  }

  private mutating func keepParameters(of node: Node, from first: Int) {
    for case let value? in node.inputs.dropFirst(first) {
      for slot in table.slots(of: value) { table.keep(slot, because: "\(label(node)) needs all of it") }
    }
  }

  private mutating func join(_ slot: Int, _ other: Int, _ link: AxisLinks.Link, _ node: Node) {
    let count = link.count ?? table.slots[slot].count - link.first
    let last = link.otherFirst + min((max(count, 1) - 1) / link.block, link.period - 1)
    guard count >= 0, link.first + count <= table.slots[slot].count, last < table.slots[other].count else {
      table.keep(slot, because: "\(label(node)) joins axes that do not fit")
      return table.keep(other, because: "\(label(node)) joins axes that do not fit")
    }
    for index in 0..<count {
      table.join(slot, link.first + index, other, link.otherFirst + index / link.block % link.period)
    }
  }

  /// Extents that are computed with, and values that graphs inside the node use.
  private mutating func keepWhatIsSeen(
    by node: Node, in graph: Graph, _ index: GraphIndex, _ registry: OperatorRegistry
  ) {
    for (_, subgraph) in node.subgraphs {
      for value in subgraph.captured {
        for slot in table.slots(of: value) { table.keep(slot, because: "a graph inside \(label(node)) uses it") }
      }
    }
    guard let traits = registry.definition(of: node.op)?.schema.traits, traits.contains(.readsShapeOnly),
      let input = node.inputs.first ?? nil
    else { return }
    for slot in table.slots(of: input)
    where sees(table.slots[slot].count, of: input, node, in: graph, index, registry) {
      table.keep(slot, because: "\(label(node)) computes with its extent")
    }
  }

  /// Whether what follows from a shape may hang on an extent: false if the extents are only moved at first, and none
  /// that is left then is that number.
  private func sees(
    _ extent: Int, of input: ValueID, _ node: Node, in graph: Graph, _ index: GraphIndex, _ registry: OperatorRegistry
  ) -> Bool {
    let shape = graph.fact(input).tensor?.shape ?? []
    for case let output? in node.outputs {
      if index.isOutput[output.index] { return true }
      guard let own = graph.fact(output).tensor?.values,
        own.allSatisfy({ value in shape.contains { $0.isSame(as: value) } })
      else { return true }
      if !own.contains(where: { $0.known == extent }) { continue }
      for user in index.users[output.index] {
        let traits = registry.definition(of: graph.nodes[user].op)?.schema.traits ?? []
        guard traits.contains(.movesData) else { return true }
        for case let result? in graph.nodes[user].outputs {
          guard !index.isOutput[result.index], let values = graph.fact(result).tensor?.values,
            !values.contains(where: { $0.isUnknown || $0.known == extent })
          else { return true }
        }
      }
    }
    return false
  }

  private mutating func keepEnds(of graph: Graph) {
    for (values, word) in [(graph.inputs, "input"), (graph.outputs, "output")] {
      for value in values {
        for slot in table.slots(of: value) {
          table.keep(slot, because: "it is an axis of the \(word) '\(graph[value].name)'")
        }
      }
    }
    for index in graph.values.indices {
      guard let constant = graph.values[index].constant else { continue }
      guard constant.dataType == .string || constant.dataType.bits % 8 != 0 else { continue }
      for slot in table.slots(of: ValueID(index)) {
        table.keep(slot, because: "its elements are \(constant.dataType)")
      }
    }
  }

  // MARK: - Reshaping

  private mutating func linkReshape(_ node: Node, in graph: Graph) {
    guard let input = node.inputs.first ?? nil, let output = node.outputs.first ?? nil,
      let before = graph.fact(input).tensor?.shape, let after = graph.fact(output).tensor?.shape
    else {
      for case let value? in [node.inputs.first ?? nil, node.outputs.first ?? nil] { keepAll(of: value, node) }
      return
    }
    var handled: (Set<Int>, Set<Int>) = ([], [])
    for (from, to) in ReshapeFactors.groups(before, after) {
      let (many, single) = from.count >= to.count ? (from, to) : (to, from)
      let (manyValue, singleValue) = from.count >= to.count ? (input, output) : (output, input)
      guard single.count == 1, let whole = table.slot(singleValue, single[0]) else { continue }
      guard let link = bestFactor(many, of: manyValue, whole) else { continue }
      for (index, other) in link.indices { table.join(whole, index, link.slot, other) }
      handled.0.formUnion(manyValue == input ? [table.slots[link.slot].axis] : single)
      handled.1.formUnion(manyValue == input ? single : [table.slots[link.slot].axis])
    }
    for (value, axes) in [(input, handled.0), (output, handled.1)] {
      for slot in table.slots(of: value) where !axes.contains(table.slots[slot].axis) {
        table.keep(slot, because: "\(label(node)) puts it together with other axes")
      }
    }
  }

  private mutating func keepAll(of value: ValueID, _ node: Node) {
    for slot in table.slots(of: value) { table.keep(slot, because: "\(label(node)) makes an unknown shape of it") }
  }

  /// Which of several axes that are one elsewhere is that of the channels: one that has channels and is not kept, of
  /// these one that joins the fewest others, of these the first.
  private mutating func bestFactor(
    _ axes: [Int], of value: ValueID, _ whole: Int
  ) -> (slot: Int, indices: [(Int, Int)])? {
    var stride = table.slots[whole].count
    var best: (slot: Int, indices: [(Int, Int)], isLive: Bool, share: Double)?
    for axis in axes {
      guard let slot = table.slot(value, axis) else { continue }
      let extent = table.slots[slot].count
      stride /= extent
      let state = table.state(of: slot)
      if state.isKept, axes.count > 1 { continue }
      let indices = (0..<table.slots[whole].count).map { ($0, $0 / stride % extent) }
      let share = Double(table.classesLeft(whole, slot, indices)) / Double(extent)
      if let best, best.isLive && !state.hasSource || best.isLive == state.hasSource && best.share >= share { continue }
      best = (slot, indices, state.hasSource, share)
    }
    return best.map { ($0.slot, $0.indices) }
  }

  // MARK: - Groups

  private mutating func collect() {
    var groups: [[Int]: [Channel]] = [:]
    var order: [[Int]] = []
    for (_, members) in table.freeClasses() {
      var key: [Int] = []
      for (slot, _) in members where key.last != slot { key.append(slot) }
      if groups[key] == nil { order.append(key) }
      groups[key, default: []].append(Channel(members: members))
    }
    for key in order {
      func touching(_ axis: (WeightReference) -> Int) -> [WeightReference] {
        weights.filter { weight in
          key.contains { table.slots[$0].value == weight.value && table.slots[$0].axis == axis(weight) }
        }
      }
      self.groups.append(
        Group(producers: touching(\.outputAxis), consumers: touching(\.inputAxis), channels: groups[key] ?? []))
    }
    for weight in weights {
      guard let slot = table.slot(weight.value, weight.outputAxis) else { continue }
      var counts: [String: Int] = [:]
      var reasons: [String] = []
      for index in 0..<table.slots[slot].count {
        guard let reason = table.reason(ofRoot: table.root(slot, index)) else { continue }
        if counts[reason] == nil { reasons.append(reason) }
        counts[reason, default: 0] += 1
      }
      kept += reasons.map { Kept(weight: weight, channels: counts[$0] ?? 0, reason: $0) }
    }
  }
}

/// Which axes of a shape are which of the same elements in another shape.
enum ReshapeFactors {
  /// Axes before and after with the same product of extents, where one side is one axis; extents of 1 count as none.
  static func groups(_ before: [Dim], _ after: [Dim]) -> [(from: [Int], to: [Int])] {
    var (from, to) = (Array(before.indices), Array(after.indices))
    from.removeAll { before[$0].known == 1 }
    to.removeAll { after[$0].known == 1 }
    var groups: [(from: [Int], to: [Int])] = []
    while let a = from.first, let b = to.first, before[a].isSame(as: after[b]) {
      groups.append(([a], [b]))
      from.removeFirst()
      to.removeFirst()
    }
    while let a = from.last, let b = to.last, before[a].isSame(as: after[b]) {
      groups.append(([a], [b]))
      from.removeLast()
      to.removeLast()
    }
    while !from.isEmpty, !to.isEmpty {
      guard let part = smallest(&from, before, &to, after) else { return groups }
      if part.from.count == 1 || part.to.count == 1 { groups.append(part) }
    }
    return groups
  }

  /// The fewest first axes of both with the same product; nil if an extent among them is no number.
  private static func smallest(
    _ from: inout [Int], _ before: [Dim], _ to: inout [Int], _ after: [Dim]
  ) -> (from: [Int], to: [Int])? {
    var (a, b) = (1, 1)
    var part: (from: [Int], to: [Int]) = ([], [])
    repeat {
      if a <= b {
        guard let axis = from.first, let extent = before[axis].known, extent > 0, a <= Int.max / extent else {
          return nil
        }
        a *= extent
        part.from.append(from.removeFirst())
      } else {
        guard let axis = to.first, let extent = after[axis].known, extent > 0, b <= Int.max / extent else { return nil }
        b *= extent
        part.to.append(to.removeFirst())
      }
    } while a != b
    return part
  }
}
