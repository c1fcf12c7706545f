// Quantization inside of If, Loop and Scan: what a branch or a body computes is seen, rewritten and measured as well.

import ApusCompression
import ApusGraph
import ApusOperators
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct InnerGraphTests {
  private static let surroundings = RunSurroundings(pool: WorkerPool(threads: 2))

  /// A branch that computes act(x · w) · v of a captured x. Values have the same names in all branches.
  private func branch(_ parent: GraphBuilder, _ x: ValueID, _ act: String) throws -> Subgraph {
    let inner = GraphBuilder()
    let captured = inner.input("x", [.symbol("n"), 8])
    inner.graph.inputs = []
    inner.graph.captures = [captured]
    let product = try inner.node("MatMul", [captured, inner.weights([8, 6])])
    inner.graph[product].name = "product"
    inner.output(try inner.node("MatMul", [try inner.node(act, [product]), inner.weights([6, 6])]))
    return Subgraph(graph: inner.graph, captured: [x])
  }

  /// Of x, rows of 8, and c, a condition; the result is multiplied once more.
  private func choosing() throws -> Graph {
    let builder = GraphBuilder()
    let (x, c) = (builder.input("x", [.symbol("n"), 8]), builder.input("c", [], .bool))
    let chosen = try builder.node(
      "If", [c],
      [
        ("then_branch", .graph(try branch(builder, x, "Relu"))),
        ("else_branch", .graph(try branch(builder, x, "Tanh"))),
      ])
    builder.output(try builder.node("MatMul", [chosen, builder.weights([6, 4])]))
    var graph = builder.graph
    graph.nameValues()
    return graph
  }

  /// x = tanh(x · w), three times, which also leaves each product.
  private func looping(_ op: String) throws -> Graph {
    let body = GraphBuilder()
    if op == "Loop" { _ = body.input("i", [], .int64) }
    let condition = op == "Loop" ? body.input("c", [], .bool) : nil
    let x = body.input("x", [2, 8])
    if op == "Scan" { _ = body.input("step", []) }
    let product = try body.node("MatMul", [x, body.weights([8, 8])])
    body.graph.outputs = [condition, try body.node("Tanh", [product]), product].compactMap { $0 }
    let builder = GraphBuilder()
    let start = builder.input("start", [2, 8])
    let inputs: [ValueID?] = op == "Loop" ? [builder.constant([3], []), nil, start] : [start, builder.weights([3])]
    builder.graph.outputs = try builder.apply(
      OperatorID(op), name: "loop", inputs,
      [("body", .graph(body.subgraph))] + (op == "Scan" ? [("num_scan_inputs", .int(1))] : []), outputCount: 2)
    var graph = builder.graph
    graph.nameValues()
    return graph
  }

  private func samples(_ conditions: [Bool]) -> [[String: Tensor]] {
    conditions.enumerated().map { index, condition in
      ["x": sampleTensor([3, 8], seed: index + 1), "c": Tensor([condition], shape: [])]
    }
  }

  private func quantized(
    _ graph: Graph, _ options: QuantizationOptions = QuantizationOptions(), on samples: [[String: Tensor]]
  ) throws -> (result: QuantizedGraph, decibels: Double) {
    var quantizer = try GraphQuantizer(graph, options, in: InnerGraphTests.surroundings)
    if options.smoothing != nil {
      let channels = try quantizer.smoothingCalibration()
      for sample in samples { try channels.add(sample) }
      try quantizer.smooth(channels.channels)
    }
    let calibration = try quantizer.calibration()
    for sample in samples { try calibration.add(sample) }
    var result = try quantizer.quantized(.seen(calibration.statistics, channels: calibration.channels))
    try quantizer.measure(&result, on: SampleList(samples), samples: samples.count)
    let reference = try ReferenceOutputs(
      of: graph, on: SampleList(samples), count: samples.count, in: InnerGraphTests.surroundings)
    return (result, try reference.decibels(of: result.graph))
  }

  private func operators(_ graph: Graph) -> [String] {
    var found: [String] = []
    graph.forEachGraph { found += $0.nodes.map(\.op.name) }
    return found
  }

  @Test func valuesOfAllGraphsHaveNamesOfTheirOwn() throws {
    var names: [String] = []
    try choosing().forEachGraph { graph in
      names += graph.nodes.flatMap { $0.outputs.compactMap { $0 } }.map { graph[$0].name }
      #expect(graph.captures.allSatisfy { graph[$0].name == "x" })
    }
    #expect(Set(names).count == names.count && names.contains("product") && names.contains("product#2"))
  }

  @Test(arguments: [nil, Float(0.5)]) func bothBranchesBecomeIntegers(_ smoothing: Float?) throws {
    var options = QuantizationOptions()
    options.smoothing = smoothing
    options.correctsBiases = true
    let (result, decibels) = try quantized(try choosing(), options, on: samples([true, false, true, false]))
    #expect(result.report.nodes.count == 5 && result.report.kept.isEmpty)
    #expect(result.report.nodes.allSatisfy { $0.outputNoise?.decibels ?? 0 > 25 }, "\(result.report.nodes)")
    #expect(decibels > 25, "\(decibels)")
    #expect(operators(result.graph).count { $0 == "QuantizeLinear" } >= 3)
    #expect(result.report.bytesAfter < result.report.bytesBefore)
  }

  @Test func whatNoSampleReachesStaysFloat() throws {
    let (result, decibels) = try quantized(try choosing(), on: samples([true, true]))
    // What it reads from outside is known.
    #expect(result.report.nodes.count == 4 && result.report.kept.count == 1)
    #expect(result.report.kept.first?.reason.contains("no sample") ?? false)
    #expect(decibels > 25)
    // It still runs, on floats.
    let run = try GraphRun(result.graph, in: InnerGraphTests.surroundings)
    let sample = samples([false])[0]
    let outputs = try run.outputs(for: [.tensor(try #require(sample["x"])), .tensor(try #require(sample["c"]))])
    #expect(outputs.first?.tensor?.shape == [3, 4])
  }

  @Test(arguments: ["Loop", "Scan"]) func bodiesBecomeIntegers(_ op: String) throws {
    let graph = try looping(op)
    let list = (1...3).map { ["start": sampleTensor([2, 8], seed: $0)] }
    let quantizer = try GraphQuantizer(graph, QuantizationOptions(), in: InnerGraphTests.surroundings)
    let calibration = try quantizer.calibration()
    for sample in list { try calibration.add(sample) }
    // Each of three iterations of each of three samples was seen: sixteen elements each.
    #expect(calibration.statistics.values.allSatisfy { $0.elements == 3 * 3 * 16 }, "\(calibration.statistics)")
    let (result, decibels) = try quantized(graph, on: list)
    #expect(result.report.nodes.count == 1 && decibels > 25, "\(decibels)")
    #expect(operators(result.graph).contains("QuantizeLinear"))
  }

  @Test func dynamicQuantizationGoesInsideToo() throws {
    for graph in [try choosing(), try looping("Loop")] {
      let quantizer = try GraphQuantizer(graph, QuantizationOptions(), in: InnerGraphTests.surroundings)
      let result = try quantizer.quantized(.found)
      #expect(result.report.kept.isEmpty)
      #expect(!operators(result.graph).contains("MatMul"))
    }
  }

  @Test func patternsAndOverridesReachInside() throws {
    var options = QuantizationOptions()
    options.overrides["product"] = TensorOverride()
    options.selection.excluded = ["If"]
    _ = try GraphQuantizer(try choosing(), options, in: InnerGraphTests.surroundings)
    options.selection.excluded = ["Tanh"]
    _ = try GraphQuantizer(try choosing(), options, in: InnerGraphTests.surroundings)
    options.selection.excluded = ["Sin"]
    #expect(throws: CompressionError.self) {
      try GraphQuantizer(try choosing(), options, in: InnerGraphTests.surroundings)
    }
  }
}
