// What pruning takes away, by its options, and what it refuses.

import ApusCompression
import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct PruningTests {
  private func network(_ seed: Int = 7) throws -> Graph {
    let builder = GraphBuilder()
    let x = builder.input("x", [1, 3, 8, 8])
    let a = try builder.node("Relu", [builder.node("Conv", [x, builder.weights([16, 3, 3, 3])])])
    let b = try builder.node(
      "Relu", [builder.node("Conv", [a, builder.weights([32, 16, 3, 3]), builder.weights([32])])])
    let mean = try builder.node("Flatten", [builder.node("GlobalAveragePool", [b])])
    builder.output(
      try builder.node("Gemm", [mean, builder.weights([10, 32]), builder.weights([10])], [("transB", .int(1))]))
    return builder.graph
  }

  private func numbers(_ graph: Graph) -> [[Float]] {
    graph.allWeights(registry: .standard).compactMap { WeightNumbers.read($0.tensor) }
  }

  private func prune(_ options: PruningOptions) throws -> (before: Graph, after: Graph, report: PruningReport) {
    let before = try network()
    var after = before
    let report = try GraphPruner(options).prune(&after)
    return (before, after, report)
  }

  @Test func magnitudeOfEachLayer() throws {
    for fraction in [0, 0.1, 0.5, 0.999] {
      let (before, after, report) = try prune(PruningOptions(.magnitude, fraction: fraction))
      for (old, new) in zip(numbers(before), numbers(after)) {
        let gone = Int(Double(old.count) * fraction)
        let expected = Set(old.indices.sorted { (abs(old[$0]), $0) < (abs(old[$1]), $1) }.prefix(gone))
        #expect(new.indices.allSatisfy { new[$0] == (expected.contains($0) ? 0 : old[$0]) })
      }
      #expect(report.weights.count == 3 && report.weights[0].node == "n0")
    }
  }

  @Test func magnitudeOfAllLayers() throws {
    var options = PruningOptions(.magnitude, fraction: 0.4)
    options.isGlobal = true
    let (before, after, _) = try prune(options)
    let (old, new) = (numbers(before).flatMap { $0 }, numbers(after).flatMap { $0 })
    let gone = Int(Double(old.count) * 0.4)
    let bound = old.map(abs).sorted()[gone - 1]
    #expect(new.count { $0 == 0 } == gone && zip(old, new).allSatisfy { $1 == 0 ? abs($0) <= bound : $0 == $1 })
  }

  @Test func targetOfParameters() throws {
    var options = PruningOptions(.magnitude)
    options.parameterTarget = 0.3
    let (before, after, report) = try prune(options)
    let left = after.allConstants.flatMap { WeightNumbers.read($0) ?? [] }.count { $0 != 0 }
    #expect(left == Int(Double(before.parameterCount) * 0.3) && (report.chosenFraction ?? 0) > 0.6)
  }

  @Test func patterns() throws {
    for (kept, group) in [(2, 4), (1, 4), (3, 8)] {
      let (before, after, _) = try prune(PruningOptions(.pattern(kept: kept, group: group)))
      for ((weight, old), (_, new)) in zip(
        before.allWeights(registry: .standard), after.allWeights(registry: .standard))
      {
        let (a, b) = (WeightNumbers.read(old) ?? [], WeightNumbers.read(new) ?? [])
        #expect(SparsePattern(kept: kept, group: group).conformity(b, new.shape, axis: weight.inputAxis) == 1)
        #expect(zip(a, b).allSatisfy { $1 == 0 || $0 == $1 })
        // As many stay as may.
        let walk = AxisWalk(new.shape, axis: weight.inputAxis)
        let rest = walk.extent % group
        let most = walk.outer * walk.inner * (walk.extent / group * kept + min(rest, kept))
        #expect(b.count { $0 != 0 } == most)
      }
    }
  }

  @Test func channels() throws {
    let (_, after, report) = try prune(PruningOptions(.structured, fraction: 0.25))
    #expect(after.allWeights(registry: .standard).map(\.tensor.shape) == [[12, 3, 3, 3], [24, 12, 3, 3], [10, 24]])
    #expect(report.groups.map(\.channelsAfter) == [12, 24])
    var options = PruningOptions(.structured, fraction: 0.3)
    options.channelMultiple = 8
    #expect(try prune(options).report.groups.map(\.channelsAfter) == [16, 24])
    options = PruningOptions(.structured, fraction: 0.99)
    #expect(try prune(options).report.groups.map(\.channelsAfter) == [1, 1])
    options.isGlobal = true
    #expect(try prune(options).report.groups.allSatisfy { $0.channelsAfter >= 1 })
  }

  @Test func importanceDecides() throws {
    var options = PruningOptions(.structured, fraction: 0.5)
    options.importance = ["n0": (0..<16).map { Double($0 % 2) }]
    options.selection.exclude = ["n2"]
    let (before, after, _) = try prune(options)
    let (old, new) = (numbers(before)[0], numbers(after)[0])
    // The odd ones stay.
    var expected: [Float] = []
    for channel in stride(from: 1, to: 16, by: 2) { expected += old[channel * 27..<channel * 27 + 27] }
    #expect(new == expected)
    #expect(numbers(after)[1].count == 32 * 8 * 9)
  }

  @Test func targetsOfMultiplyAdds() throws {
    for share in [0.9, 0.5, 0.2] {
      var options = PruningOptions(.structured)
      options.multiplyAddTarget = share
      let (before, after, report) = try prune(options)
      let (all, left) = (
        try #require(before.multiplyAdds(registry: .standard)), try #require(after.multiplyAdds(registry: .standard))
      )
      #expect(Double(left) <= share * Double(all) && Double(left) > (share - 0.1) * Double(all))
      #expect(report.chosenFraction != nil)
    }
    var options = PruningOptions(.structured)
    options.multiplyAddTarget = 1e-6
    #expect(throws: CompressionError.self) { try prune(options) }
  }

  @Test func whatIsRefused() throws {
    for fraction in [1, 1.5, -0.1, .nan, .infinity] {
      #expect(throws: CompressionError.self) { try prune(PruningOptions(.magnitude, fraction: fraction)) }
      #expect(throws: CompressionError.self) { try prune(PruningOptions(.structured, fraction: fraction)) }
    }
    #expect(throws: CompressionError.self) { try prune(PruningOptions(.pattern(kept: 4, group: 4))) }
    var options = PruningOptions(.magnitude, fraction: 0.5)
    options.selection.include = ["no such node"]
    #expect(throws: CompressionError.self) { try prune(options) }
    options = PruningOptions(.structured, fraction: 0.5)
    options.importance = ["n0": [1, 2]]
    #expect(throws: CompressionError.self) { try prune(options) }
    options.importance = ["nobody": [1]]
    #expect(throws: CompressionError.self) { try prune(options) }
    options.importance = [:]
    options.selection.exclude = ["Conv"]
    #expect(throws: CompressionError.self) { try prune(options) }
    let builder = GraphBuilder()
    builder.output(try builder.node("Relu", [builder.input("x", [2])]))
    var graph = builder.graph
    #expect(throws: CompressionError.self) { try GraphPruner(PruningOptions(.structured, fraction: 0.5)).prune(&graph) }
    #expect(throws: CompressionError.self) { try GraphPruner(PruningOptions(.magnitude, fraction: 0.5)).prune(&graph) }
  }

  @Test func notANumberIsNeverSmall() throws {
    let builder = GraphBuilder()
    let weights = builder.constant([Float.nan, 1, 2, 3], [2, 2])
    builder.output(try builder.node("MatMul", [builder.input("x", [1, 2]), weights]))
    var graph = builder.graph
    _ = try GraphPruner(PruningOptions(.magnitude, fraction: 0.5)).prune(&graph)
    let left = numbers(graph)[0]
    #expect(left[0].isNaN && left[1...] == [0, 0, 3])
  }

  @Test func globs() {
    #expect(Glob("a*c").matches("abbc") && Glob("*").matches("") && Glob("a?c").matches("abc"))
    #expect(!Glob("a?c").matches("ac") && !Glob("a*c").matches("abcd") && Glob("*/conv*/w").matches("x/y/conv1/w"))
  }
}
