// Building a graph: nodes are checked and inferred as they come, names differ, values of graphs around are captured,
// and what cannot be leaves nothing behind.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct GraphBuilderTests {
  private func names(_ graph: Graph, _ ids: [ValueID]) -> [String] { ids.map { graph[$0].name } }

  @Test func infersAsItAppends() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 4])
    let shape = try builder.node("Shape", [x])
    #expect(builder.fact(shape).tensor?.values == [.symbol("n"), 4])
    let parts = try builder.apply(
      OperatorID("Split"), name: "split", [x], [("axis", .int(1)), ("num_outputs", .int(2))], outputCount: 2)
    #expect(parts.map { builder.fact($0).description } == ["float32[n, 2]", "float32[n, 2]"])
    #expect(builder.type(shape) == .int64 && builder.shape(parts[0]) == [.symbol("n"), 2])
  }

  @Test func refusesWhatCannotBe() throws {
    let builder = GraphBuilder()
    let (x, y) = (builder.input("x", [2, 3]), builder.input("y", [4]))
    let names: [(String, [ValueID?], [(String, AttributeValue)])] = [
      ("Add", [x, y], []), ("Relu", [x, y], []), ("Relu", [x], [("alpha", .float(1))]), ("Unheard", [x], []),
      ("Upsample", [x, y], []),
    ]
    for (op, inputs, attributes) in names {
      #expect(throws: OperatorError.self) { try builder.node(op, inputs, attributes) }
      #expect(builder.graph.nodes.isEmpty)
    }
    builder.appendUnchecked(Node(OperatorID("Unheard"), inputs: [x], outputs: [y]))
    #expect(builder.graph.nodes.count == 1)
  }

  @Test func outputsThatNobodyWantsAreValues() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [2, 4])
    let indices = builder.addValue()
    let k = builder.constant([1], [1])
    try builder.append(Node(OperatorID("TopK"), inputs: [x, k], outputs: [nil, indices]))
    #expect(builder.graph.nodes[0].outputs[0] != nil)
    // An optional one stays away, until somebody asks for it.
    let y = try builder.node("Dropout", [x])
    #expect(builder.graph.nodes[1].outputs == [y])
    let mask = try builder.output(1, ofNodeAt: 1)
    #expect(builder.fact(mask).description == "bool[2, 4]")
    #expect(try builder.output(1, ofNodeAt: 1) == mask)
  }

  @Test func namesDiffer() throws {
    let builder = GraphBuilder()
    let values = [builder.addValue("x"), builder.addValue("x"), builder.addValue("x#2"), builder.addValue("")]
    #expect(names(builder.graph, values) == ["x", "x#2", "x#2#2", ""])
    let next = GraphBuilder(continuing: builder.graph, inference: builder.inference)
    let third = next.addValue("x")
    #expect(names(next.graph, [third]) == ["x#3"])
  }

  @Test func capturesAcrossTwoGraphs() throws {
    let outer = GraphBuilder()
    let (x, w) = (outer.input("x", [3]), outer.constant([1, 2, 3] as [Float], [3]))
    let middle = GraphBuilder(name: "middle", inference: outer.inference, parent: outer)
    let inner = GraphBuilder(name: "inner", inference: outer.inference, parent: middle)
    let sum = try inner.node("Add", [inner.importing(x, of: outer), inner.importing(w, of: outer)])
    inner.output(sum)
    #expect(inner.importing(x, of: outer) == inner.graph.captures[0])
    #expect(inner.captured == middle.graph.captures && middle.captured == [x])
    #expect(inner.graph.nodes[0].inputs[1].map { inner.constant($0)?.storage === outer.constant(w)?.storage } == true)
    #expect(inner.fact(sum).description == "float32[3]")
    // Going on with it finds what is captured already.
    let again = GraphBuilder(continuing: inner.subgraph, in: middle)
    #expect(again.importing(x, of: outer) == inner.graph.captures[0] && again.graph.captures.count == 1)
  }

  @Test func upgradesAndRules() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [2, 3])
    let outputs = ["y", "z", "c"].map { builder.addValue($0) }
    try builder.append(
      Node(
        OperatorID("Unsqueeze"), name: "u", inputs: [x], outputs: [outputs[0]],
        attributes: Attributes([("axes", .ints([0]))])), from: 1)
    try builder.append(
      Node(OperatorID("BiasGelu", domain: "com.microsoft"), name: "g", inputs: [x, x], outputs: [outputs[1]]), from: 1)
    try builder.append(
      Node(OperatorID("Constant"), inputs: [], outputs: [outputs[2]], attributes: Attributes([("value_int", .int(3))])),
      from: 13)
    #expect(builder.graph.nodes.map(\.op.name) == ["Unsqueeze", "Add", "Gelu"])
    #expect(outputs.map { builder.fact($0).description } == ["float32[1, 2, 3]", "float32[2, 3]", "int64[]"])
    #expect(builder.constant(outputs[2])?.integers == [3])
  }

  /// A rule that fails behind nodes of its own takes them back.
  @Test func failedReadingLeavesNothing() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [2, 3])
    let node = Node(
      OperatorID("FusedMatMulActivation", domain: "com.microsoft"), name: "f",
      inputs: [x, builder.input("w", [3, 4])],
      outputs: [builder.addValue("y")], attributes: Attributes([("activation", .string("Nonsense"))]))
    #expect(throws: OperatorError.self) { try builder.append(node, from: 1) }
    #expect(builder.graph.nodes.isEmpty)
  }

  @Test func rulesAreNoOperators() throws {
    let registry = OperatorRegistry.standard
    for rule in registry.allImportRules {
      let id = rule.schema.id
      #expect(registry.definition(of: id) == nil, "\(id)")
      #expect(throws: OperatorError.self) { try registry.require(id) }
      #expect(try registry.signature(of: id).versions == rule.schema.versions)
      #expect(!rule.readAs.isEmpty)
    }
    #expect(registry.allImportRules.count > 50)
  }
}
