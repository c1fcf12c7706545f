// Concat, Split and Slice without copies: which steps are left, and the same bits as with copies.

import ApusGraph
import ApusOperators
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct RegionJoiningTests {
  private func program(_ builder: GraphBuilder, _ pool: WorkerPool) throws -> Program {
    try Program(graph: builder.graph, registry: .standard, pool: pool)
  }

  /// Builds the same graph twice: as it is, and with every value as an output, so that none can lie in another. Runs
  /// both on all inputs and expects the same bits. Returns the plans of the first.
  @discardableResult
  private func expectSameBits(
    _ cases: [[Tensor]], threads: Int = 2, _ build: (GraphBuilder) throws -> Void
  ) throws -> [PlanReport] {
    let pool = WorkerPool(threads: threads)
    let (joined, apart) = (GraphBuilder(), GraphBuilder())
    try build(joined)
    try build(apart)
    let outputs = apart.graph.outputs
    for node in apart.graph.nodes {
      for case let output? in node.outputs where !outputs.contains(output) { apart.output(output) }
    }
    let (subject, oracle) = (try program(joined, pool), try program(apart, pool))
    for inputs in cases {
      let values = inputs.map { Value.tensor($0) }
      let found = try subject.run(values, on: pool).compactMap(\.tensor)
      let expected = try oracle.run(values, on: pool).compactMap(\.tensor)
      for (a, b) in zip(found, expected) {
        #expect(a.shape == b.shape)
        let isSame = a.withUnsafeBytes { x in b.withUnsafeBytes { y in x.elementsEqual(y) } }
        #expect(isSame, "\(inputs.map(\.shape))")
      }
    }
    return subject.planReports()
  }

  private func steps(_ plans: [PlanReport], _ name: String) -> [PlanReport.Step] {
    plans.flatMap(\.steps).filter { $0.op.name == name }
  }

  private func joining(_ axis: Int) -> [(String, AttributeValue)] { [("axis", .int(axis))] }

  // MARK: - One run of bytes

  @Test func partsAreMadeInTheirPlace() throws {
    let plans = try expectSameBits([[sampleTensor([1, 8, 5], seed: 1)]]) { builder in
      let x = builder.input("x", [1, 8, 5])
      let parts = [try builder.node("Exp", [x]), try builder.node("Neg", [x]), try builder.node("Sin", [x])]
      let joined = try builder.node("Concat", parts, joining(1))
      builder.output(try builder.node("Tanh", [joined]))
    }
    #expect(steps(plans, "Concat").isEmpty)
    #expect(plans[0].arenaBytes <= 3 * 192)
  }

  @Test func onlyWhatCannotLieThereIsCopied() throws {
    // An input of the graph, a constant, an output of the graph, and a value that stands there twice.
    let plans = try expectSameBits([[sampleTensor([4, 8], seed: 2)]]) { builder in
      let x = builder.input("x", [4, 8])
      let (a, b, c) = (try builder.node("Exp", [x]), try builder.node("Neg", [x]), try builder.node("Sin", [x]))
      builder.output(c)
      let parts = [x, a, builder.weights([2, 8]), b, c, b]
      builder.output(try builder.node("Tanh", [try builder.node("Concat", parts, joining(0))]))
    }
    let concat = try #require(steps(plans, "Concat").first)
    #expect(concat.kernel == "concat of 5 beside 1")
    #expect(concat.inputs[1] == "-")
  }

  @Test func concatsOfConcatsAreOne() throws {
    let plans = try expectSameBits([[sampleTensor([3, 16], seed: 3)]]) { builder in
      let x = builder.input("x", [3, 16])
      let (a, b, c) = (try builder.node("Exp", [x]), try builder.node("Neg", [x]), try builder.node("Sin", [x]))
      let inner = try builder.node("Concat", [a, b], joining(0))
      let outer = try builder.node("Concat", [c, inner], joining(0))
      // The parts are read after they were joined, too.
      builder.output(try builder.node("Tanh", [outer]), try builder.node("Abs", [b]))
    }
    #expect(steps(plans, "Concat").isEmpty)
  }

  @Test func aValueLiesInOneConcatAndIsCopiedToTheOther() throws {
    let plans = try expectSameBits([[sampleTensor([3, 16], seed: 4)]]) { builder in
      let x = builder.input("x", [3, 16])
      let (a, b, c) = (try builder.node("Exp", [x]), try builder.node("Neg", [x]), try builder.node("Sin", [x]))
      let first = try builder.node("Concat", [a, b], joining(0))
      let second = try builder.node("Concat", [b, c], joining(0))
      builder.output(try builder.node("Tanh", [first]), try builder.node("Tanh", [second]))
    }
    #expect(steps(plans, "Concat").map(\.kernel) == ["concat of 1 beside 1"])
  }

  @Test func viewsOfPartsFollowThem() throws {
    let plans = try expectSameBits([[sampleTensor([4, 6], seed: 5)]]) { builder in
      let x = builder.input("x", [4, 6])
      let a = try builder.node("Exp", [x])
      let flat = try builder.node("Reshape", [a, builder.constant([24] as [Int], [1])])
      let head = try builder.node(
        "Slice", [a, builder.constant([1] as [Int], [1]), builder.constant([3] as [Int], [1])])
      let b = try builder.node("Neg", [try builder.node("Reshape", [head, builder.constant([12] as [Int], [1])])])
      builder.output(try builder.node("Tanh", [try builder.node("Concat", [b, flat, flat], joining(0))]))
      builder.output(try builder.node("Sin", [try builder.node("Concat", [b, flat], joining(0))]))
    }
    #expect(steps(plans, "Concat").count == 1)
  }

  @Test func outputsOfTheGraphAreFilledByWhoMakesTheParts() throws {
    let plans = try expectSameBits([[sampleTensor([2, 9], seed: 6)]]) { builder in
      let x = builder.input("x", [2, 9])
      builder.output(
        try builder.node("Concat", [try builder.node("Exp", [x]), try builder.node("Neg", [x])], joining(0)))
    }
    #expect(steps(plans, "Concat").isEmpty)
    #expect(plans[0].arenaBytes == 0)
  }

  @Test func sizesOfOneSession() throws {
    let cases = [3, 1, 5, 0, 2, 7, 64, 3].map { [sampleTensor([1, $0, 4], seed: $0 + 1)] }
    try expectSameBits(cases) { builder in
      let x = builder.input("x", [1, .symbol("n"), 4])
      let (a, b) = (try builder.node("Exp", [x]), try builder.node("Neg", [x]))
      let tokens = try builder.node("Concat", [builder.weights([1, 1, 4]), a, b], joining(1))
      let wide = try builder.node("Concat", [tokens, tokens], joining(2))
      builder.output(try builder.node("MatMul", [wide, builder.weights([8, 3])]))
    }
  }

  // MARK: - Rows

  @Test func producersWriteRows() throws {
    let plans = try expectSameBits([[sampleTensor([6, 32], seed: 7)]]) { builder in
      let x = builder.input("x", [6, 32])
      let product = try builder.node("MatMul", [x, builder.weights([32, 48])])
      let sum = try builder.node("Add", [x, try builder.node("Exp", [x])])
      let joined = try builder.node("Concat", [product, try builder.node("Sin", [x]), sum], joining(1))
      builder.output(try builder.node("MatMul", [joined, builder.weights([112, 20])]))
    }
    #expect(steps(plans, "Concat").isEmpty)
    #expect(steps(plans, "Sin").first?.outputs.first?.hasSuffix("/32:112") ?? false)
  }

  @Test func concatsInRowsLieInOthers() throws {
    let plans = try expectSameBits([[sampleTensor([6, 32], seed: 8)]]) { builder in
      let x = builder.input("x", [6, 32])
      let (a, b, c) = (try builder.node("Exp", [x]), try builder.node("Neg", [x]), try builder.node("Sin", [x]))
      let inner = try builder.node("Concat", [a, b], joining(1))
      builder.output(try builder.node("Tanh", [try builder.node("Concat", [c, inner], joining(1))]))
    }
    #expect(steps(plans, "Concat").isEmpty)
    #expect(steps(plans, "Exp").first?.outputs.first?.hasSuffix("/32:96") ?? false)
  }

  @Test func readersOfSplitsReadRows() throws {
    let cases = [2, 5, 1, 3, 9].map { [sampleTensor([2, $0, 96], seed: $0)] }
    let plans = try expectSameBits(cases) { builder in
      let x = builder.input("x", [2, .symbol("n"), 96])
      let all = try builder.node("MatMul", [x, builder.weights([96, 96])])
      let parts = try builder.apply(
        OperatorID("Split"), name: "split", [all, builder.constant([32, 32, 32] as [Int], [3])], joining(2),
        outputCount: 3)
      let heads = try builder.node("Reshape", [parts[0], builder.constant([0, 0, 2, 16] as [Int], [4])])
      let turned = try builder.node("Transpose", [heads], [("perm", .ints([0, 2, 1, 3]))])
      let sum = try builder.node("Add", [parts[1], parts[2]])
      builder.output(turned, try builder.node("MatMul", [sum, builder.weights([32, 7])]))
    }
    // The heads of one token are turned without a copy, so that an output of the graph would lie in the product.
    #expect(steps(plans, "Split").map(\.cost.bytes) == [2 * 2 * 32 * 4])
    #expect(steps(plans, "Add").first?.inputs.allSatisfy { $0.hasSuffix("/32:96") } ?? false)
  }

  @Test func slicesOfRowsAreRead() throws {
    let plans = try expectSameBits([[sampleTensor([3, 4, 64], seed: 9)]]) { builder in
      let x = builder.input("x", [3, 4, 64])
      func slice(_ from: Int, _ to: Int) throws -> ValueID {
        func bound(_ value: Int) -> ValueID { builder.constant([value] as [Int], [1]) }
        return try builder.node("Slice", [all, bound(from), bound(to), bound(2)])
      }
      let all = try builder.node("Exp", [x])
      let turned = try builder.node("Concat", [try builder.node("Neg", [slice(32, 64)]), slice(0, 32)], joining(2))
      builder.output(try builder.node("Add", [turned, all]))
    }
    #expect(steps(plans, "Slice").isEmpty)
  }

  @Test func whoCannotReadRowsGetsACopy() throws {
    let plans = try expectSameBits([[sampleTensor([4, 64], seed: 10)]]) { builder in
      let x = builder.input("x", [4, 64])
      let all = try builder.node("Exp", [x])
      let parts = try builder.apply(
        OperatorID("Split"), name: "split", [all], joining(1) + [("num_outputs", .int(2))], outputCount: 2)
      builder.output(try builder.node("Softmax", [parts[0]]), try builder.node("Neg", [parts[1]]))
    }
    #expect(steps(plans, "Split").count == 1)
    #expect(steps(plans, "Neg").first?.inputs.first?.hasSuffix("/32:64") ?? false)
  }

  @Test func attentionReadsQueriesKeysAndValuesOfOneProduct() throws {
    let cases = [3, 7, 1, 4].map { [sampleTensor([2, $0, 96], seed: $0)] }
    let plans = try expectSameBits(cases) { builder in
      let x = builder.input("x", [2, .symbol("n"), 96])
      let all = try builder.node("MatMul", [x, builder.weights([96, 96])])
      let parts = try builder.apply(
        OperatorID("Split"), name: "split", [all, builder.constant([32, 32, 32] as [Int], [3])], joining(2),
        outputCount: 3)
      let heads: [(String, AttributeValue)] = [("q_num_heads", .int(2)), ("kv_num_heads", .int(2))]
      let seen = try builder.node("Attention", parts, heads)
      builder.output(try builder.node("Concat", [seen, try builder.node("Exp", [seen])], joining(2)))
    }
    #expect(steps(plans, "Split").isEmpty)
    #expect(steps(plans, "Attention").first?.inputs.allSatisfy { $0.hasSuffix("/32:96") } ?? false)
  }

  @Test func transposedConvolutionsWriteRows() throws {
    // So many channels that the sums are matrix products.
    let plans = try expectSameBits([[sampleTensor([2, 4, 5, 64], seed: 12)]]) { builder in
      let x = builder.input("x", [2, 4, 5, 64])
      let strides: [(String, AttributeValue)] = [("strides", .ints([2, 2]))]
      func wider(_ x: ValueID, _ outputs: Int) throws -> ValueID {
        try builder.node("ConvTranspose", [x, builder.weights([64, outputs, 2, 2])], strides, domain: "apus")
      }
      let joined = try builder.node("Concat", [try wider(x, 96), try wider(x, 64)], joining(3))
      builder.output(try builder.node("Tanh", [joined]))
    }
    #expect(steps(plans, "Concat").isEmpty)
  }

  @Test func imagesWithChannelsLast() throws {
    let plans = try expectSameBits([[sampleTensor([2, 7, 9, 32], seed: 11)]]) { builder in
      let x = builder.input("x", [2, 7, 9, 32])
      func convolution(_ x: ValueID, _ weights: Shape, pad: Int, group: Int = 1) throws -> ValueID {
        try builder.node(
          "Conv", [x, builder.weights(weights)], [("pads", .ints([pad, pad, pad, pad])), ("group", .int(group))],
          domain: "apus")
      }
      let window: [(String, AttributeValue)] = [("kernel_shape", .ints([3, 3])), ("pads", .ints([1, 1, 1, 1]))]
      let a = try convolution(x, [24, 32, 1, 1], pad: 0)
      let b = try convolution(x, [20, 32, 3, 3], pad: 1)
      let c = try convolution(x, [32, 1, 3, 3], pad: 1, group: 32)
      let d = try builder.node("MaxPool", [x], window, domain: "apus")
      let joined = try builder.node("Concat", [a, b, c, d], joining(3))
      let parts = try builder.apply(
        OperatorID("Split"), name: "split",
        [try builder.node("Relu", [joined]), builder.constant([32, 76] as [Int], [2])],
        joining(3), outputCount: 2)
      let e = try convolution(parts[0], [16, 32, 3, 3], pad: 1)
      let f = try builder.node("AveragePool", [parts[1]], window, domain: "apus")
      builder.output(e, f, try builder.node("GlobalAveragePool", [parts[1]], domain: "apus"))
    }
    #expect(steps(plans, "Concat").isEmpty)
    #expect(steps(plans, "Split").isEmpty)
  }

  /// As of detectors: an image made larger beside another one, read by a convolution.
  @Test func imagesMadeLarger() throws {
    let plans = try expectSameBits([[sampleTensor([1, 6, 5, 32], seed: 12)]]) { builder in
      let x = builder.input("x", [1, 6, 5, 32])
      func convolution(_ x: ValueID, _ channels: Int, of inputs: Int, stride: Int = 1) throws -> ValueID {
        try builder.node(
          "Conv", [x, builder.weights([channels, inputs, 1, 1])], [("strides", .ints([stride, stride]))],
          domain: "apus")
      }
      let small = try convolution(x, 24, of: 32, stride: 2)
      let large = try builder.node(
        "Resize", [small, nil, nil, builder.constant([1, 6, 5, 24], [4])],
        [("nearest_mode", .string("floor")), ("coordinate_transformation_mode", .string("asymmetric"))])
      let joined = try builder.node("Concat", [large, try convolution(x, 32, of: 32)], joining(3))
      builder.output(try convolution(joined, 16, of: 56))
    }
    #expect(steps(plans, "Concat").isEmpty)
  }
}
