// From messages to graphs: names, order, scopes, versions, and all problems at once.

import ApusFormats
import ApusGraph
import ApusTensor
import Testing

@Suite struct ImporterTests {
  private func tensor(_ name: String, _ values: [Float]) -> TensorProto { TensorProto(name: name, Tensor(values)) }

  @Test func readsGraphs() throws {
    var proto = ModelProto(
      GraphProto(
        inputs: ["in/x.0"], outputs: ["y", "y", "in/x.0", "w"],
        nodes: [
          NodeProto("Add", ["in/x.0", "w", ""], ["h"], name: "layer/add"),
          NodeProto("Neg", ["h"], ["y"], domain: "ai.onnx"),
        ],
        initializers: [tensor("w", [1, 2, 3])]))
    proto.metadata = [StringEntry(key: "labels", value: "a\nb")]
    proto.producerName = "test"
    let model = try proto.loaded()
    #expect(model.graph.lines == ["layer/add: Add(in/x.0, w) -> h", "y: Neg(h) -> y"])
    #expect(model.graph.names(model.graph.outputs) == ["y", "y", "in/x.0", "w"])
    #expect(model.graph.fact(model.graph.inputs[0]).description == "float32[n, 3]")
    #expect(model.graph.fact(model.graph.outputs[0]).description == "float32[n, 3]")
    #expect(model.metadata.map(\.value) == ["a\nb"])
    #expect(model.producer == "test" && model.irVersion == 10 && model.opsets == ["": 17, "local": 1])
  }

  @Test func initializersThatAreInputsAreConstants() throws {
    let proto = ModelProto(
      GraphProto(
        inputs: ["x", "w"], outputs: ["y"], nodes: [NodeProto("Add", ["x", "w"], ["y"])],
        initializers: [tensor("w", [1])]),
      irVersion: 3)
    #expect(try proto.loaded().graph.inputs.count == 1)
    let overridden = try proto.loaded { $0.overridableInputs = ["w"] }.graph
    #expect(overridden.names(overridden.inputs) == ["x", "w"])
  }

