// Shared values: how near they are, what they cost, and where zeros stay.

import ApusCompression
import ApusGraph
import ApusOperators
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct ClusteringTests {
  private func graph(_ weights: Tensor) throws -> Graph {
    let builder = GraphBuilder()
    let x = builder.input("x", [2, Dim(weights.shape[0])], weights.dataType)
    builder.output(try builder.node("MatMul", [x, builder.addConstant(weights, name: "w")]))
    return builder.graph
  }

  private func clustered(
    _ weights: Tensor, _ options: ClusteringOptions
  ) throws -> (numbers: [Float], graph: Graph, report: ClusteringReport) {
    var graph = try graph(weights)
    let report = try GraphClusterer(options).cluster(&graph)
    let numbers = graph.allWeights(registry: .standard).first.flatMap { WeightNumbers.read($0.tensor) } ?? []
    return (numbers, graph, report)
  }

  private func error(_ a: [Float], _ b: [Float]) -> Double {
    zip(a, b).reduce(0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
  }

  /// The best that k values can do, by dynamic programming over the sorted numbers.
  private func leastError(_ numbers: [Float], _ count: Int) -> Double {
    let sorted = numbers.sorted().map { Double($0) }
    let (first, second) = (
      sorted.reduce(into: [0.0]) { $0.append($0.last! + $1) },
      sorted.reduce(into: [0.0]) { $0.append($0.last! + $1 * $1) }
    )
    func cost(_ from: Int, _ to: Int) -> Double {
      let sum = first[to] - first[from]
      return second[to] - second[from] - sum * sum / Double(to - from)
    }
    var best = [0.0] + (1...sorted.count).map { cost(0, $0) }
    for _ in 1..<count {
      best = [0.0] + (1...sorted.count).map { to in (0..<to).map { best[$0] + cost($0, to) }.min()! }
    }
    return best[sorted.count]
  }

  @Test func nearTheBestThatIsPossible() throws {
    for (count, seed) in [(2, 1), (4, 2), (8, 3), (16, 4)] {
      let weights = sampleTensor([20, 20], seed: seed)
      // Sums of uniform numbers: many near zero.
      let bell = zip(WeightNumbers.read(weights)!, WeightNumbers.read(sampleTensor([20, 20], seed: seed + 50))!).map(+)
      let (numbers, _, report) = try clustered(Tensor(bell, shape: [20, 20]), ClusteringOptions(codebook: count))
      #expect(Set(numbers).count <= count && report.weights[0].codebook == Set(numbers).count)
      #expect(error(bell, numbers) <= 1.001 * leastError(bell, count) + 1e-6, "\(count)")
      // The same each time.
      #expect(try clustered(Tensor(bell, shape: [20, 20]), ClusteringOptions(codebook: count)).numbers == numbers)
    }
  }

  @Test func fewValuesStayAsTheyAre() throws {
    let weights = Tensor((0..<60).map { Float($0 % 5) * 0.3 - 0.6 }, shape: [6, 10])
    let (numbers, _, report) = try clustered(weights, ClusteringOptions(codebook: 8))
    #expect(numbers == WeightNumbers.read(weights) && report.weights[0].sqnr == .infinity)
    // Five values, equally often.
    #expect(abs(report.weights[0].entropy - 2.321928) < 1e-5)
    // Lengths 2, 2, 2, 3, 3 for 12 elements each: 144 bits; five floats and five lengths.
    #expect(report.weights[0].huffmanBytes == 144 / 8 + 25)
  }

  @Test func zerosStay() throws {
    let mixed = WeightNumbers.read(sampleTensor([16, 16], seed: 9))!.enumerated().map { $0 % 3 == 0 ? 0 : $1 }
    var options = ClusteringOptions(codebook: 8)
    options.keepsZeros = true
    let (numbers, _, _) = try clustered(Tensor(mixed, shape: [16, 16]), options)
    #expect(zip(mixed, numbers).allSatisfy { ($0 == 0) == ($1 == 0) } && Set(numbers).count <= 8)
  }

  @Test func largeElementsCountMore() throws {
    let numbers = WeightNumbers.read(sampleTensor([32, 32], seed: 4))!.map { $0 * $0 * $0 }
    let plain = try clustered(Tensor(numbers, shape: [32, 32]), ClusteringOptions(codebook: 8)).numbers
    var options = ClusteringOptions(codebook: 8)
    options.isWeightedByMagnitude = true
    let weighted = try clustered(Tensor(numbers, shape: [32, 32]), options).numbers
    func largeError(_ other: [Float]) -> Double {
      zip(numbers, other).reduce(0) { $0 + Double(abs($1.0)) * Double($1.0 - $1.1) * Double($1.0 - $1.1) }
    }
    #expect(largeError(weighted) < largeError(plain))
  }

  @Test func narrowFloats() throws {
    let halves = WeightNumbers.read(sampleTensor([16, 16], seed: 2))!.map { Float16($0) }
    let (_, graph, _) = try clustered(Tensor(halves, shape: [16, 16]), ClusteringOptions(codebook: 4))
    let tensor = graph.allWeights(registry: .standard)[0].tensor
    #expect(tensor.dataType == .float16 && Set(tensor.elements(as: Float16.self) ?? []).count <= 4)
  }

  @Test func positionsInACodebook() throws {
    let weights = sampleTensor([40, 40], seed: 5)
    var options = ClusteringOptions(codebook: 16)
    let (_, plain, _) = try clustered(weights, options)
    options.writesIndices = true
    let (_, indexed, report) = try clustered(weights, options)
    #expect(report.weights[0].isIndexed && report.weights[0].indexBytes == 1600 + 64)
    #expect(indexed.allConstants.reduce(0) { $0 + $1.byteCount } == 1664)
    let x = Value.tensor(sampleTensor([2, 40], seed: 1))
    let surroundings = RunSurroundings(pool: WorkerPool(threads: 1))
    let (a, b) = (
      try GraphRun(plain, in: surroundings).outputs(for: [x]), try GraphRun(indexed, in: surroundings).outputs(for: [x])
    )
    #expect(largestDifference(try #require(a[0].tensor), try #require(b[0].tensor)) == 0)
    // Not where the codebook is as large as the weight.
    options.codebook = 65536
    #expect(try !clustered(sampleTensor([2, 2], seed: 1), options).report.weights[0].isIndexed)
  }

  @Test func whatIsRefused() throws {
    for count in [-1, 0, 1, 65537] {
      #expect(throws: CompressionError.self) { try GraphClusterer(ClusteringOptions(codebook: count)) }
    }
    for number in [Float.nan, .infinity] {
      #expect(throws: CompressionError.self) {
        try clustered(Tensor([1, number], shape: [2, 1]), ClusteringOptions(codebook: 2))
      }
    }
  }

  @Test func sparsity() throws {
    let weights = Tensor([0, 1, 0, 2, 0, 0, 0, 3] as [Float], shape: [4, 2])
    let report = SparsityReport(try graph(weights))
    #expect(report.zeros == 5 && report.weightElements == 8 && report.parameters == 8)
    let row = report.weights[0]
    #expect(row.zerosByOutputChannel == [4, 1] && row.zerosByInputChannel == [1, 1, 2, 1])
    #expect(row.emptyOutputChannels == 1 && row.emptyInputChannels == 1 && row.twoOfFour == 0.5 && row.share == 1)
  }
}
