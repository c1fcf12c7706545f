// Adaptive rounding: what it reports against runs of the float model with the weights in question, and what it keeps.

import ApusCompression
import ApusGraph
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct AdaptiveRoundingTests {
  private static let surroundings = RunSurroundings(pool: WorkerPool(threads: 2))

  /// A product, its weights, and the axis of its outputs.
  private struct Product: Sendable, CustomStringConvertible {
    var op: String
    var input: Shape
    var weights: Shape
    var axis: Int
    var attributes: [(String, AttributeValue)] = []
    var description: String { "\(op) \(weights) \(attributes.map(\.0))" }

    func graph(_ weights: Tensor) throws -> Graph {
      let builder = GraphBuilder()
      let x = builder.input("x", input.map { Dim($0) })
      let y = try builder.node(op, [x, builder.constant(weights.elements(as: Float.self)!, weights.shape)], attributes)
      builder.output(y)
      var graph = builder.graph
      graph.nameValues()
      return graph
    }
  }

  private static let products = [
    Product(op: "MatMul", input: [5, 24], weights: [24, 7], axis: 1),
    Product(op: "MatMul", input: [2, 3, 24], weights: [24, 7], axis: 1),
    Product(op: "Gemm", input: [5, 24], weights: [7, 24], axis: 0, attributes: [("transB", .int(1))]),
    Product(
      op: "Conv", input: [1, 4, 9, 8], weights: [6, 4, 3, 3], axis: 0, attributes: [("pads", .ints([1, 0, 1, 2]))]),
    Product(
      op: "Conv", input: [2, 6, 9, 8], weights: [4, 3, 3, 2], axis: 0,
      attributes: [("group", .int(2)), ("strides", .ints([2, 1])), ("dilations", .ints([1, 2]))]),
    Product(
      op: "Conv", input: [1, 5, 7, 7], weights: [5, 1, 3, 3], axis: 0,
      attributes: [("group", .int(5)), ("auto_pad", .string("SAME_UPPER"))]),
    Product(op: "Conv", input: [1, 6, 30], weights: [8, 6, 5], axis: 0),
  ]

  /// Samples whose channels hang together, as those of real layers do.
  private func samples(_ shape: Shape, count: Int) -> [[String: Tensor]] {
    (0..<count).map { index in
      let numbers = sampleTensor(shape, seed: 40 + index).elements(as: Float.self)!
      let mixed = numbers.indices.map { place in
        numbers[place] + 0.8 * numbers[(place + 1) % numbers.count] + 0.5 * numbers[(place + 5) % numbers.count] + 0.3
      }
      return ["x": Tensor(mixed, shape: shape)]
    }
  }

  private func weights(_ product: Product) -> Tensor { sampleTensor(product.weights, seed: 7) }

  private func quantized(
    _ graph: Graph, _ samples: [[String: Tensor]], _ change: (inout QuantizationOptions) -> Void = { _ in }
  ) throws -> QuantizedGraph {
    var options = QuantizationOptions()
    (options.weights, options.roundsAdaptively) = (.int4, true)
    change(&options)
    var quantizer = try GraphQuantizer(graph, options, in: Self.surroundings)
    let calibration = try quantizer.calibration()
    for sample in samples { try calibration.add(sample) }
    try quantizer.round(on: SampleList(samples)) { _ in }
    return try quantizer.quantized(.seen(calibration.statistics, channels: calibration.channels))
  }

  /// The ratio of signal to noise over samples, in decibels, of runs with both weights.
  private func decibels(
    _ product: Product, _ wanted: Tensor, _ found: Tensor, _ samples: [[String: Tensor]]
  ) throws -> Double {
    let runs = (
      try GraphRun(product.graph(wanted), in: Self.surroundings),
      try GraphRun(product.graph(found), in: Self.surroundings)
    )
    var (signal, noise) = (0.0, 0.0)
    for sample in samples {
      let x = try #require(try runs.0.outputs(for: sample, number: 1)[0].tensor?.elements(as: Float.self))
      let y = try #require(try runs.1.outputs(for: sample, number: 1)[0].tensor?.elements(as: Float.self))
      for (x, y) in zip(x, y) {
        signal += Double(x) * Double(x)
        noise += Double(x - y) * Double(x - y)
      }
    }
    return ApusCompression.decibels(signal: signal, noise: noise)
  }

  /// The weights that the product of a quantized graph reads.
  private func weights(in graph: Graph, of op: String) throws -> Tensor {
    var graph = graph
    let node = try #require(graph.nodes.first { $0.op == OperatorID(op) })
    graph.outputs = [try #require(node.inputs[1])]
    graph.outputDeclarations = []
    let inputs = graph.inputs.map { Value.tensor(sampleTensor(graph.fact($0).tensor!.concreteShape!, seed: 1)) }
    return try #require(GraphRun(graph, in: Self.surroundings).outputs(for: inputs)[0].tensor)
  }

  @Test(arguments: products) private func reportIsWhatRunsSay(_ product: Product) throws {
    let (given, samples) = (weights(product), samples(product.input, count: 8))
    let result = try quantized(product.graph(given), samples)
    let outcome = try #require(result.report.nodes[0].rounding)
    let judged = [samples[1], samples[5]]
    let nearest = WeightCodes(
      given.elements(as: Float.self)!, shape: given.shape, axis: product.axis, QuantizationOptions().with(.int4))
    let plain = try decibels(product, given, Tensor(nearest.numbers, shape: given.shape), judged)
    #expect(abs(outcome.nearestDecibels - plain) < 0.01)
    if outcome.isKept {
      let found = try decibels(product, given, try weights(in: result.graph, of: product.op), judged)
      #expect(abs(outcome.adaptiveDecibels - found) < 0.01 && found > plain)
    }
  }

  /// Where many samples hang together, most weights gain, on samples that nobody has seen too.
  @Test func newSamplesGain() throws {
    var gains: [Double] = []
    for product in Self.products {
      let (given, all) = (weights(product), samples(product.input, count: 40))
      let graph = try product.graph(given)
      let plain = try quantized(graph, Array(all.prefix(24))) { $0.roundsAdaptively = false }
      let better = try quantized(graph, Array(all.prefix(24)))
      #expect(plain.report.nodes[0].rounding == nil)
      let noise = try [plain, better].map { result in
        try decibels(product, given, try weights(in: result.graph, of: product.op), Array(all.suffix(16)))
      }
      #expect(noise[1] > noise[0] - 0.5, "\(product)")
      gains.append(noise[1] - noise[0])
    }
    #expect(gains.reduce(0, +) / Double(gains.count) > 1, "\(gains)")
  }

  @Test func everyFormOfWeights() throws {
    for product in [Self.products[0], Self.products[4]] {
      for type in [QuantizedType.int8, .uint8, .int4, .uint4] {
        for (isSymmetric, isPerChannel, target) in [
          (true, true, QuantizationOptions.Target.any), (false, true, .any), (true, false, .any), (true, true, .avx2),
        ] {
          let graph = try product.graph(weights(product))
          let result = try quantized(graph, samples(product.input, count: 8)) {
            ($0.weights, $0.hasSymmetricWeights, $0.isPerChannel, $0.target) = (type, isSymmetric, isPerChannel, target)
          }
          let outcome = try #require(result.report.nodes[0].rounding)
          let found = try weights(in: result.graph, of: product.op)
          let noise = try decibels(product, weights(product), found, samples(product.input, count: 8))
          #expect(noise > (type.bits == 8 ? 34 : 10) && outcome.adaptiveDecibels.isFinite, "\(product) \(type)")
        }
      }
    }
  }

  @Test func whatItIsNotForIsAnError() throws {
    let graph = try Self.products[0].graph(weights(Self.products[0]))
    let samples = samples(Self.products[0].input, count: 1)
    #expect(throws: CompressionError.self) { try quantized(graph, samples) }
    #expect(throws: CompressionError.self) { try quantized(graph, samples + samples) { $0.weights = .int16 } }
    #expect(throws: CompressionError.self) { try quantized(graph, samples + samples) { $0.method = .dynamic } }
  }
}

extension QuantizationOptions {
  fileprivate func with(_ type: QuantizedType) -> WeightCodes.Options {
    var options = self
    options.weights = type
    return options.weightOptions
  }
}
