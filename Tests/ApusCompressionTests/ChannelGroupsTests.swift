// Channels that are taken away against channels that nobody reads: the same numbers.

import ApusCompression
import ApusGraph
import ApusOperators
import ApusOptimizer
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct ChannelGroupsTests {
  private static let pool = WorkerPool(threads: 2)

  private func outputs(_ graph: Graph, _ inputs: [Tensor]) throws -> [Tensor] {
    try GraphRun(graph, in: RunSurroundings(pool: Self.pool)).outputs(for: inputs.map { .tensor($0) })
      .compactMap(\.tensor)
  }

  /// The graph with zeros in all weights that read one of the channels.
  private func silenced(_ graph: Graph, _ groups: ChannelGroups, _ channels: [ChannelGroups.Channel]) throws -> Graph {
    var graph = graph
    let readers = Set(groups.weights.map { [$0.value.index, $0.inputAxis] })
    for channel in channels {
      for (number, index) in channel.members {
        let slot = groups.table.slots[number]
        guard readers.contains([slot.value.index, slot.axis]), let tensor = graph.constant(slot.value) else { continue }
        let walk = AxisWalk(tensor.shape, axis: slot.axis)
        let isZero = (0..<tensor.count).map { walk.index(of: $0) == index }
        graph[slot.value].constant = try WeightNumbers.zeroing(tensor, where: isZero)
      }
    }
    return graph
  }

  /// Some channels of every group, never all.
  private func drawn(_ groups: ChannelGroups, seed: Int) -> [ChannelGroups.Channel] {
    var random = TestRandom(seed: UInt64(seed))
    return groups.groups.flatMap { group in group.channels.dropFirst().filter { _ in random.below(3) == 0 } }
  }

  private func check(_ graph: Graph, inputs: [Tensor], seed: Int, _ label: String) throws -> Int {
    let groups = ChannelGroups(graph, registry: .standard)
    let channels = drawn(groups, seed: seed)
    var removal = ChannelRemoval(groups)
    for channel in channels { removal.remove(channel) }
    let pruned = try removal.applied(to: graph, registry: .standard)
    try GraphVerifier.verify(pruned, registry: .standard)
    #expect(channels.isEmpty || pruned.parameterCount < graph.parameterCount, "\(label)")
    let expected = try outputs(try silenced(graph, groups, channels), inputs)
    let found = try outputs(pruned, inputs)
    for (a, b) in zip(expected, found) {
      let size = (a.elements(as: Float.self) ?? []).reduce(1) { max($0, abs($1)) }
      #expect(largestDifference(a, b) <= 2e-5 * size, "\(label)")
    }
    return channels.count
  }

  @Test func prunedNetworksComputeWhatIsLeft() throws {
    var removed = 0
    for seed in 0..<drawnCases(150) {
      var network = RandomNetwork(seed: seed)
      let graph = try network.graph()
      let image = sampleTensor(RandomNetwork.imageShape, seed: seed)
      removed += try check(graph, inputs: [image], seed: seed + 1, "seed \(seed)")
    }
    #expect(removed > 10 * drawnCases(150))
  }

  /// The graphs that the commands prune have been through the portable passes.
  @Test func optimizedNetworksToo() throws {
    for seed in 1000..<1000 + drawnCases(50) {
      var network = RandomNetwork(seed: seed)
      var graph = try network.graph()
      _ = try Optimizer(registry: .standard, passes: Optimizer.portablePasses).optimize(&graph)
      _ = try check(
        graph, inputs: [sampleTensor(RandomNetwork.imageShape, seed: seed)], seed: seed, "seed \(seed)")
    }
  }

  @Test func attentionLosesWholeHeads() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 5, 6])
    func heads(_ order: [Int]) throws -> ValueID {
      let product = try builder.node("MatMul", [x, builder.weights([6, 12])])
      let apart = try builder.node("Reshape", [product, builder.constant([0, 5, 4, 3] as [Int64], [4])])
      return try builder.node("Transpose", [apart], [("perm", .ints(order))])
    }
    let scores = try builder.node("MatMul", [heads([0, 2, 1, 3]), heads([0, 2, 3, 1])])
    let weights = try builder.node("Softmax", [scores])
    let seen = try builder.node("MatMul", [weights, heads([0, 2, 1, 3])])
    let turned = try builder.node("Transpose", [seen], [("perm", .ints([0, 2, 1, 3]))])
    let joined = try builder.node("Reshape", [turned, builder.constant([0, 5, 12] as [Int64], [3])])
    builder.output(try builder.node("MatMul", [joined, builder.weights([12, 7])]))
    let graph = builder.graph
    let groups = ChannelGroups(graph, registry: .standard)
    #expect(groups.groups.map(\.channels.count) == [4])
    #expect(groups.groups.first?.producers.count == 3 && groups.groups.first?.consumers.count == 1)
    #expect(try check(graph, inputs: [sampleTensor([2, 5, 6], seed: 3)], seed: 5, "attention") > 0)
  }

  /// Between two convolutions: what `make` makes of six channels.
  private func followed(
    _ label: String, groups expected: [Int], _ make: (GraphBuilder, ValueID) throws -> ValueID
  ) throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 3, 6, 6])
    let y = try builder.node("Conv", [x, builder.weights([6, 3, 1, 1]), builder.weights([6])])
    let z = try make(builder, y)
    let channels = try #require(builder.shape(z)?[1].known)
    let last = try builder.node("Conv", [z, builder.weights([4, channels, 1, 1])])
    builder.output(try builder.node("GlobalMaxPool", [last]))
    let graph = builder.graph
    #expect(ChannelGroups(graph, registry: .standard).groups.map(\.channels.count) == expected, "\(label)")
    for seed in 1...3 { _ = try check(graph, inputs: [sampleTensor([2, 3, 6, 6], seed: seed)], seed: seed, label) }
  }

  @Test func everyRuleIsFollowed() throws {
    try followed("transposed", groups: [6, 4]) { b, y in
      try b.node("ConvTranspose", [y, b.weights([6, 4, 2, 2]), b.weights([4])], [("strides", .ints([2, 2]))])
    }
    try followed("transposed in groups", groups: [3, 2]) { b, y in
      try b.node("ConvTranspose", [y, b.weights([6, 2, 2, 2])], [("group", .int(2))])
    }
    try followed("transposed depthwise", groups: [6]) { b, y in
      try b.node("ConvTranspose", [y, b.weights([6, 1, 2, 2]), b.weights([6])], [("group", .int(6))])
    }
    try followed("transposed depthwise, several", groups: [6]) { b, y in
      try b.node("ConvTranspose", [y, b.weights([6, 2, 2, 2])], [("group", .int(6))])
    }
    try followed("by scales", groups: [6]) { b, y in
      try b.node("Resize", [y, nil, b.constant([1, 1, 2, 2] as [Float], [4])])
    }
    try followed("by the scales of some axes", groups: [6]) { b, y in
      try b.node(
        "Resize", [y, nil, b.constant([2, 1.5] as [Float], [2])],
        [("axes", .ints([2, 3])), ("mode", .string("linear"))])
    }
    try followed("normalized", groups: [6]) { b, y in
      try b.node("InstanceNormalization", [y, b.weights([6]), b.weights([6])])
    }
    try followed("norms of windows", groups: [6]) { b, y in
      try b.node("LpPool", [y], [("kernel_shape", .ints([2, 2]))])
    }
    try followed("reduced", groups: [6]) { b, y in
      try b.node("ReduceMean", [y, b.constant([2, -1] as [Int64], [2])])
    }
    try followed("rows", groups: [6]) { b, y in try b.node("Softmax", [y]) }
    try followed("over the last axes", groups: [6]) { b, y in
      try b.node("LayerNormalization", [y, b.weights([6, 6])], [("axis", .int(2))])
    }
    try followed("looked up", groups: [6]) { b, y in
      try b.node("Gather", [y, b.constant([2, 0, 5] as [Int64], [3])], [("axis", .int(-1))])
    }
    try followed("dropped out", groups: [6]) { b, y in try b.node("Dropout", [y]) }
    try followed("added axes", groups: [6]) { b, y in
      let more = try b.node("Unsqueeze", [y, b.constant([1] as [Int64], [1])])
      return try b.node("Squeeze", [more, b.constant([1] as [Int64], [1])])
    }
    try followed("compared", groups: [6]) { b, y in
      let large = try b.node("Greater", [y, b.constant([0.1] as [Float], [1, 1, 1, 1])])
      return try b.node("Where", [large, y, b.weights([6, 1, 1])])
    }
    try followed("product from the left", groups: [6, 5]) { b, y in
      let flat = try b.node("Reshape", [y, b.constant([0, 0, -1] as [Int64], [3])])
      let product = try b.node("MatMul", [b.weights([5, 6]), flat])
      return try b.node("Unsqueeze", [product, b.constant([3] as [Int64], [1])])
    }
    try followed("transposed product", groups: [6, 5]) { b, y in
      let mean = try b.node("Flatten", [b.node("GlobalAveragePool", [y])])
      let turned = try b.node("Transpose", [mean])
      let product = try b.node(
        "Gemm", [b.weights([6, 5]), turned, b.weights([5, 1])], [("transA", .int(1)), ("alpha", .float(0.5))])
      let back = try b.node("Transpose", [product])
      return try b.node("Unsqueeze", [back, b.constant([2, 3] as [Int64], [2])])
    }
    try followed("of one channel", groups: [6, 1]) { b, y in
      let one = try b.node("Conv", [y, b.weights([1, 6, 1, 1])])
      return try b.node("Concat", [one, y], [("axis", .int(1))])
    }
  }

  @Test func additionsTieChannelsTogether() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [1, 3, 4, 4])
    let a = try builder.node("Conv", [x, builder.weights([6, 3, 1, 1])])
    let b = try builder.node("Conv", [x, builder.weights([6, 3, 1, 1])])
    let sum = try builder.node("Add", [a, b])
    builder.output(try builder.node("Conv", [sum, builder.weights([2, 6, 1, 1])]))
    let groups = ChannelGroups(builder.graph, registry: .standard)
    #expect(groups.groups.count == 1 && groups.groups[0].producers.map(\.node) == ["n0", "n1"])
    #expect(groups.groups[0].channels.count == 6)
    #expect(groups.kept.map(\.weight.node) == ["n3"] && groups.kept[0].reason.contains("output"))
  }

  @Test func whatCannotBeFollowedIsKeptWithAReason() throws {
    func reasons(_ make: (GraphBuilder, ValueID) throws -> ValueID) throws -> [String] {
      let builder = GraphBuilder()
      let x = builder.input("x", [1, 3, 4, 4])
      let y = try builder.node("Conv", [x, builder.weights([6, 3, 1, 1])])
      builder.output(try builder.node("GlobalAveragePool", [try make(builder, y)]))
      return ChannelGroups(builder.graph, registry: .standard).kept.filter { $0.weight.node == "n0" }.map(\.reason)
    }
    #expect(
      try reasons { b, y in try b.node("ReduceMean", [y, b.constant([1] as [Int64], [1])]) }[0].contains("ReduceMean"))
    #expect(try reasons { b, y in try b.node("Softmax", [y], [("axis", .int(1))]) }[0].contains("Softmax"))
    #expect(
      try reasons { b, y in try b.node("DepthToSpace", [y], [("blocksize", .int(1))]) }[0].contains("DepthToSpace"))
    #expect(
      try reasons { b, y in
        try b.node(
          "GroupNormalization", [y, b.weights([6]), b.weights([6])], [("num_groups", .int(2))])
      }[0].contains("GroupNormalization"))
    #expect(
      try reasons { b, y in
        try b.node("Reshape", [y, b.constant([1, 12, 4, 2] as [Int64], [4])])
      }[0].contains("Reshape"))
  }

  /// A shape that is computed follows by itself; one that is computed with does not let channels go.
  @Test func computedShapes() throws {
    func groups(_ end: Int) throws -> [ChannelGroups.Group] {
      let builder = GraphBuilder()
      let x = builder.input("x", [.symbol("n"), 3, 4, 4])
      let y = try builder.node("Relu", [builder.node("Conv", [x, builder.weights([6, 3, 1, 1])])])
      let shape = try builder.node("Shape", [y], [("end", .int(end))])
      let target = try builder.node("Concat", [shape, builder.constant([-1] as [Int64], [1])], [("axis", .int(0))])
      let flat = try builder.node("Reshape", [y, target])
      let last = end == 1 ? 96 : 16
      builder.output(try builder.node("MatMul", [flat, builder.weights([last, 2])]))
      let graph = builder.graph
      if end == 1 {
        #expect(try check(graph, inputs: [sampleTensor([2, 3, 4, 4], seed: 1)], seed: 3, "computed") > 0)
      }
      return ChannelGroups(graph, registry: .standard).groups
    }
    #expect(try groups(1).map(\.channels.count) == [6])
    #expect(try groups(2).isEmpty)
  }

  @Test func capturedAndSharedValues() throws {
    // One weight for two layers: both lose the same channels, and read the same ones.
    let builder = GraphBuilder()
    let x = builder.input("x", [1, 6])
    let shared = builder.weights([6, 6])
    let a = try builder.node("Relu", [builder.node("MatMul", [x, shared])])
    let b = try builder.node("MatMul", [a, shared])
    builder.output(try builder.node("MatMul", [b, builder.weights([6, 2])]))
    let groups = ChannelGroups(builder.graph, registry: .standard)
    // The rows are tied to the input.
    #expect(groups.groups.isEmpty && groups.kept.contains { $0.reason.contains("input 'x'") })
  }
}
