// Models of 16 bits: close to their originals, with Casts where both meet and nowhere else.

import ApusCompression
import ApusGraph
import ApusOperators
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct HalfConverterTests {
  private let surroundings = RunSurroundings(pool: WorkerPool(threads: 2))

  private func outputs(_ graph: Graph, _ inputs: [Tensor]) throws -> [Tensor] {
    try GraphRun(graph, in: surroundings).outputs(for: inputs.map { .tensor($0) }).compactMap(\.tensor)
  }

  private func converted(
    _ graph: Graph, samples: SampleList? = nil, _ change: (inout HalfConversionOptions) -> Void = { _ in }
  ) throws -> (graph: Graph, report: HalfConversionReport) {
    var (options, result) = (HalfConversionOptions(), graph)
    change(&options)
    let report = try HalfConverter(options, in: surroundings).convert(&result, samples: samples).report
    return (result, report)
  }

  private func casts(_ graph: Graph) -> Int { graph.nodes.count { $0.op == OperatorID("Cast") } }

  private func network() throws -> GraphBuilder {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 32])
    let h = try builder.node("Relu", [try builder.node("MatMul", [x, builder.weights([32, 48])])])
    let s = try builder.node("Softmax", [h])
    let y = try builder.node("MatMul", [s, builder.weights([48, 8])])
    let name = builder.addValue("y")
    try builder.append(Node(OperatorID("Tanh"), name: "last", inputs: [y], outputs: [name]))
    builder.output(name)
    return builder
  }

  @Test(arguments: HalfConversionOptions.ElementType.allCases)
  func computesNearlyTheSame(_ type: HalfConversionOptions.ElementType) throws {
    let (graph, x) = (try network().graph, sampleTensor([3, 32], seed: 1))
    let expected = try outputs(graph, [x])[0]
    let (result, report) = try converted(graph) { $0.type = type }
    let found = try outputs(result, [x])[0]
    #expect(found.dataType == .float32 && largestDifference(found, expected) < (type == .float16 ? 2e-3 : 2e-2))
    // Of the input, around Softmax, of the output.
    #expect(casts(result) == 4 && report.casts == 4 && report.converted == 4)
    #expect(report.kept.map(\.operator) == ["Softmax"])
    #expect(report.bytesAfter * 2 == report.bytesBefore)
    #expect(result[result.outputs[0]].name == "y")
  }

  /// An input of 16 bits is widened for those before that stay float32.
  @Test func sensitiveReadersOfANarrowInput() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [3, 32])
    let mean = try builder.node("ReduceMean", [x, builder.constant([-1], [1])])
    builder.output(try builder.node("Sub", [x, mean]))
    let (result, _) = try converted(builder.graph) { $0.keepsInterface = false }
    #expect(result.fact(result.inputs[0]).elementType == .float16)
    let input = sampleTensor([3, 32], seed: 3)
    let halves = (input.elements(as: Float.self) ?? []).map { Float16($0) }
    let found = try outputs(result, [Tensor(halves, shape: input.shape)])[0]
    #expect(found.dataType == .float16 && found.shape == [3, 32])
  }

  /// Who reads a sequence takes float32 from it; operators that got bfloat16 late stay float32.
  @Test func sequencesAndLateOperatorsStayFloat() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [4, 32])
    let h = try builder.node("Relu", [try builder.node("MatMul", [x, builder.weights([32, 32])])])
    let parts = try builder.node("SplitToSequence", [h], [("axis", .int(0))])
    let joined = try builder.node("ConcatFromSequence", [parts], [("axis", .int(0))])
    let kept = builder.constant([true, false, true, true], [4])
    builder.output(try builder.node("Tanh", [try builder.node("Compress", [joined, kept], [("axis", .int(0))])]))
    let input = sampleTensor([4, 32], seed: 1)
    let expected = try outputs(builder.graph, [input])[0]
    for type in HalfConversionOptions.ElementType.allCases {
      let (result, report) = try converted(builder.graph) { $0.type = type }
      #expect(largestDifference(try outputs(result, [input])[0], expected) < 0.1)
      let reasons = Dictionary(report.kept.map { ($0.operator, $0.reason) }) { first, _ in first }
      #expect(reasons["SplitToSequence"] != nil)
      #expect((reasons["Compress"] != nil) == (type == .bfloat16))
    }
  }

  /// QuantizeLinear reads float16 from operator set 19 on, as the file must say.
  @Test func filesAreOfTheOperatorSetThatTakesTheType() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [4, 32])
    let h = try builder.node("Relu", [x])
    let codes = try builder.node(
      "QuantizeLinear", [h, builder.constant([0.5 as Float], []), builder.constant([0 as UInt8], [])])
    builder.output(codes)
    var (graph, options) = (builder.graph, HalfConversionOptions())
    #expect(try HalfConverter(options, in: surroundings).convert(&graph).opset == 19)
    (graph, options.type) = (builder.graph, .bfloat16)
    #expect(try HalfConverter(options, in: surroundings).convert(&graph).opset >= 19)
  }

  @Test func interfaceMayChange() throws {
    let (graph, x) = (try network().graph, sampleTensor([3, 32], seed: 1))
    let (result, _) = try converted(graph) { ($0.keepsInterface, $0.keepsSensitive) = (false, false) }
    #expect(casts(result) == 0)
    #expect(result[result.inputs[0]].name == "x" && result[result.outputs[0]].name == "y")
    #expect(result.fact(result.inputs[0]).elementType == .float16)
    let narrow = Tensor((x.elements(as: Float.self) ?? []).map { Float16($0) }, shape: [3, 32])
    let found = try outputs(result, [narrow])[0]
    let wide = Tensor((found.elements(as: Float16.self) ?? []).map { Float($0) }, shape: found.shape)
    #expect(try largestDifference(wide, outputs(graph, [x])[0]) < 3e-3)
  }

  @Test func patternsKeepNodes() throws {
    let (result, report) = try converted(try network().graph) { $0.keep = ["Tanh"] }
    #expect(report.kept.map(\.operator).sorted() == ["Softmax", "Tanh"])
    #expect(result.fact(result.outputs[0]).elementType == .float32)
    #expect(casts(result) == 4, "the Cast of the output stands before Tanh now")
  }

  @Test func constantsThatDoNotFit() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [4])
    let masked = try builder.node("Add", [x, builder.constant([0, -3e38, 0, 0] as [Float], [4])])
    let divided = try builder.node("Div", [try builder.node("Abs", [x]), builder.constant([1e-12] as [Float], [])])
    let fine = try builder.node("Mul", [x, builder.constant([1e-6, 1, 2, 3] as [Float], [4])])
    builder.output(masked, divided, fine)
    let (result, report) = try converted(builder.graph)
    #expect(report.kept.count == 2)
    #expect(report.kept.contains { $0.reason.contains("become infinite") })
    #expect(report.kept.contains { $0.reason.contains("become 0") })
    #expect(report.weights.map(\.subnormals).max() == 1)
    let input = Tensor([1, -2, 3, 0] as [Float])
    let expected = try outputs(builder.graph, [input])
    for (found, wanted) in zip(try outputs(result, [input]), expected) {
      for (a, b) in zip(found.elements(as: Float.self) ?? [], wanted.elements(as: Float.self) ?? []) {
        #expect(abs(a - b) <= 1e-3 * abs(b) + 1e-6)
      }
    }
  }

  @Test func samplesShowWhatOverflows() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [8])
    let large = try builder.node("Mul", [x, builder.constant([50_000] as [Float], [])])
    let small = try builder.node("Mul", [large, builder.constant([0.001] as [Float], [])])
    builder.output(try builder.node("Relu", [small]))
    let samples = SampleList((1...2).map { ["x": Tensor([Float](repeating: Float($0), count: 8))] })
    let (result, report) = try converted(builder.graph, samples: samples)
    #expect(report.kept.count == 2 && report.converted == 1)
    #expect(report.activations.map(\.largest) == [100_000])
    let input = Tensor([Float](repeating: 2, count: 8))
    #expect(try largestDifference(outputs(result, [input])[0], outputs(builder.graph, [input])[0]) < 0.1)
  }

  @Test func schemasDecideWhatStays() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [1, 2, 4, 4])
    let scales = builder.constant([1, 1, 2, 2] as [Float], [4])
    let resized = try builder.node(
      "Resize", [try builder.node("Relu", [x]), nil, scales], [("mode", .string("linear"))])
    let shape = try builder.node("Shape", [resized])
    builder.output(resized, shape)
    let (result, _) = try converted(builder.graph)
    let resize = try #require(result.nodes.first { $0.op.name == "Resize" })
    let (image, factors) = (try #require(resize.inputs[0]), try #require(resize.inputs[2]))
    #expect(result.fact(image).elementType == .float16 && result.fact(factors).elementType == .float32)
    let shapes = try outputs(result, [sampleTensor([1, 2, 4, 4], seed: 1)])
    #expect(shapes[0].shape == [1, 2, 8, 8] && shapes[1].integers == [1, 2, 8, 8])
  }

  @Test func movementBetweenFloatsStaysFloat() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [4, 8])
    let first = try builder.node("Softmax", [x])
    let turned = try builder.node("Transpose", [first], [("perm", .ints([1, 0]))])
    let second = try builder.node("Softmax", [turned])
    builder.output(try builder.node("MatMul", [second, builder.weights([4, 4])]))
    let (result, report) = try converted(builder.graph)
    #expect(report.converted == 1 && casts(result) == 2)
  }

  @Test func graphsInsideNodes() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [3, 16])
    let condition = builder.input("c", [], .bool)
    let h = try builder.node("MatMul", [x, builder.weights([16, 16])])
    let branches = try [true, false].map { isThen -> Subgraph in
      let inner = GraphBuilder(name: "branch", inference: builder.inference, parent: builder)
      let product = try inner.node("MatMul", [inner.importing(h, of: builder), inner.weights([16, 16])])
      inner.output(isThen ? product : try inner.node("Neg", [product]))
      return inner.subgraph
    }
    builder.output(
      try builder.node("If", [condition], [("then_branch", .graph(branches[0])), ("else_branch", .graph(branches[1]))]))
    let (result, report) = try converted(builder.graph)
    #expect(report.converted == 4)
    let input = sampleTensor([3, 16], seed: 2)
    for choice in [true, false] {
      let expected = try outputs(builder.graph, [input, Tensor(scalar: choice)])[0]
      let found = try outputs(result, [input, Tensor(scalar: choice)])[0]
      #expect(found.dataType == .float32 && largestDifference(found, expected) < 0.05)
    }
  }

  @Test func nothingToConvert() throws {
    let builder = GraphBuilder()
    builder.output(try builder.node("Neg", [builder.input("x", [2], .int64)]))
    #expect(throws: CompressionError.self) { try converted(builder.graph) }
  }

  /// Large weights are converted when they are read; every number as by a conversion of its own.
  @Test func largeWeights() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [1, 1025])
    let weights = builder.weights([1025, 1024])
    builder.output(try builder.node("MatMul", [x, weights]))
    let (result, _) = try converted(builder.graph)
    let narrow = try #require(result.values.compactMap(\.constant).first { $0.dataType == .float16 })
    let source = builder.graph.constant(weights)?.elements(as: Float.self) ?? []
    #expect(narrow.elements(as: Float16.self) == source.map { Float16($0) })
  }
}
