// LSTMs on integers that are found in each run.

import ApusCompression
import ApusGraph
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct DynamicRecurrenceTests {
  private static let surroundings = RunSurroundings(pool: WorkerPool(threads: 1))

  /// Drawn sizes, directions, optional inputs and outputs; the result also goes through a product.
  private func network(_ random: inout TestRandom, layout: Int = 0, computes: Bool = false) throws -> (Graph, Shape) {
    let builder = GraphBuilder()
    let (steps, batch, depth, hidden) = (
      2 + random.below(5), 1 + random.below(3), 3 + random.below(20), 2 + random.below(12)
    )
    let directions = 1 + random.below(2)
    let x = builder.input("x", [Dim(steps), Dim(batch), Dim(depth)])
    var weights = builder.weights([directions, 4 * hidden, depth])
    if computes { weights = try builder.node("Mul", [weights, try builder.node("ReduceMax", [x])]) }
    var inputs: [ValueID?] = [x, weights, builder.weights([directions, 4 * hidden, hidden])]
    if random.below(3) > 0 { inputs.append(builder.weights([directions, 8 * hidden])) }
    if inputs.count == 4, random.below(2) == 0, layout == 0 {
      inputs += [nil, builder.weights([directions, batch, hidden]), builder.weights([directions, batch, hidden])]
      if random.below(2) == 0 { inputs.append(builder.weights([directions, 3 * hidden])) }
    }
    builder.graph.outputs = try builder.apply(
      OperatorID("LSTM"), name: "lstm", inputs,
      [
        ("hidden_size", .int(hidden)), ("layout", .int(layout)),
        ("direction", .string(directions == 2 ? "bidirectional" : "reverse")),
      ], outputCount: 3)
    var graph = builder.graph
    graph.nameValues()
    return (graph, [steps, batch, depth])
  }

  @Test(arguments: 0..<drawnCases(24)) func lstmsBecomeIntegers(_ seed: Int) throws {
    var random = TestRandom(seed: UInt64(seed + 5))
    let (graph, shape) = try network(&random)
    var options = QuantizationOptions()
    options.isPerChannel = random.below(2) == 0
    options.weights = random.below(2) == 0 ? .int8 : .uint8
    options.hasSymmetricWeights = random.below(2) == 0
    let result = try GraphQuantizer(graph, options, in: Self.surroundings).quantized(.found)
    #expect(result.graph.nodes.map(\.op.name) == ["DynamicQuantizeLSTM"])
    #expect(result.report.nodes.count == 1 && result.report.nodes[0].weightNoise.decibels ?? 0 > 30)
    let samples = SampleList([["x": sampleTensor(shape, seed: seed)]])
    let reference = try ReferenceOutputs(of: graph, on: samples, count: 1, in: Self.surroundings)
    #expect(try reference.decibels(of: result.graph) > 25)
  }

  @Test func weightsThatAreNotFiniteStayFloat() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [2, 1, 3])
    var recurrence = [Float](repeating: 0.25, count: 8 * 2)
    recurrence[5] = .infinity
    builder.output(
      try builder.node(
        "LSTM", [x, builder.weights([1, 8, 3]), builder.constant(recurrence, [1, 8, 2])], [("hidden_size", .int(2))]))
    var graph = builder.graph
    graph.nameValues()
    let quantizer = try GraphQuantizer(graph, QuantizationOptions(), in: Self.surroundings)
    let error = #expect(throws: CompressionError.self) { try quantizer.quantized(.found) }
    #expect(error?.message.contains("not finite") ?? false, "\(error?.message ?? "")")
  }

  @Test func whatHasNoSuchFormStaysFloat() throws {
    for (layout, computes, reason) in [(1, false, "first axis"), (0, true, "computed")] {
      var random = TestRandom(seed: 3)
      let (graph, _) = try network(&random, layout: layout, computes: computes)
      let quantizer = try GraphQuantizer(graph, QuantizationOptions(), in: Self.surroundings)
      let error = #expect(throws: CompressionError.self) { try quantizer.quantized(.found) }
      #expect(error?.code == .nothingToDo && error?.message.contains(reason) ?? false, "\(error?.message ?? "")")
    }
  }
}
