// Programs of fake and real operators: regions, views, in-place results, captures, limits, determinism.

import ApusGraph
import ApusOperators
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct ExecutorTests {
  private func run(
    _ graph: Graph, _ inputs: [Tensor], threads: Int = 1, settings: RunSettings = RunSettings()
  ) throws -> [Tensor] {
    let pool = WorkerPool(threads: threads)
    let program = try Program(graph: graph, registry: .standard, pool: pool)
    return try program.run(inputs.map { .tensor($0) }, on: pool, settings: settings).compactMap(\.tensor)
  }

  @Test func viewsShareAndOutputsOutlive() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 4])
    let shape = builder.constant([2, -1] as [Int], [2])
    let reshaped = try builder.node("Reshape", [x, shape])
    let sum = try builder.node("Add", [reshaped, reshaped])
    builder.output(reshaped, sum)
    let input = sampleTensor([4, 4], seed: 1)
    let outputs = try run(builder.graph, [input])
    #expect(outputs[0].shape == [2, 8])
    #expect(outputs[0].elements(as: Float.self) == input.elements(as: Float.self))
    #expect(outputs[1].elements(as: Float.self) == input.elements(as: Float.self)?.map { $0 + $0 })
  }

  @Test func inPlaceChainsKeepWhatIsStillNeeded() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [64])
    let a = try builder.node("Relu", [x])
    let b = try builder.node("Neg", [a])
    let c = try builder.node("Exp", [b])
    // `a` lives on after `b` was computed from it.
    let d = try builder.node("Add", [a, c])
    builder.output(d)
    let input = sampleTensor([64], seed: 2)
    let expected = input.elements(as: Float.self)!.map { max($0, 0) + Double(-max($0, 0)).exponential }
    let found = try run(builder.graph, [input])[0]
    #expect(largestDifference(found, Tensor(expected.map { Float($0) }, shape: [64])) < 1e-5)
    #expect(input.elements(as: Float.self) == sampleTensor([64], seed: 2).elements(as: Float.self))
  }

  @Test func regionEndsWhereAShapeIsComputed() throws {
    // The shape of the Reshape is an input of the graph plus one: known only after it was added.
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n")])
    let target = builder.input("target", [1], .int64)
    let one = builder.constant([1] as [Int], [1])
    let shape = try builder.node("Add", [target, one])
    let y = try builder.node("Reshape", [x, shape])
    builder.output(y)
    for size in [3, 7] {
      let outputs = try run(builder.graph, [sampleTensor([size], seed: size), Tensor([size - 1])])
      #expect(outputs[0].shape == [size])
    }
    #expect(throws: OperatorError.self) { try run(builder.graph, [sampleTensor([3], seed: 0), Tensor([7])]) }
  }

  @Test func dataDependentShapes() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n")])
    let positions = try builder.node("NonZero", [x])
    let shape = try builder.node("Shape", [positions])
    builder.output(positions, shape)
    let outputs = try run(builder.graph, [Tensor([0, 2, 0, 3] as [Float])])
    #expect(outputs[0].elements(as: Int.self) == [1, 3])
    #expect(outputs[1].elements(as: Int.self) == [1, 2])
  }

  @Test func memoryLimit() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 1])
    let y = builder.input("y", [1, .symbol("n")])
    builder.output(try builder.node("Add", [x, y]))
    let inputs = [sampleTensor([2048, 1], seed: 0), sampleTensor([1, 2048], seed: 1)]
    #expect(throws: OperatorError.self) {
      try run(builder.graph, inputs, settings: RunSettings(maximumBytes: 1 << 20))
    }
    #expect(try run(builder.graph, inputs)[0].shape == [2048, 2048])
  }

  @Test func cancelledRunsEnd() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [4])
    builder.output(try builder.node("Relu", [x]))
    let flag = CancellationFlag()
    flag.cancel()
    #expect(throws: OperatorError.self) {
      try run(builder.graph, [sampleTensor([4], seed: 0)], settings: RunSettings(cancellation: flag))
    }
  }

  @Test func threadsDoNotChangeBits() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 96])
    let product = try builder.node("MatMul", [x, builder.weights([96, 130])])
    let soft = try builder.node("Softmax", [product], [("axis", .int(-1))])
    builder.output(soft)
    for rows in [1, 5, 200] {
      let input = sampleTensor([rows, 96], seed: rows)
      let one = try run(builder.graph, [input], threads: 1)[0]
      for threads in [2, 3] {
        #expect(
          try run(builder.graph, [input], threads: threads)[0].elements(as: Float.self) == one.elements(as: Float.self))
      }
    }
  }

  /// Constants at odd addresses that graphs inside are given, captured or as first values, are moved once.
  @Test func constantsOfGraphsInsideAreAligned() throws {
    func odd(_ tensor: Tensor) throws -> Tensor {
      let storage = try TensorStorage(byteCount: tensor.byteCount + 1)
      tensor.withUnsafeBytes { (storage.base + 1).copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
      return Tensor(dataType: tensor.dataType, shape: tensor.shape, storage: storage, byteOffset: 1)
    }
    let builder = GraphBuilder()
    let (start, step) = (sampleTensor([2, 4], seed: 1), sampleTensor([4], seed: 2))
    let (first, captured) = (builder.addConstant(try odd(start)), builder.addConstant(try odd(step)))
    let trips = builder.input("trips", [], .int64)
    let body = GraphBuilder()
    _ = body.input("i", [], .int64)
    let condition = body.input("c", [], .bool)
    let carried = body.input("carried", [2, 4])
    let inner = body.input("step", [4])
    body.graph.inputs.removeLast()
    body.graph.captures = [inner]
    body.output(condition, try body.node("Add", [carried, inner]))
    builder.graph.outputs = try builder.apply(
      OperatorID("Loop"), name: "loop", [trips, nil, first],
      [("body", .graph(Subgraph(graph: body.graph, captured: [captured])))], outputCount: 1)
    let pool = WorkerPool(threads: 1)
    let program = try Program(graph: builder.graph, registry: .standard, pool: pool)
    for id in [first, captured] {
      let constant = try #require(program.graph.constant(id))
      #expect(constant.isAligned(to: 16))
    }
    for trips in [3, 0, 1] {
      let found = try #require(program.run([.tensor(Tensor([trips], shape: []))], on: pool)[0].tensor)
      let steps = step.elements(as: Float.self)!
      var expected = start.elements(as: Float.self)!
      for _ in 0..<trips { for index in expected.indices { expected[index] += steps[index % 4] } }
      #expect(found.elements(as: Float.self) == expected)
    }
  }

  /// Two names for one value, a constant as a result, and a result that is an input.
  @Test func outputsThatShareValues() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [3])
    let constant = builder.weights([2])
    let y = try builder.node("Neg", [x])
    builder.output(y, x, constant, y)
    let input = sampleTensor([3], seed: 1)
    let pool = WorkerPool(threads: 1)
    let program = try Program(graph: builder.graph, registry: .standard, pool: pool)
    for _ in 0..<2 {
      let found = try program.run([.tensor(input)], on: pool).compactMap { $0.tensor?.elements(as: Float.self) }
      let plain = input.elements(as: Float.self)!
      let negated = plain.map { -$0 }
      #expect(found == [negated, plain, sampleTensor([2], seed: 1).elements(as: Float.self)!, negated])
    }
  }

  @Test func concurrentRunsDoNotDisturbEachOther() async throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 32])
    let product = try builder.node("MatMul", [x, builder.weights([32, 32])])
    builder.output(try builder.node("Tanh", [product]))
    let pool = WorkerPool(threads: 2)
    let program = try Program(graph: builder.graph, registry: .standard, pool: pool)
    let expected = try (0..<8).map {
      try program.run([.tensor(sampleTensor([$0 + 1, 32], seed: $0))], on: pool)[0].tensor!
    }
    try await withThrowingTaskGroup(of: Bool.self) { group in
      for worker in 0..<4 {
        group.addTask {
          try (0..<50).allSatisfy { round in
            let index = (round + worker) % 8
            let found = try program.run([.tensor(sampleTensor([index + 1, 32], seed: index))], on: pool)[0].tensor!
            return found.elements(as: Float.self) == expected[index].elements(as: Float.self)
          }
        }
      }
      for try await same in group { #expect(same) }
    }
  }
}

extension Double {
  /// e to the power of `self`, by its series: an oracle that shares nothing with the kernels.
  fileprivate var exponential: Float {
    var term = 1.0
    var sum = 1.0
    for n in 1..<40 {
      term *= self / Double(n)
      sum += term
    }
    return Float(sum)
  }
}
