// Random operators: the numbers of NumPy's RandomState for given seeds, distributions without one, Dropout.

import ApusGraph
import ApusOperators
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct RandomTests {
  /// numpy.random.RandomState(42): rand(3), then, from a new one, randn(3).
  @Test func legacyStream() {
    withUnsafeTemporaryAllocation(byteCount: MersenneTwister.stateBytes, alignment: 4) { memory in
      var generator = MersenneTwister(seed: 42, memory: memory.baseAddress!)
      #expect(
        (0..<3).map { _ in generator.nextDouble() } == [0.3745401188473625, 0.9507143064099162, 0.7319939418114051])
      generator = MersenneTwister(seed: 42, memory: memory.baseAddress!)
      #expect(
        (0..<3).map { _ in generator.nextNormal() } == [0.4967141530112327, -0.13826430117118466, 0.6476885381006925])
    }
  }

  @Test func seededAndNot() throws {
    let seeded = OperatorRun("RandomUniform", attributes: [("shape", .ints([2, 3])), ("seed", .float(7))])
    #expect(try seeded()[0].elements(as: Float.self) == seeded()[0].elements(as: Float.self))
    // Two nodes of one graph, which differ also where some other test has set the seed of the process.
    let builder = GraphBuilder()
    for _ in 0..<2 {
      builder.output(
        try builder.node("RandomNormal", [], [("shape", .ints([10_000])), ("mean", .float(2)), ("dtype", .int(11))]))
    }
    let pool = WorkerPool(threads: 1)
    let results = try Program(graph: builder.graph, registry: .standard, pool: pool).run([], on: pool)
    let (a, b) = (
      try #require(results[0].tensor?.elements(as: Double.self)),
      try #require(results[1].tensor?.elements(as: Double.self))
    )
    #expect(a != b)
    let mean = a.reduce(0, +) / 10_000
    #expect(abs(mean - 2) < 0.06)
    let variance = a.reduce(0.0) { sum, x -> Double in sum + (x - mean) * (x - mean) } / 10_000
    #expect(abs(variance - 1) < 0.08)
  }

  @Test func likeAnotherTensor() throws {
    let run = OperatorRun(
      "RandomUniformLike", attributes: [("dtype", .int(10)), ("low", .float(3)), ("high", .float(4))])
    let y = try run(Tensor(strings: ["a", "b"], shape: [1, 2]))[0]
    #expect(y.dataType == .float16 && y.shape == [1, 2])
    #expect((y.elements(as: Float16.self) ?? []).allSatisfy { $0 >= 3 && $0 <= 4 })
    #expect(throws: (any Error).self) { try OperatorRun("RandomUniformLike")(Tensor([Int32(1)])) }
  }

  @Test func probabilities() throws {
    let run = OperatorRun("Bernoulli", attributes: [("dtype", .int(9)), ("seed", .float(1))])
    let y = try #require(run(Tensor([Float](repeating: 0.8, count: 20_000)))[0].elements(as: Bool.self))
    #expect(abs(y.count { $0 } - 16_000) < 200)
    #expect(try run(Tensor([Double(0), 1]))[0].elements(as: Bool.self) == [false, true])
    #expect(throws: (any Error).self) { try run(Tensor([Float(1.5)])) }
    #expect(throws: (any Error).self) { try run(Tensor([Float.nan])) }
  }

  @Test func classes() throws {
    let run = OperatorRun(
      "Multinomial", attributes: [("sample_size", .int(20_000)), ("dtype", .int(7)), ("seed", .float(3))])
    let y = try run(Tensor([Float(0), 1.0986123, -.infinity, 5, 5, 5], shape: [2, 3]))[0]
    let draws = try #require(y.elements(as: Int64.self))
    #expect(y.shape == [2, 20_000])
    let (first, second) = (draws.prefix(20_000), draws.suffix(20_000))
    let (ones, twos) = (first.count { $0 == 1 }, second.count { $0 == 2 })
    #expect(abs(ones - 15_000) < 200)
    #expect(abs(twos - 6_667) < 200)
    #expect(!first.contains(2))
    #expect(throws: (any Error).self) { try run(Tensor([Float.nan], shape: [1, 1])) }
  }

  @Test func dropout() throws {
    let x = Tensor((0..<1000).map { Float($0 + 1) })
    let (half, on, off) = (Tensor(scalar: Float(0.5)), Tensor(scalar: true), Tensor(scalar: false))
    let run = OperatorRun("Dropout", attributes: [("seed", .int(5))])
    let trained = try run(x, half, on, outputs: 2)
    let (y, mask) = (
      try #require(trained[0].elements(as: Float.self)), try #require(trained[1].elements(as: Bool.self))
    )
    for i in 0..<1000 { #expect(y[i] == (mask[i] ? Float(i + 1) * 2 : 0)) }
    #expect(mask.contains(true) && mask.contains(false))
    for inputs in [[x], [x, half], [x, half, off]] {
      let plain = try run(inputs.map { .tensor($0) }, outputs: 2).compactMap(\.tensor)
      #expect(plain[0].elements(as: Float.self) == x.elements(as: Float.self))
      #expect(plain[1].elements(as: Bool.self) == [Bool](repeating: true, count: 1000))
    }
    #expect(throws: (any Error).self) { try run(x, Tensor(scalar: Float(1)), on) }
    // Before version 10 the mask had the type of the data; before 7 training was the default.
    var old = OperatorRun("Dropout", attributes: [("ratio", .float(0.25))])
    old.version = 7
    #expect(try old(x, outputs: 2)[1].elements(as: Float.self) == [Float](repeating: 1, count: 1000))
    old.version = 6
    #expect(try old(x)[0].elements(as: Float.self)?.contains(0) == true)
    old.attributes["is_test"] = .int(1)
    #expect(try old(x)[0].elements(as: Float.self) == x.elements(as: Float.self))
  }
}
