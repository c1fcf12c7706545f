// Graphs whose weights are kept in few bits compute what their codes say, and report what that costs.

import ApusCompression
import ApusGraph
import ApusOperators
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct WeightQuantizerTests {
  private let surroundings = RunSurroundings(pool: WorkerPool(threads: 2))

  private func outputs(_ graph: Graph, _ inputs: [Tensor]) throws -> [Tensor] {
    try GraphRun(graph, in: surroundings).outputs(for: inputs.map { .tensor($0) }).compactMap(\.tensor)
  }

  private func samples(_ shape: Shape, count: Int = 8) -> SampleList {
    SampleList((0..<count).map { ["x": sampleTensor(shape, seed: $0 + 100)] })
  }

  /// Samples that count how often they are gone through, and make each when it is wanted.
  private final class CountedSamples: CalibrationData {
    private(set) var passes = 0
    private let shape: Shape
    init(_ shape: Shape) { self.shape = shape }

    func forEachSample(_ body: ([String: Tensor]) throws -> Void) throws {
      passes += 1
      for index in 0..<8 { try body(["x": sampleTensor(shape, seed: index + 100)]) }
    }
  }

  private func options(_ change: (inout WeightQuantizationOptions) -> Void = { _ in }) -> WeightQuantizationOptions {
    var options = WeightQuantizationOptions()
    options.minimumElements = 0
    change(&options)
    return options
  }

  private func decibels(_ reference: Tensor, _ found: Tensor) -> Double {
    guard let a = reference.elements(as: Float.self), let b = found.elements(as: Float.self), a.count == b.count else {
      return -.infinity
    }
    let signal = a.reduce(0.0) { $0 + Double($1) * Double($1) }
    let noise = zip(a, b).reduce(0.0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
    return ApusCompression.decibels(signal: signal, noise: noise)
  }

  /// A product and a Gemm with a bias, the second of a depth that is no multiple of a block.
  private func network() throws -> Graph {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 64])
    let y = try builder.node("Relu", [try builder.node("MatMul", [x, builder.weights([64, 45])])])
    let z = try builder.node("Gemm", [y, builder.weights([24, 45]), builder.weights([24])], [("transB", .int(1))])
    builder.output(z)
    return builder.graph
  }

  @Test(arguments: WeightQuantizationOptions.Format.allCases, WeightQuantizationOptions.ElementType.allCases)
  func everyTypeInEveryForm(
    _ format: WeightQuantizationOptions.Format, _ type: WeightQuantizationOptions.ElementType
  ) throws {
    let (graph, x) = (try network(), sampleTensor([5, 64], seed: 1))
    let expected = try outputs(graph, [x])[0]
    for (block, zeroPoints) in [(16, true), (32, false), (nil, true), (128, nil)] as [(Int?, Bool?)] {
      var result = graph
      let report = try WeightQuantizer(
        options { ($0.type, $0.format, $0.blockSize, $0.usesZeroPoints) = (type, format, block, zeroPoints) },
        in: surroundings
      ).quantize(&result, samples: samples([4, 64]))
      #expect(report.weights.count == 2 && report.kept.isEmpty)
      let least: Double = [2: 1, 4: 15, 8: 38][type.bits]!
      for weight in report.weights {
        #expect(weight.signalToNoise > least && weight.outputSignalToNoise ?? 0 > least)
      }
      let found = try outputs(result, [x])[0]
      let bound = (report.weights.compactMap(\.outputSignalToNoise).min() ?? 0) - 6
      #expect(decibels(expected, found) > bound, "\(format) \(type) \(block ?? 0)")
    }
  }

  /// Floats that stay for another node are not doubled by codes.
  @Test func weightsThatAnotherNodeNeedsStay() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [2, 64])
    let weights = builder.weights([64, 64])
    let y = try builder.node("MatMul", [x, weights])
    builder.output(try builder.node("Gemm", [y, weights], [("alpha", .float(0.5))]))
    builder.output(try builder.node("MatMul", [x, builder.weights([64, 48])]))
    var result = builder.graph
    let report = try WeightQuantizer(options { $0.type = .int8 }, in: surroundings).quantize(&result, samples: nil)
    #expect(report.weights.count == 1 && report.kept.contains { $0.reason.contains("needs its floats") })
    #expect(result.constantByteCount < builder.graph.constantByteCount)
  }

  /// What the codes say, computed by hand.
  @Test func codesAreReadAsTheyWereMade() throws {
    for (k, n, block) in [(64, 8, 32), (45, 6, 16), (20, 3, 32), (130, 5, 128)] {
      let builder = GraphBuilder()
      let x = builder.input("x", [2, Dim(k)])
      builder.output(try builder.node("MatMul", [x, builder.weights([k, n])]))
      let rows = (builder.graph.values[1].constant?.elements(as: Float.self) ?? [])
      let turned = (0..<n * k).map { rows[($0 % k) * n + $0 / k] }
      let grid = WeightGrid(rows: n, depth: k, bits: 4, block: block, hasZeroPoints: true)
      let numbers = QuantizedMatrix(nearest: turned, grid, on: surroundings.pool).dequantized()
      let input = sampleTensor([2, k], seed: 5)
      let a = input.elements(as: Float.self) ?? []
      let expected = Tensor(
        (0..<2 * n).map { index -> Float in
          Float((0..<k).reduce(0.0) { $0 + Double(a[index / n * k + $1]) * Double(numbers[index % n * k + $1]) })
        }, shape: [2, n])
      for format in WeightQuantizationOptions.Format.allCases {
        var graph = builder.graph
        _ = try WeightQuantizer(options { ($0.format, $0.blockSize) = (format, block) }, in: surroundings)
          .quantize(&graph)
        #expect(try largestDifference(outputs(graph, [input])[0], expected) < 1e-4, "\(format) \(k)×\(n)")
      }
    }
  }

  @Test func methodsThatGoByActivationsLeaveLess() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 96])
    let scale = builder.constant((0..<96).map { Float($0 % 12 == 0 ? 6 : 0.3) }, [96])
    let h = try builder.node("Mul", [x, scale])
    builder.output(try builder.node("MatMul", [h, builder.weights([96, 64])]))
    let input = sampleTensor([40, 96], seed: 9)
    let expected = try outputs(builder.graph, [input])[0]
    var found: [WeightQuantizationOptions.Method: Double] = [:]
    for method in WeightQuantizationOptions.Method.allCases {
      var graph = builder.graph
      let report = try WeightQuantizer(options { $0.method = method }, in: surroundings)
        .quantize(&graph, samples: method.wantsSamples ? samples([32, 96]) : nil)
      #expect(report.weights[0].method == method.rawValue)
      found[method] = decibels(expected, try outputs(graph, [input])[0])
    }
    let nearest = try #require(found[.roundToNearest])
    #expect(found[.compensated]! > nearest + 2)
    #expect(found[.activationAware]! > nearest + 3)
    #expect(found[.halfQuadratic]! > nearest - 1)
  }

  /// Passes may find that two outputs are one value.
  @Test func outputsKeepTheirNames() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [2, 64])
    let product = try builder.node("MatMul", [x, builder.weights([64, 64])])
    builder.output(product)
    builder.output(try builder.node("Concat", [product], [("axis", .int(0))]))
    var graph = builder.graph
    graph.nameValues()
    let names = graph.outputs.map { graph[$0].name }
    _ = try WeightQuantizer(options(), in: surroundings).quantize(&graph)
    #expect(graph.outputs.map { graph[$0].name } == names && Set(graph.outputs).count == 2)
  }

  @Test func tiedTablesStayOne() throws {
    let builder = GraphBuilder()
    let ids = builder.input("ids", [.symbol("n")], .int64)
    let table = builder.weights([50, 64])
    let rows = try builder.node("Gather", [table, ids])
    let turned = try builder.node("Transpose", [table], [("perm", .ints([1, 0]))])
    builder.output(try builder.node("MatMul", [rows, turned]), rows)
    let input = Tensor([3, 49, 0, 3])
    let expected = try outputs(builder.graph, [input])
    for format in WeightQuantizationOptions.Format.allCases {
      var graph = builder.graph
      let report = try WeightQuantizer(options { ($0.format, $0.type) = (format, .int8) }, in: surroundings)
        .quantize(&graph)
      #expect(report.weights.count == 1 && report.weights[0].nodes.count == 2)
      let codes = graph.values.compactMap(\.constant).filter { $0.dataType.bits == 8 && $0.count >= 50 * 64 }
      #expect(Set(codes.map { ObjectIdentifier($0.storage) }).count == 1)
      for (found, wanted) in zip(try outputs(graph, [input]), expected) {
        #expect(found.shape == wanted.shape && decibels(wanted, found) > 35)
      }
    }
  }

  @Test func weightsInsideGraphs() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [3, 32])
    let condition = builder.input("c", [], .bool)
    let weights = builder.weights([32, 16])
    let branches = try [true, false].map { isThen -> Subgraph in
      let inner = GraphBuilder(name: "branch", inference: builder.inference, parent: builder)
      let product = try inner.node(
        "MatMul", [inner.importing(x, of: builder), inner.importing(weights, of: builder)])
      inner.output(isThen ? product : try inner.node("Neg", [product]))
      return inner.subgraph
    }
    builder.output(
      try builder.node("If", [condition], [("then_branch", .graph(branches[0])), ("else_branch", .graph(branches[1]))]))
    var graph = builder.graph
    let report = try WeightQuantizer(options { $0.type = .int8 }, in: surroundings).quantize(&graph)
    #expect(report.weights.count == 1 && report.weights[0].nodes.count == 2)
    let input = sampleTensor([3, 32], seed: 2)
    for choice in [true, false] {
      let expected = try outputs(builder.graph, [input, Tensor(scalar: choice)])[0]
      #expect(try decibels(expected, outputs(graph, [input, Tensor(scalar: choice)])[0]) > 35)
    }
  }

  @Test func whatStaysFloatSaysWhy() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [2, 32])
    let small = try builder.node("MatMul", [x, builder.weights([32, 4])])
    let batch = try builder.node("MatMul", [x, builder.weights([2, 32, 8])])
    let left = try builder.node("MatMul", [builder.weights([300, 2]), x])
    let scaled = try builder.node("Gemm", [x, builder.weights([32, 64])], [("alpha", .float(2))])
    let fine = try builder.node("MatMul", [x, builder.weights([32, 64])])
    builder.output(small, batch, left, scaled, fine)
    var graph = builder.graph
    let report = try WeightQuantizer(options { $0.minimumElements = 512 }, in: surroundings).quantize(&graph)
    #expect(report.weights.count == 1)
    let reasons = report.kept.map(\.reason).joined(separator: "\n")
    for word in ["fewer than 512", "3 axes", "left factor", "alpha"] { #expect(reasons.contains(word), "\(word)") }
    var unchanged = builder.graph
    #expect(throws: CompressionError.self) {
      try WeightQuantizer(options { $0.exclude = ["*"] }, in: surroundings).quantize(&unchanged)
    }
    #expect(unchanged.nodes.count == builder.graph.nodes.count)
  }

  /// Of samples nothing is kept: where there is no room for all sums they are gone through again, for the same codes.
  @Test func littleMemoryTakesMorePasses() throws {
    let graph = try network()
    var found: [(passes: Int, outputs: [Tensor])] = []
    for memory in [2 << 30, 64 * 64 * 8] {
      let samples = CountedSamples([4, 64])
      var copy = graph
      _ = try WeightQuantizer(
        options {
          $0.method = .compensated
          $0.statisticsMemory = memory
        }, in: surroundings
      ).quantize(&copy, samples: samples)
      found.append((samples.passes, try outputs(copy, [sampleTensor([4, 64], seed: 1)])))
    }
    #expect(found[0].passes == 1 && found[1].passes > 1)
    let numbers = found.map { $0.outputs.map { $0.elements(as: Float.self) } }
    #expect(numbers[0] == numbers[1])
  }

  /// All that the work holds is charged, and credited when it is done; what does not fit is an error.
  @Test func memoryIsBounded() throws {
    for (limit, isEnough) in [(64 << 20, true), (10_000, false)] {
      var bounded = surroundings
      let account = MemoryAccount(limit: limit, name: "test")
      bounded.memory = account
      var copy = try network()
      do {
        _ = try WeightQuantizer(options { $0.method = .compensated }, in: bounded)
          .quantize(&copy, samples: samples([4, 64]))
        #expect(isEnough)
      } catch let error as CompressionError {
        #expect(!isEnough && error.code == .limitExceeded)
      }
      #expect(account.inUse == 0)
    }
  }

  @Test func badRequestsAreErrors() throws {
    let graph = try network()
    func code(
      _ samples: SampleList?, _ change: (inout WeightQuantizationOptions) -> Void
    ) -> CompressionError.Code? {
      var copy = graph
      let error = #expect(throws: CompressionError.self) {
        try WeightQuantizer(options(change), in: surroundings).quantize(&copy, samples: samples)
      }
      return error?.code
    }
    #expect(code(nil) { $0.blockSize = 24 } == .invalidOption)
    #expect(code(nil) { $0.method = .compensated } == .invalidOption)
    #expect(code(nil) { $0.damping = .nan } == .invalidOption)
    #expect(code(samples([4, 64], count: 0)) { $0.method = .compensated } == .invalidSample)
    let broken = SampleList([["x": Tensor([Float](repeating: .nan, count: 64), shape: [1, 64])]])
    #expect(code(broken) { $0.method = .compensated } == .invalidSample)
    #expect(code(samples([4, 63])) { $0.method = .compensated } == .invalidSample)
    #expect(code(SampleList([[:]])) { $0.method = .compensated } == .invalidSample)
    #expect(code(nil) { $0.include = ["MatNul"] } == .invalidOption)
    #expect(code(nil) { $0.exclude = ["nobody"] } == .invalidOption)
    #expect(code(nil) { $0.types = [("Gathre", .int8)] } == .invalidOption)
    let builder = GraphBuilder()
    let x = builder.input("x", [1, 2])
    builder.output(try builder.node("MatMul", [x, builder.constant([Float.nan, 1, 2, 3], [2, 2])]))
    var copy = builder.graph
    #expect(throws: CompressionError.self) { try WeightQuantizer(options(), in: surroundings).quantize(&copy) }
  }

  /// Products of random ranks and forms: the result is no further from the original than the report predicts.
  @Test func randomGraphs() throws {
    var random = TestRandom(seed: 77)
    for round in 0..<drawnCases(40) {
      let builder = GraphBuilder()
      var depth = 17 + random.below(80)
      let leading = random.below(3)
      let x = builder.input("x", (0..<leading).map { _ in Dim(1 + random.below(3)) } + [4, Dim(depth)])
      var value = x
      for _ in 0...random.below(3) {
        let width = 16 + random.below(70)
        let isTurned = random.below(2) == 0
        let weights = builder.weights(isTurned ? [width, depth] : [depth, width])
        if leading == 0, random.below(2) == 0 {
          value = try builder.node(
            "Gemm", [value, weights, random.below(2) == 0 ? builder.weights([width]) : builder.weights([1])],
            [("transB", .int(isTurned ? 1 : 0))])
        } else {
          let factor = isTurned ? try builder.node("Transpose", [weights], [("perm", .ints([1, 0]))]) : weights
          value = try builder.node("MatMul", [value, factor])
        }
        depth = width
      }
      builder.output(value)
      let shape = try #require(builder.graph.fact(x).tensor?.concreteShape)
      let method = WeightQuantizationOptions.Method.allCases[random.below(4)]
      var graph = builder.graph
      let report = try WeightQuantizer(
        options {
          ($0.method, $0.format) = (method, random.below(2) == 0 ? .microsoft : .standard)
          $0.blockSize = [16, 32, 64, nil][random.below(4)]
          $0.type = [.int4, .uint4, .int8][random.below(3)]
        }, in: surroundings
      ).quantize(&graph, samples: samples(shape, count: 24))
      let input = sampleTensor(shape, seed: 100)
      // Noises of layers add up, and one sample may be worse than all.
      let noise = report.weights.reduce(0.0) { $0 + pow10(-($1.outputSignalToNoise ?? $1.signalToNoise) / 10) }
      let found = decibels(try outputs(builder.graph, [input])[0], try outputs(graph, [input])[0])
      #expect(found > ApusCompression.decibels(signal: 1, noise: noise) - 8, "round \(round), \(method)")
    }
  }

  private func pow10(_ exponent: Double) -> Double {
    var (result, step) = (1.0, exponent < 0 ? 0.1 : 10.0)
    var rest = abs(exponent)
    while rest >= 1 {
      result *= step
      rest -= 1
    }
    // Sixteen square roots are digits enough.
    var part = 0.5
    for _ in 0..<16 {
      step = step.squareRoot()
      if rest >= part {
        result *= step
        rest -= part
      }
      part /= 2
    }
    return result
  }
}
