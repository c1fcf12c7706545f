// Graphs become files that say the same.

import ApusFormats
import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct WriterTests {
  private func tensor(_ name: String, _ values: [Float]) -> TensorProto { TensorProto(name: name, Tensor(values)) }

  private func written(_ model: ModelGraph) throws -> ModelProto {
    try ONNXWriter.message(model, registry: StandIn.registry)
  }

  @Test func keepsGraphs() throws {
    let branch = GraphProto(outputs: ["t"], nodes: [NodeProto("Add", ["h", "w"], ["t"])])
    let choice = NodeProto(
      "If", ["h"], ["y"], name: "choice", [("then_branch", .graph(branch)), ("else_branch", .graph(branch))])
    var proto = ModelProto(
      GraphProto(
        inputs: ["x"], outputs: ["y", "x", "w"],
        nodes: [
          NodeProto("Scale", ["x"], ["h"], name: "s", [("factor", .float(2)), ("counts", .ints([1, -2]))]), choice,
        ],
        initializers: [tensor("w", [1, 2, 3])]))
    proto.metadata = [StringEntry(key: "k", value: "v")]
    proto.docString = "words"
    let first = try proto.loaded()
    let message = try written(first)
    #expect(
      message.graph?.initializers.map(\.name) == ["w"], "the subgraphs share the weights of the graph around them")
    let second = try message.loaded()
    #expect(second.graph.lines == first.graph.lines)
    #expect(second.graph.names(second.graph.inputs) == ["x"])
    #expect(second.graph.names(second.graph.outputs) == ["y", "x", "w"])
    #expect(second.metadata.map(\.value) == ["v"] && second.documentation == "words")
    #expect(second.graph.fact(second.graph.inputs[0]).description == "float32[n, 3]")
    #expect(second.graph.nodes[0].attributes.ints("counts") == [1, -2])
    let subgraph = try #require(second.graph.nodes[1].attributes.graph("else_branch"))
    #expect(second.graph.names(subgraph.captured) == ["h"])
    #expect(try written(second).encoded == message.encoded)
  }

  private func builder(_ registry: OperatorRegistry = StandIn.registry) -> GraphBuilder {
    GraphBuilder(name: "graph", inference: InferenceDriver(registry: registry))
  }

  @Test func lowersInternalNodes() throws {
    let builder = builder()
    let x = builder.addInput("x", fact: .tensor(.float32, nil))
    let y = builder.addValue("y")
    try builder.append(Node(OperatorID("Fused", domain: "apus"), inputs: [x], outputs: [y]))
    builder.graph.outputs = [y]
    let again = try written(ModelGraph(graph: builder.graph)).loaded()
    #expect(again.graph.lines == ["y#2: Neg(x) -> y#2", "y: Neg(y#2) -> y"])
    builder.appendUnchecked(Node(OperatorID("Secret", domain: "apus"), inputs: [x], outputs: [builder.addValue("z")]))
    #expect(throws: OperatorError.self) { try written(ModelGraph(graph: builder.graph)) }
  }

  @Test func asksForNoNewerOperatorSetThanNeeded() throws {
    func opset(_ type: DataType, _ attributes: [(String, AttributeValue)] = []) throws -> Int? {
      let cast = StandIn(
        "Cast", versions: [1, 13, 28], attributes: [.string("round_mode", default: "up").since(24)],
        portable: .moreTypes)
      let registry = OperatorRegistry([[cast]], opsetForms: OperatorRegistry.standard.opsetForms)
      let builder = builder(registry)
      let x = builder.addInput("x", fact: .tensor(type, nil))
      builder.graph.outputs = [try builder.apply(OperatorID("Cast"), name: "", [x], attributes)]
      return try ONNXWriter.message(ModelGraph(graph: builder.graph), registry: registry).opsetImport.first?.version
    }
    #expect(try opset(.int64) == 21)
    #expect(try opset(.float8e4m3fn) == 28)
    #expect(try opset(.int64, [("round_mode", .string("up"))]) == 28)
  }

  @Test func namesWhatHasNoName() throws {
    let builder = builder()
    let x = builder.addInput("x", fact: .tensor(.float32, nil))
    let middle = try builder.apply(OperatorID("Neg"), name: "", [x])
    let output = try builder.apply(OperatorID("Neg"), name: "", [middle])
    let constant = builder.addConstant(Tensor([Float(1)]))
    builder.graph.outputs = [try builder.apply(OperatorID("Add"), name: "", [output, constant])]
    let again = try written(ModelGraph(graph: builder.graph)).loaded()
    #expect(again.graph.nodes.count == 3)
    #expect(!again.graph.values.contains { $0.name.isEmpty })
  }

  @Test func putsLargeWeightsBeside() throws {
    let values = (0..<1000).map { Float($0) }
    let model = ModelProto(
      GraphProto(outputs: ["w", "v"], nodes: [], initializers: [tensor("w", values), tensor("v", [7])]))
    let path = TemporaryFolder.shared.path("large.onnx")
    try model.write(to: path, maximumInlineBytes: 1000)
    let graph = try ONNXReader.load(path: path, registry: StandIn.registry).model.graph
    #expect(graph.constant(graph.outputs[0])?.elements(as: Float.self) == values)
    #expect(graph.constant(graph.outputs[1])?.elements(as: Float.self) == [7])
    #expect(try FileBytes.open(path: path).count < 500)
  }
}