  @Test func sortsNodes() throws {
    let nodes = [
      NodeProto("Neg", ["b"], ["c"]), NodeProto("Neg", ["x"], ["a"]), NodeProto("Add", ["a", "a"], ["b"]),
    ]
    #expect(
      try ModelProto(GraphProto(inputs: ["x"], outputs: ["c"], nodes: nodes)).loaded().graph.nodes.map(\.name) == [
        "a", "b", "c",
      ])
    // A node with a subgraph comes after what the subgraph takes from outside.
    let branch = GraphProto(outputs: ["t"], nodes: [NodeProto("Neg", ["a"], ["t"])])
    let choice = NodeProto("If", ["x"], ["c"], [("then_branch", .graph(branch)), ("else_branch", .graph(branch))])
    let graph = try ModelProto(GraphProto(inputs: ["x"], outputs: ["c"], nodes: [choice, nodes[1]])).loaded().graph
    #expect(graph.nodes.map(\.name) == ["a", "c"])
  }

  private func gradient(_ inputs: [String], _ outputs: [String], xs: [String], zs: [String]? = nil, y: String)
    -> NodeProto
  {
    var attributes: [(String, AttributeProto.Content)] = [
      ("xs", .strings(xs.map { Array($0.utf8) })), ("y", .string(Array(y.utf8))),
    ]
    if let zs { attributes.append(("zs", .strings(zs.map { Array($0.utf8) }))) }
    return NodeProto("Gradient", inputs, outputs, domain: "ai.onnx.preview.training", attributes)
  }

  @Test func gradientsNameValues() throws {
    // Before what they name in the file, and one of another.
    let nodes = [
      gradient(["x", "w"], ["h"], xs: ["x"], zs: ["w"], y: "g"), gradient(["x"], ["g"], xs: ["x"], y: "y"),
      NodeProto("Add", ["x", "w"], ["y"]),
    ]
    let graph = try ModelProto(GraphProto(inputs: ["x", "w"], outputs: ["h"], nodes: nodes)).loaded().graph
    #expect(
      graph.lines.map { $0.replacing("test.", with: "") } == [
        "y: Add(x, w) -> y", "g: Gradient(x, x, y) -> g", "h: Gradient(x, w, x, w, g) -> h",
      ])
    let lost = ModelProto(GraphProto(inputs: ["x"], outputs: ["g"], nodes: [gradient(["x"], ["g"], xs: ["x"], y: "z")]))
      .problems()
    #expect(lost.map(\.reason).contains("attribute y names 'z', which is defined nowhere"))
    let circle = [NodeProto("Neg", ["g"], ["y"]), gradient(["x"], ["g"], xs: ["x"], y: "y")]
    #expect(ModelProto(GraphProto(inputs: ["x"], outputs: ["g"], nodes: circle)).problems().count == 1)
  }

  @Test func findsCycles() {
    let nodes = [NodeProto("Neg", ["b"], ["a"]), NodeProto("Neg", ["a"], ["b"]), NodeProto("Neg", ["c"], ["c"])]
    let problems = ModelProto(GraphProto(outputs: ["a"], nodes: nodes)).problems()
    #expect(problems.map(\.reason) == ["these nodes wait for each other: Neg 'a' → Neg 'b'"])
  }

  @Test func makesCapturesExplicit() throws {
    // Two levels: the inner graph uses a value of the outermost, a constant, and one that it shadows.
    let inner = GraphProto(
      outputs: ["r"], nodes: [NodeProto("Add", ["x", "w"], ["x2"]), NodeProto("Add", ["x2", "m"], ["r"])])
    let middle = GraphProto(
      outputs: ["q"],
      nodes: [
        NodeProto("Neg", ["x"], ["m"]),
        NodeProto("If", ["x"], ["q"], name: "inner", [("then_branch", .graph(inner)), ("else_branch", .graph(inner))]),
      ])
    let outer = NodeProto(
      "If", ["x"], ["y"], name: "outer", [("then_branch", .graph(middle)), ("else_branch", .graph(middle))])
    let graph = try ModelProto(
      GraphProto(inputs: ["x"], outputs: ["y"], nodes: [outer], initializers: [tensor("w", [1])])
    ).loaded().graph
    let first = try #require(graph.nodes[0].attributes.graph("then_branch"))
    #expect(graph.names(first.captured) == ["x"])
    #expect(first.graph.names(first.graph.captures) == ["x"])
    let second = try #require(first.graph.nodes[1].attributes.graph("else_branch"))
    #expect(first.graph.names(second.captured) == ["x", "m"])
    #expect(second.graph.names(second.graph.captures) == ["x", "m"])
    #expect(second.graph.lines == ["x2: Add(x, w) -> x2", "r: Add(x2, m) -> r"])
    let shared = second.graph.values.first { $0.name == "w" }
    #expect(shared?.constant?.storage === graph.values.first { $0.name == "w" }?.constant?.storage)
  }

  @Test func readsConstants() throws {
    let kinds: [(String, AttributeProto.Content, String)] = [
      ("value", .tensor(tensor("", [1, 2])), "float32[2]"), ("value_int", .int(3), "int64[]"),
      ("value_ints", .ints([1, 2, 3]), "int64[3]"), ("value_float", .float(1), "float32[]"),
      ("value_floats", .floats([1]), "float32[1]"), ("value_string", .string(Array("a".utf8)), "string[]"),
      ("value_strings", .strings([[], []]), "string[2]"),
    ]
    for (name, content, fact) in kinds {
      let model = try ModelProto(
        GraphProto(outputs: ["c"], nodes: [NodeProto("Constant", [], ["c"], [(name, content)])])
      ).loaded()
      #expect(model.graph.nodes.isEmpty)
      #expect(model.graph.fact(model.graph.outputs[0]).description == fact)
    }
    let none = ModelProto(GraphProto(outputs: ["c"], nodes: [NodeProto("Constant", [], ["c"])]))
    #expect(none.problems().count == 1)
  }

  @Test func upgradesOldNodes() throws {
    let node = NodeProto("AddAxis", ["x"], ["y"], [("axis", .int(1))])
    let graph = try ModelProto(GraphProto(inputs: ["x"], outputs: ["y"], nodes: [node]), opset: 12).loaded().graph
    #expect(graph.nodes[0].inputs.count == 2 && graph.nodes[0].attributes.entries.isEmpty)
    #expect(
      ModelProto(GraphProto(inputs: ["x"], outputs: ["y"], nodes: [node]), opset: 13).problems().map(\.reason) == [
        "attribute axis is not known to AddAxis"
      ])
  }

  @Test func reportsAllProblemsAtOnce() {
    var graph = GraphProto(
      inputs: ["x", "x"], outputs: ["y", "nowhere"],
      nodes: [
        NodeProto("Unheard", ["x"], ["a"], name: "first"), NodeProto("neg", ["a"], ["b"]),
        NodeProto("Young", ["b"], ["c"]),
        NodeProto("Scale", ["c"], ["d"], [("factor", .int(1))]),
        NodeProto("Scale", ["d"], ["e"], [("label", .string([0xFF]))]),
        NodeProto("Add", ["e", "missing"], ["f"]), NodeProto("Neg", ["f"], ["x"]),
        NodeProto("Neg", ["f"], ["y"], domain: "other"),
        NodeProto("Scale", ["f"], ["g"], [("factor", .float(1)), ("factor", .float(2))]),
        NodeProto("Scale", ["f"], ["h"], [("factor", .reference("outer"))]),
      ])
    var broken = TensorProto(content: .external([]))
    broken.name = "w"
    broken.dataType = 1
    graph.initializers = [broken]
    let reasons = ModelProto(graph).problems().map(\.description)
    let expected = [
      "the value 'x' is defined twice", "tensor 'w': external data without a location",
      "Unheard 'first': operator Unheard is not known",
      "Did you mean Neg?", "Young 'c': Young exists from version 20", "attribute factor is of kind int; expected float",
      "attribute label: the string is no valid UTF-8", "input 1 is 'missing', which is defined nowhere",
      "the value 'x' is defined twice",
      "operator other.Neg is not known", "factor is there twice", "this is outside of functions",
      "output 'nowhere' of the graph",
    ]
    #expect(reasons.count == expected.count)
    for (reason, text) in zip(reasons, expected) { #expect(reason.contains(text), "\(reason)") }
  }

  @Test func checksVersions() {
    let graph = GraphProto(inputs: ["x"], outputs: ["x"], nodes: [])
    #expect(
      ModelProto(graph, opset: 29).problems().map(\.reason) == ["the model uses operator set 29; Apus knows up to 28"])
    #expect(ModelProto(graph, irVersion: 15).problems().count == 1)
    #expect(throws: LoadError.self) { try ONNXReader.load(FileBytes(copying: []), registry: StandIn.registry) }
    #expect(throws: LoadError.self) {
      try ONNXReader.load(FileBytes(copying: Array("GIF89a".utf8)), registry: StandIn.registry)
    }
  }
}
