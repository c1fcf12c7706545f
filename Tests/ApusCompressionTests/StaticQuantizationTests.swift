// Graphs on integers: which nodes and values take part, and that what they compute stays near to the floats.

import ApusCompression
import ApusGraph
import ApusOperators
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct StaticQuantizationTests {
  private static let surroundings = RunSurroundings(pool: WorkerPool(threads: 2))

  private struct Outcome {
    let graph: Graph
    let report: QuantizationReport
    /// Of the outputs, in decibels.
    let decibels: Double
    let ops: [String]
  }

  /// Calibrates with some samples and quantizes.
  private func quantize(
    _ graph: Graph, _ options: QuantizationOptions = QuantizationOptions(), shapes: [Shape], samples: Int = 3
  ) throws -> Outcome {
    var graph = graph
    graph.nameValues()
    let list = (0..<samples).map { index in
      Dictionary(
        uniqueKeysWithValues: graph.inputs.enumerated().map { position, input in
          (graph[input].name, sampleTensor(shapes[position], seed: 100 * index + position + 1))
        })
    }
    var quantizer = try GraphQuantizer(graph, options, in: StaticQuantizationTests.surroundings)
    if options.smoothing != nil {
      let channels = try quantizer.smoothingCalibration()
      for sample in list { try channels.add(sample) }
      try quantizer.smooth(channels.channels)
    }
    let calibration = try quantizer.calibration()
    for sample in list { try calibration.add(sample) }
    var result = try quantizer.quantized(.seen(calibration.statistics, channels: calibration.channels))
    try quantizer.measure(&result, on: SampleList(list), samples: samples)
    #expect(result.graph.outputs.map { result.graph[$0].name } == graph.outputs.map { graph[$0].name })
    let reference = try ReferenceOutputs(
      of: graph, on: SampleList(list), count: samples, in: StaticQuantizationTests.surroundings)
    return Outcome(
      graph: result.graph, report: result.report, decibels: try reference.decibels(of: result.graph),
      ops: result.graph.nodes.map { $0.op.name })
  }

  private func convolution(
    _ builder: GraphBuilder, _ x: ValueID, _ outputs: Int, _ inputs: Int, group: Int = 1, bias: Bool = true
  ) throws -> ValueID {
    let weights = builder.weights([outputs, inputs / group, 3, 3])
    return try builder.node(
      "Conv", [x, weights] + (bias ? [builder.weights([outputs])] : []),
      [("pads", .ints([1, 1, 1, 1])), ("group", .int(group))])
  }

  // MARK: - Structure

  @Test func aResidualBlockIsIntegersThroughout() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 4, 6, 6])
    let a = try builder.node("Relu", [try convolution(builder, x, 8, 4)])
    let b = try builder.node("Relu", [try convolution(builder, a, 8, 8)])
    let c = try convolution(builder, b, 8, 8)
    let sum = try builder.node("Relu", [try builder.node("Add", [c, a])])
    let pooled = try builder.node("MaxPool", [sum], [("kernel_shape", .ints([2, 2])), ("strides", .ints([2, 2]))])
    builder.output(try convolution(builder, pooled, 3, 8))
    let outcome = try quantize(builder.graph, shapes: [[2, 4, 6, 6]])
    // Integers that cannot be below zero need no Relu.
    #expect(!outcome.ops.contains("Relu"), "\(outcome.ops)")
    // x, a, b, c, sum, pooled and the output.
    #expect(outcome.ops.count { $0 == "QuantizeLinear" } == 7, "\(outcome.ops)")
    #expect(outcome.report.nodes.count == 4 && outcome.report.kept.isEmpty)
    #expect(outcome.decibels > 28, "\(outcome.decibels)")
    let codes = Dictionary(uniqueKeysWithValues: outcome.report.tensors.map { ($0.name, $0.scale) })
    let names = [sum, pooled].map { id in
      var graph = builder.graph
      graph.nameValues()
      return graph[id].name
    }
    #expect(codes[names[0]] == codes[names[1]], "a pool keeps the code")
  }

  @Test func matricesLeaveFloatsWhereFloatsAreWanted() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 16])
    let hidden = try builder.node("MatMul", [x, builder.weights([16, 32])])
    let biased = try builder.node("Add", [hidden, builder.weights([32])])
    let y = try builder.node("MatMul", [try builder.node("Tanh", [biased]), builder.weights([32, 5])])
    builder.output(try builder.node("Softmax", [y]))
    let outcome = try quantize(builder.graph, shapes: [[7, 16]])
    #expect(outcome.ops.count { $0 == "QuantizeLinear" } == 2, "\(outcome.ops)")
    #expect(outcome.decibels > 30)
  }

  @Test func aFunctionOfOneValueIsQuantizedOnce() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [1, 4, 6, 6])
    let a = try convolution(builder, x, 4, 4)
    let silu = try builder.node("Mul", [a, try builder.node("Sigmoid", [a])])
    builder.output(try convolution(builder, silu, 4, 4))
    let outcome = try quantize(builder.graph, shapes: [[1, 4, 6, 6]])
    // x, a, silu and the output: not what Sigmoid gives.
    #expect(outcome.ops.count { $0 == "QuantizeLinear" } == 4, "\(outcome.ops)")
  }

  @Test func outputsInTheMiddleKeepTheirNames() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [1, 4, 6, 6])
    let a = try builder.node("Relu", [try convolution(builder, x, 4, 4)])
    builder.output(a, try convolution(builder, a, 4, 4))
    let outcome = try quantize(builder.graph, shapes: [[1, 4, 6, 6]])
    #expect(outcome.report.outputs.count == 2 && outcome.decibels > 28)
  }

  @Test func selectionAndOverridesAreObeyed() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [1, 4, 6, 6])
    let a = try builder.node("Relu", [try convolution(builder, x, 4, 4)])
    builder.output(try convolution(builder, a, 4, 4))
    var graph = builder.graph
    graph.nameValues()
    var options = QuantizationOptions()
    options.selection.excluded = [graph.nodes[0].name]
    let partly = try quantize(graph, options, shapes: [[1, 4, 6, 6]])
    #expect(partly.report.nodes.count == 1 && partly.report.kept.first?.name == graph.nodes[0].name)
    options = QuantizationOptions()
    var override = TensorOverride()
    (override.low, override.high, override.type) = (0, 100, .int16)
    options.overrides = [graph[a].name: override]
    let ranged = try quantize(graph, options, shapes: [[1, 4, 6, 6]])
    let coded = try #require(ranged.report.tensors.first { $0.name == graph[a].name })
    #expect(coded.type == .int16 && abs(coded.scale * 65_535 - 100) < 1e-3)
    options.overrides = ["nothing": override]
    #expect(throws: CompressionError.self) { try quantize(graph, options, shapes: [[1, 4, 6, 6]]) }
    options.overrides = [:]
    options.selection.included = ["Covn"]
    #expect(throws: CompressionError.self) { try quantize(graph, options, shapes: [[1, 4, 6, 6]]) }
  }

  @Test func nothingToDoIsAnError() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [4, 4])
    builder.output(try builder.node("MatMul", [x, x]))
    let error = #expect(throws: CompressionError.self) { try quantize(builder.graph, shapes: [[4, 4]]) }
    #expect(error?.code == .nothingToDo && error?.message.contains("MatMul") ?? false)
  }

  // MARK: - Numbers

  /// Large biases beside tiny weights, zero weights.
  @Test func extremeChannelsStayFinite() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [1, 2, 4, 4])
    var weights = [Float](repeating: 0.5, count: 3 * 2 * 9)
    for index in 0..<18 { weights[index] = 1e-20 }
    for index in 18..<36 { weights[index] = 0 }
    let y = try builder.node(
      "Conv", [x, builder.constant(weights, [3, 2, 3, 3]), builder.constant([1000, -3, 0.25] as [Float], [3])],
      [("pads", .ints([1, 1, 1, 1]))])
    builder.output(y)
    let outcome = try quantize(builder.graph, shapes: [[1, 2, 4, 4]])
    #expect(outcome.decibels > 30, "\(outcome.decibels)")
  }

  /// Of a value that was always 0 nobody knows the range, and infinite weights have none.
  @Test func whatHasNoRangeStaysFloat() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [1, 2, 4, 4])
    let none = try builder.node("Mul", [x, builder.constant([0 as Float], [])])
    builder.output(try convolution(builder, none, 2, 2))
    var error = #expect(throws: CompressionError.self) { try quantize(builder.graph, shapes: [[1, 2, 4, 4]]) }
    #expect(error?.message.contains("was 0 in all samples") ?? false)
    builder.output(try convolution(builder, x, 2, 2))
    let outcome = try quantize(builder.graph, shapes: [[1, 2, 4, 4]])
    #expect(outcome.report.nodes.count == 1 && outcome.report.kept.first?.reason.contains("was 0") ?? false)

    let infinite = GraphBuilder()
    let input = infinite.input("x", [2, 2])
    infinite.output(try infinite.node("MatMul", [input, infinite.constant([1, 2, .infinity, 3] as [Float], [2, 2])]))
    error = #expect(throws: CompressionError.self) { try quantize(infinite.graph, shapes: [[2, 2]]) }
    #expect(error?.message.contains("not finite") ?? false)
    var graph = infinite.graph
    graph.nameValues()
    let quantizer = try GraphQuantizer(graph, QuantizationOptions(), in: StaticQuantizationTests.surroundings)
    error = #expect(throws: CompressionError.self) { _ = try quantizer.quantized(.found) }
    #expect(error?.message.contains("not finite") ?? false)
  }

  /// The outputs of all groups share scales, and each has a bias of its own.
  @Test func transposedConvolutionsInGroupsHaveBiases() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [1, 4, 5, 5])
    let y = try builder.node(
      "ConvTranspose", [x, builder.weights([4, 2, 2, 2]), builder.weights([4])],
      [("strides", .ints([2, 2])), ("group", .int(2))])
    builder.output(y)
    let outcome = try quantize(builder.graph, shapes: [[1, 4, 5, 5]])
    #expect(outcome.decibels > 30 && outcome.graph.nodes.contains { $0.name.hasSuffix("/bias") })
  }

  /// onnxruntime takes no scales by channel for batches of matrices.
  @Test func batchesOfMatricesHaveOneScale() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [3, 2, 8])
    let y = try builder.node("MatMul", [x, builder.weights([3, 8, 8])])
    builder.output(try builder.node("MatMul", [y, builder.weights([8, 4])]))
    let outcome = try quantize(builder.graph, shapes: [[3, 2, 8]])
    let axes = outcome.graph.nodes.compactMap { $0.attributes.int("axis") }
    #expect(axes == [1] && outcome.report.nodes.count == 2 && outcome.decibels > 30)
  }

  /// What is on integers already is left alone, and said to be.
  @Test func integersAreNotQuantizedAgain() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [1, 4, 6, 6])
    builder.output(try convolution(builder, try builder.node("Relu", [try convolution(builder, x, 4, 4)]), 4, 4))
    let once = try quantize(builder.graph, shapes: [[1, 4, 6, 6]])
    let error = #expect(throws: CompressionError.self) { try quantize(once.graph, shapes: [[1, 4, 6, 6]]) }
    #expect(error?.code == .nothingToDo && error?.message.contains("already") ?? false, "\(error?.message ?? "")")
  }

  /// A table of words whose transpose gives their scores: the scores become integers, the table stays.
  @Test(arguments: [false, true]) func tiedTables(_ isDynamic: Bool) throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [3, 2, 8])
    let table = builder.weights([20, 8])
    let words = try builder.node("Gather", [table, builder.constant([1, 5] as [Int64], [2])])
    let sum = try builder.node("Add", [x, words])
    builder.output(try builder.node("MatMul", [sum, try builder.node("Transpose", [table])]))
    var graph = builder.graph
    graph.nameValues()
    let result: QuantizedGraph
    if isDynamic {
      result = try GraphQuantizer(graph, QuantizationOptions(), in: StaticQuantizationTests.surroundings)
        .quantized(.found)
    } else {
      let outcome = try quantize(builder.graph, shapes: [[3, 2, 8]])
      result = QuantizedGraph(graph: outcome.graph, report: outcome.report)
    }
    #expect(result.report.nodes.count == 1 && result.report.kept.isEmpty)
    #expect(!result.graph.nodes.contains { $0.op == OperatorID("Transpose") })
    let samples = SampleList([["x": sampleTensor([3, 2, 8], seed: 4)]])
    let reference = try ReferenceOutputs(of: graph, on: samples, count: 1, in: StaticQuantizationTests.surroundings)
    #expect(try reference.decibels(of: result.graph) > 28)
  }

  /// A calibration of the same graph with other weights is told from that of this one.
  @Test func fingerprintsTellWeights() throws {
    func graph(_ weight: Float) throws -> Graph {
      let builder = GraphBuilder()
      let x = builder.input("x", [1, 2])
      builder.output(try builder.node("MatMul", [x, builder.constant([1, weight], [2, 1])]))
      var graph = builder.graph
      graph.nameValues()
      return graph
    }
    let prints = try [2, 2, 3].map { CalibrationCache.fingerprint(of: try graph($0)) }
    #expect(prints[0] == prints[1] && prints[1] != prints[2])
  }

  @Test func equalizingAndSmoothingKeepTheFunction() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [1, 4, 6, 6])
    let uneven = (0..<8).flatMap { channel in
      (0..<36).map { Float(($0 * 7 + channel) % 11 - 5) * Float(sign: .plus, exponent: channel - 4, significand: 1) }
    }
    let a = try builder.node(
      "Conv", [x, builder.constant(uneven, [8, 4, 3, 3]), builder.weights([8])], [("pads", .ints([1, 1, 1, 1]))])
    let b = try convolution(builder, try builder.node("Relu", [a]), 8, 8, group: 8)
    builder.output(try convolution(builder, try builder.node("Relu", [b]), 3, 8))
    var options = QuantizationOptions()
    options.isPerChannel = false
    let plain = try quantize(builder.graph, options, shapes: [[1, 4, 6, 6]])
    options.equalizesLayers = true
    let equalized = try quantize(builder.graph, options, shapes: [[1, 4, 6, 6]])
    #expect(equalized.report.equalizedPairs == 2)
    #expect(equalized.decibels > plain.decibels + 1.5, "\(plain.decibels) \(equalized.decibels)")
  }

  @Test func smoothingHelpsWhereOneChannelIsLarge() throws {
    for isShared in [false, true] {
      let builder = GraphBuilder()
      let x = builder.input("x", [.symbol("n"), 16])
      let scale = (0..<16).map { Float($0 == 3 ? 60 : 1) }
      let normal = try builder.node(
        "LayerNormalization", [x, builder.constant(scale, [16]), builder.weights([16])], [("axis", .int(-1))])
      var y = try builder.node("MatMul", [normal, builder.weights([16, 8])])
      if isShared { y = try builder.node("Add", [y, try builder.node("ReduceSum", [normal])]) }
      builder.output(y)
      let plain = try quantize(builder.graph, shapes: [[9, 16]])
      var options = QuantizationOptions()
      options.smoothing = 0.5
      let smooth = try quantize(builder.graph, options, shapes: [[9, 16]])
      #expect(smooth.report.smoothedValues == 1)
      // Only where nobody else reads it the normalization takes the division over.
      #expect(smooth.ops.contains("Mul") == isShared, "\(smooth.ops)")
      #expect(smooth.decibels > plain.decibels - 1, "\(plain.decibels) \(smooth.decibels)")
    }
  }

  @Test func correctedBiasesHaveNoMeanError() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [1, 4, 8, 8])
    let shifted = try builder.node("Add", [x, builder.constant([3 as Float], [])])
    builder.output(try convolution(builder, shifted, 6, 4, bias: false))
    var options = QuantizationOptions()
    options.weights = .int4
    let plain = try quantize(builder.graph, options, shapes: [[1, 4, 8, 8]])
    options.correctsBiases = true
    let corrected = try quantize(builder.graph, options, shapes: [[1, 4, 8, 8]])
    #expect(corrected.decibels > plain.decibels + 1, "\(plain.decibels) \(corrected.decibels)")
  }

  // MARK: - Many graphs

  @Test(arguments: 0..<drawnCases(60)) func randomNetworks(_ seed: Int) throws {
    var random = TestRandom(seed: UInt64(seed + 1))
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 4, 8, 8])
    var values = [try convolution(builder, x, 4, 4)]
    for _ in 0..<3 + random.below(7) {
      let a = values[random.below(values.count)]
      let b = values[random.below(values.count)]
      switch random.below(13) {
      case 0: values.append(try convolution(builder, a, 4, 4, bias: random.below(2) == 0))
      case 1: values.append(try convolution(builder, a, 4, 4, group: [2, 4][random.below(2)]))
      case 2: values.append(try builder.node("Relu", [a]))
      case 3: values.append(try builder.node("Add", [a, b]))
      case 4: values.append(try builder.node("Mul", [a, try builder.node("Sigmoid", [a])]))
      case 5:
        values.append(
          try builder.node("Clip", [a, builder.constant([0 as Float], []), builder.constant([1 as Float], [])]))
      case 6:
        values.append(
          try builder.node(
            "MaxPool", [a], [("kernel_shape", .ints([3, 3])), ("pads", .ints([1, 1, 1, 1]))]))
      case 7:
        let joined = try builder.node("Concat", [a, b], [("axis", .int(1))])
        values.append(try builder.node("Conv", [joined, builder.weights([4, 8, 1, 1])]))
      case 8: values.append(try builder.node("HardSwish", [a]))
      case 9:
        values.append(
          try builder.node(
            "AveragePool", [a], [("kernel_shape", .ints([3, 3])), ("pads", .ints([1, 1, 1, 1]))]))
      case 10: values.append(try builder.node("Add", [a, builder.weights([4, 1, 1])]))
      case 11: values.append(try builder.node("Transpose", [a], [("perm", .ints([0, 1, 3, 2]))]))
      default: values.append(try builder.node("Mul", [a, b]))
      }
    }
    let flat = try builder.node("Flatten", [try builder.node("GlobalAveragePool", [values[values.count - 1]])])
    builder.output(try builder.node("Gemm", [flat, builder.weights([4, 5]), builder.weights([5])]))
    if random.below(3) == 0 { builder.output(values[random.below(values.count)]) }
    var options = QuantizationOptions()
    options.isPerChannel = random.below(3) > 0
    options.hasSymmetricActivations = random.below(4) == 0
    options.activations = [.uint8, .int8, .uint8, .int16][random.below(4)]
    options.range = [.minMax, .meanSquaredError, .percentile(99.9), .entropy, .movingAverage][random.below(5)]
    options.format = [.qdq, .qoperator][random.below(2)]
    options.correctsBiases = random.below(3) == 0
    options.equalizesLayers = random.below(3) == 0
    options.target = [.any, .avx2, .neon, .vnni, .tensorrt][random.below(5)]
    let outcome = try quantize(builder.graph, options, shapes: [[2, 4, 8, 8]])
    // Of few elements the divergence of distributions says little.
    let least = 9.0
    #expect(outcome.decibels > least, "seed \(seed): \(outcome.decibels) dB, \(options), \(outcome.ops)")
  }

  /// Results of another number are not near, however alike the first ones are.
  @Test func elementsWithoutPartnerAreWrong() {
    let whole = SignalNoise([3, 4], [3, 4])
    #expect(whole.decibels == .infinity && whole.count == 2)
    for (wanted, found) in [([3, 4], [3]), ([3], [3, 4])] as [([Float], [Float])] {
      let noise = SignalNoise(wanted, found)
      #expect(noise.noise == 16 && noise.largestError == 4 && noise.count == 2)
    }
  }

  // MARK: - Search

  @Test func searchFindsTheNodeThatCostsMost() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [1, 4, 6, 6])
    var uneven = [Float](repeating: 0.01, count: 4 * 36)
    for index in stride(from: 0, to: uneven.count, by: 36) { uneven[index] = 50 }
    let a = try builder.node(
      "Conv", [x, builder.constant(uneven, [4, 4, 3, 3])], [("pads", .ints([1, 1, 1, 1]))])
    let b = try convolution(builder, a, 4, 4)
    builder.output(try convolution(builder, b, 4, 4))
    var graph = builder.graph
    graph.nameValues()
    var options = QuantizationOptions()
    options.weights = .int4
    let quantizer = try GraphQuantizer(graph, options, in: StaticQuantizationTests.surroundings)
    let samples = SampleList([["x": sampleTensor([1, 4, 6, 6], seed: 9)]])
    let calibration = try quantizer.calibration()
    try samples.forEachSample { try calibration.add($0) }
    let ranges = GraphQuantizer.Ranges.seen(calibration.statistics, channels: [:])
    let reference = try ReferenceOutputs(of: graph, on: samples, count: 1, in: StaticQuantizationTests.surroundings)
    let ranking = try quantizer.sensitivities(ranges, reference) { _, _ in }
    #expect(ranking.count == 3 && ranking[0].decibels <= ranking[2].decibels)
    let all = try reference.decibels(of: try quantizer.quantized(ranges).graph)
    let found = try quantizer.search(ranges, ranking: ranking, target: all + 0.5) {
      try reference.decibels(of: $0.graph)
    }
    #expect(found.graph.report.nodes.count < 3 && found.curve.count >= 2)
    #expect(try reference.decibels(of: found.graph.graph) >= all + 0.5)
    let error = #expect(throws: CompressionError.self) {
      try quantizer.search(ranges, ranking: ranking, target: 1e9) {
        try reference.decibels(of: $0.graph)
      }
    }
    #expect(error?.code == .targetNotMet)
  }
}

