// Statistics and the writer ask the schema: an operator that only a test has is counted and written as its traits say.

import Apus
import ApusFormats
import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct SchemaTraitTests {
  @Test(arguments: [true, false]) func multiplyAddsAreATrait(_ isCounted: Bool) throws {
    let own = try DelegatingOperator(OperatorID("Own", domain: "test"), as: OperatorID("MatMul")) { schema in
      if isCounted { schema.multiplyAdds = { ($0.outputShape(0)?[0] ?? .unknown) * Dim($0.constant(1)?.count ?? 0) } }
    }
    let registry = OperatorRegistry.standard(with: [own])
    let builder = GraphBuilder(registry: registry)
    let a = builder.input("a", [.symbol("n"), 3])
    builder.output(try builder.node("Own", [a, builder.weights([3, 4])], domain: "test"))
    let statistics = ModelStatistics(builder.graph, registry: registry)
    #expect(statistics.multiplyAdds == (isCounted ? Dim.symbol("n") * 12 : 0))
    #expect(statistics.uncounted.isEmpty)
    // What is not known is not counted, and said.
    var unknown = GraphBuilder(registry: registry)
    let b = unknown.input("b", [.unknown, 3])
    unknown.output(try unknown.node("Own", [b, unknown.weights([3, 4])], domain: "test"))
    #expect(ModelStatistics(unknown.graph, registry: registry).uncounted.isEmpty != isCounted)
  }

  /// How often a body runs is not known: its work is left out, and said.
  @Test(arguments: [true, false]) func workInBodies(_ multiplies: Bool) throws {
    func branch() throws -> AttributeValue {
      let body = GraphBuilder()
      let weights = body.weights([3, 3])
      body.output(try body.node(multiplies ? "MatMul" : "Add", [weights, weights]))
      return .graph(Subgraph(graph: body.graph, captured: []))
    }
    let builder = GraphBuilder()
    let condition = builder.input("condition", [], .bool)
    builder.output(
      try builder.node("If", [condition], [("then_branch", try branch()), ("else_branch", try branch())]))
    let statistics = ModelStatistics(builder.graph)
    #expect(statistics.multiplyAdds == 0 && statistics.uncounted.isEmpty != multiplies)
  }

  /// Every product that has a formula gives the number that it stands for.
  @Test func formulas() throws {
    func count(_ op: String, _ shapes: [[Dim]], _ attributes: [(String, AttributeValue)] = []) throws -> Dim {
      let builder = GraphBuilder()
      let inputs = shapes.enumerated().map { builder.input("x\($0)", $1) }
      builder.output(try builder.node(op, inputs, attributes))
      return ModelStatistics(builder.graph).multiplyAdds
    }
    let n = Dim.symbol("n")
    #expect(try count("MatMul", [[n, 5], [5, 7]]) == n * 35)
    #expect(try count("Gemm", [[5, n], [5, 7]], [("transA", .int(1))]) == n * 35)
    #expect(try count("Conv", [[n, 4, 6, 6], [8, 2, 3, 3]], [("group", .int(2))]) == n * (8 * 16 * 18))
    #expect(try count("ConvTranspose", [[n, 4, 6, 6], [4, 8, 3, 3]]) == n * (4 * 36 * 72))
    #expect(try count("LSTM", [[3, n, 5], [1, 28, 5], [1, 28, 7]]) == n * (3 * 28 * 12))
    #expect(try count("Attention", [[n, 2, 3, 4], [n, 2, 5, 4], [n, 2, 5, 6]]) == n * (2 * 3 * 5 * 10))
    #expect(try count("Einsum", [[n, 5], [5, 7]], [("equation", .string("ij,jk->ik"))]) == n * 35)
    #expect(try count("Einsum", [[n, 5]], [("equation", .string("ij->ji"))]) == 0)
    #expect(try count("Relu", [[n, 5]]) == 0)
  }

  // MARK: - Versions

  /// An operator of operator set 1; `late` and the input `scale` came with 12, `young` with 24, as narrow types did.
  private func registry(isPortable: Bool) throws -> OperatorRegistry {
    let own = try DelegatingOperator(OperatorID("Own"), as: OperatorID("LeakyRelu")) { schema in
      schema.versions = [1, 12, 24]
      schema.inputs.append(.optional("scale", "T").since(12, before: .float("scale", default: 1)))
      schema.attributes += [.int("late", default: 3).since(12), .int("young", default: 0).since(24)]
      schema.attributes.append(.onesByDefault("steps").since(12))
      schema.portable = isPortable ? .moreTypes : nil
    }
    return .standard(with: [own])
  }

  /// The node and the operator set that a model of one `Own` of operator set 24 is written with.
  private func saved(
    _ attributes: [(String, AttributeValue)], type: DataType = .float32, scale: Tensor? = nil, opset: Int? = nil,
    isPortable: Bool = true
  ) throws -> (node: NodeProto, opset: Int?) {
    let registry = try registry(isPortable: isPortable)
    let builder = GraphBuilder(registry: registry)
    let x = builder.input("x", [2, 3], type)
    let constant = scale.map { builder.constant($0.elements(as: Float.self) ?? [], $0.shape) }
    builder.output(try builder.node("Own", [x] + (constant.map { [$0] } ?? []), attributes))
    var model = ModelGraph(graph: builder.graph)
    model.opsets = ["": 24]
    let message = try ONNXWriter.message(model, registry: registry, opset: opset)
    return (try #require(message.graph?.nodes.first), message.opsetImport.first { $0.domain.isEmpty }?.version)
  }

  @Test func portableFormsAreATrait() throws {
    #expect(try saved([]).opset == 21)
    #expect(try saved([], isPortable: false).opset == 24)
    #expect(try saved([], type: .bfloat16).opset == 24)
    #expect(try saved([("young", .int(0))]).opset == 24)
    #expect(try saved([("late", .int(4))]).opset == 21)
  }

  @Test func versionsOfAttributesAndInputsAreTraits() throws {
    let two = Tensor(scalar: 2 as Float)
    let old = try saved([("late", .int(3)), ("steps", .ints([1, 1])), ("alpha", .float(2))], scale: two, opset: 11)
    #expect(old.opset == 11 && old.node.inputs == ["x"])
    #expect(Set(old.node.attributes.map(\.name)) == ["alpha", "scale"])
    let new = try saved([("late", .int(3)), ("steps", .ints([2, 1]))], scale: two, opset: 12)
    #expect(new.node.inputs.count == 2 && new.node.attributes.count == 2)
    #expect(throws: OperatorError.self) { try saved([("late", .int(4))], opset: 11) }
    #expect(throws: OperatorError.self) { try saved([("steps", .ints([2, 1]))], opset: 11) }
    #expect(throws: OperatorError.self) { try saved([("young", .int(0))], opset: 21) }
    #expect(throws: OperatorError.self) { try saved([], opset: 21, isPortable: false) }
  }
}