@Suite struct DynamicQuantizationTests {
  @Test(arguments: 0..<drawnCases(24)) func productsBecomeIntegers(_ seed: Int) throws {
    var random = TestRandom(seed: UInt64(seed + 77))
    let builder = GraphBuilder()
    let depth = 3 + random.below(40)
    let x = builder.input("x", [.symbol("n"), Dim(depth)])
    let isTransposed = random.below(2) == 0
    let columns = 1 + random.below(20)
    let weights = builder.weights(isTransposed ? [columns, depth] : [depth, columns])
    var attributes: [(String, AttributeValue)] = [("transB", .int(isTransposed ? 1 : 0))]
    if random.below(3) == 0 { attributes.append(("alpha", .float(-2.5))) }
    if random.below(3) == 0 { attributes.append(("beta", .float(0.75))) }
    let bias = [builder.weights([columns]), builder.weights([1, columns]), builder.constant([0.5 as Float], [])]
    let hasBias = random.below(4) > 0
    let y = try builder.node("Gemm", [x, weights] + (hasBias ? [bias[random.below(3)]] : []), attributes)
    builder.output(try builder.node("MatMul", [try builder.node("Tanh", [y]), builder.weights([columns, 3])]))
    var graph = builder.graph
    graph.nameValues()
    var options = QuantizationOptions()
    options.method = .dynamic
    options.isPerChannel = random.below(2) == 0
    let surroundings = RunSurroundings(pool: WorkerPool(threads: 1))
    let quantizer = try GraphQuantizer(graph, options, in: surroundings)
    let result = try quantizer.quantized(.found)
    let ops = result.graph.nodes.map { $0.op.name }
    #expect(ops.count { $0 == "MatMulInteger" } == 2 && !ops.contains("Gemm") && !ops.contains("MatMul"))
    let samples = SampleList([["x": sampleTensor([5, depth], seed: seed)]])
    let reference = try ReferenceOutputs(of: graph, on: samples, count: 1, in: surroundings)
    #expect(try reference.decibels(of: result.graph) > 20)
  }

  @Test func onlyProductsOfMatricesCount() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [1, 2, 4, 4])
    builder.output(try builder.node("Conv", [x, builder.weights([2, 2, 3, 3])]))
    var graph = builder.graph
    graph.nameValues()
    let quantizer = try GraphQuantizer(
      graph, QuantizationOptions(), in: RunSurroundings(pool: WorkerPool(threads: 1)))
    let error = #expect(throws: CompressionError.self) { try quantizer.quantized(.found) }
    #expect(error?.code == .nothingToDo)
  }
}
