// Model-local functions: calls become bodies.

import ApusFormats
import ApusGraph
import ApusTensor
import Testing

@Suite struct FunctionTests {
  private func model(_ functions: [FunctionProto], _ nodes: [NodeProto], outputs: [String] = ["y"]) -> ModelProto {
    ModelProto(GraphProto(inputs: ["x"], outputs: outputs, nodes: nodes), functions: functions)
  }

  private func call(
    _ name: String, _ inputs: [String], _ outputs: [String], node: String = "call", overload: String = "",
    _ attributes: [(String, AttributeProto.Content)] = []
  ) -> NodeProto {
    var call = NodeProto(name, inputs, outputs, name: node, domain: "local", attributes)
    call.overload = overload
    return call
  }

  private let double = FunctionProto(
    "Double", inputs: ["a"], outputs: ["b"],
    nodes: [NodeProto("Add", ["a", "a"], ["s"]), NodeProto("Neg", ["s"], ["b"], name: "neg")])

  @Test func inlinesCalls() throws {
    let graph = try model(
      [double], [call("Double", ["x"], ["h"], node: "one"), call("Double", ["h"], ["y"], node: "two")]
    ).loaded().graph
    #expect(
      graph.lines == [
        "one/s: Add(x, x) -> one/s", "one/neg: Neg(one/s) -> h", "two/s: Add(h, h) -> two/s",
        "two/neg: Neg(two/s) -> y",
      ])
  }

  @Test func inlinesCallsInFunctions() throws {
    let four = FunctionProto(
      "Four", inputs: ["p"], outputs: ["q"],
      nodes: [call("Double", ["p"], ["m"], node: "in"), call("Double", ["m"], ["q"], node: "out")])
    let graph = try model([four, double], [call("Four", ["x"], ["y"])]).loaded().graph
    #expect(graph.nodes.map(\.name) == ["call/in/s", "call/in/neg", "call/out/s", "call/out/neg"])
    #expect(graph.names(graph.outputs) == ["y"])
  }

  @Test func passesAttributes() throws {
    let scaled = FunctionProto(
      "Scaled", inputs: ["a"], outputs: ["b"], attributes: ["label"], defaults: [("k", .float(2))],
      nodes: [NodeProto("Scale", ["a"], ["b"], [("factor", .reference("k")), ("label", .reference("label"))])])
    let outer = FunctionProto(
      "Outer", inputs: ["a"], outputs: ["b"], attributes: ["z"],
      nodes: [call("Scaled", ["a"], ["b"], [("k", .reference("z"))])])
    func attributes(_ node: NodeProto) throws -> Attributes {
      try model([scaled, outer], [node]).loaded().graph.nodes[0].attributes
    }
    #expect(try attributes(call("Scaled", ["x"], ["y"])).float("factor") == 2)
    #expect(try attributes(call("Scaled", ["x"], ["y"])).string("label") == nil)
    let given = try attributes(call("Scaled", ["x"], ["y"], [("k", .float(3)), ("label", .string(Array("hi".utf8)))]))
    #expect(given.float("factor") == 3 && given.string("label") == "hi")
    #expect(try attributes(call("Outer", ["x"], ["y"], [("z", .float(5))])).float("factor") == 5)
    #expect(
      try attributes(call("Outer", ["x"], ["y"])).float("factor") == 2, "a reference to nothing leaves the default")
    #expect(
      model([scaled], [call("Scaled", ["x"], ["y"], [("q", .int(1))])]).problems().map(\.reason) == [
        "the function has no attribute q"
      ])
  }

  @Test func choosesOverloads() throws {
    let other = FunctionProto(
      "Double", inputs: ["a"], outputs: ["b"], overload: "v2", nodes: [NodeProto("Neg", ["a"], ["b"])])
    #expect(try model([double, other], [call("Double", ["x"], ["y"], overload: "v2")]).loaded().graph.nodes.count == 1)
    #expect(try model([double, other], [call("Double", ["x"], ["y"])]).loaded().graph.nodes.count == 2)
  }

  @Test func leavesOutAbsentInputsAndUnwantedOutputs() throws {
    let function = FunctionProto(
      "Maybe", inputs: ["a", "b"], outputs: ["c", "d"],
      nodes: [NodeProto("Add", ["a", "b"], ["c"]), NodeProto("Add", ["b", "a"], ["d"])])
    let graph = try model([function], [call("Maybe", ["x"], ["y"])]).loaded().graph
    #expect(graph.lines == ["call/c: Add(x) -> y", "call/d: Add(, x) -> call/d"])
  }

  @Test func keepsTheNamesOfOutputsThatAreInputs() throws {
    let swap = FunctionProto("Swap", inputs: ["a", "b"], outputs: ["b", "a"], nodes: [])
    let twice = FunctionProto("Twice", inputs: ["a"], outputs: ["n", "n"], nodes: [NodeProto("Neg", ["a"], ["n"])])
    let graph = try model(
      [swap, twice], [call("Twice", ["x"], ["p", "q"]), call("Swap", ["p", "q"], ["y", "z"])], outputs: ["y", "z"]
    )
    .loaded().graph
    #expect(graph.names(graph.outputs) == ["y", "z"])
    #expect(
      graph.lines == [
        "call/n: Neg(x) -> p", "q: Identity(p) -> q", "y: Identity(q) -> y", "z: Identity(p) -> z",
      ])
  }

  @Test func subgraphsOfFunctionsSeeTheFunction() throws {
    let branch = GraphProto(outputs: ["t"], nodes: [NodeProto("Scale", ["s"], ["t"], [("factor", .reference("k"))])])
    let function = FunctionProto(
      "Choose", inputs: ["a"], outputs: ["b"], attributes: ["k"],
      nodes: [
        NodeProto("Neg", ["a"], ["s"]),
        NodeProto("If", ["a"], ["b"], [("then_branch", .graph(branch)), ("else_branch", .graph(branch))]),
      ])
    let graph = try model([function], [call("Choose", ["x"], ["y"], [("k", .float(7))])]).loaded().graph
    let subgraph = try #require(graph.nodes[1].attributes.graph("then_branch"))
    #expect(graph.names(subgraph.captured) == ["call/s"])
    #expect(subgraph.graph.nodes[0].attributes.float("factor") == 7)
    // The names of the caller are no names of the function.
    let blind = FunctionProto("Blind", inputs: [], outputs: ["b"], nodes: [NodeProto("Neg", ["x"], ["b"])])
    #expect(
      model([blind], [call("Blind", [], ["y"])]).problems().map(\.reason).first
        == "input 0 is 'x', which is defined nowhere")
  }

  @Test func graphsAsArgumentsSeeTheCaller() throws {
    let function = FunctionProto(
      "Apply", inputs: ["a"], outputs: ["b"], attributes: ["g"],
      nodes: [NodeProto("If", ["a"], ["b"], [("then_branch", .reference("g")), ("else_branch", .reference("g"))])])
    let argument = GraphProto(outputs: ["t"], nodes: [NodeProto("Neg", ["h"], ["t"])])
    let graph = try model(
      [function], [NodeProto("Neg", ["x"], ["h"]), call("Apply", ["x"], ["y"], [("g", .graph(argument))])]
    ).loaded().graph
    let subgraph = try #require(graph.nodes[1].attributes.graph("else_branch"))
    #expect(graph.names(subgraph.captured) == ["h"])
  }

  @Test func refusesRecursion() {
    let a = FunctionProto("A", inputs: ["i"], outputs: ["o"], nodes: [call("B", ["i"], ["o"], node: "b")])
    let b = FunctionProto("B", inputs: ["i"], outputs: ["o"], nodes: [call("A", ["i"], ["o"], node: "a")])
    let problems = model([a, b], [call("A", ["x"], ["y"])]).problems()
    #expect(problems.first?.reason == "the function calls itself")
    #expect(problems.first?.nodePath == "local.A 'call' › local.B 'b' › local.A 'a'")
  }

  @Test func boundsWhatCallsBecome() {
    // Twenty functions, each of which calls the next ten times: 10^20 nodes.
    let functions = (0..<20).map { level in
      FunctionProto(
        "F\(level)", inputs: ["i"], outputs: ["o9"],
        nodes: (0..<10).map { call("F\(level + 1)", [$0 == 0 ? "i" : "o\($0 - 1)"], ["o\($0)"], node: "c\($0)") })
    }
    let last = FunctionProto("F20", inputs: ["i"], outputs: ["o9"], nodes: [NodeProto("Neg", ["i"], ["o9"])])
    do {
      _ = try model(functions + [last], [call("F0", ["x"], ["y"])]).loaded { $0.limits.maximumNodes = 10_000 }
      Issue.record("loaded")
    } catch {
      #expect(error.code == .limitExceeded)
    }
    // A chain of more calls than may lie in each other.
    let chain = (0..<200).map { level in
      FunctionProto("F\(level)", inputs: ["i"], outputs: ["o"], nodes: [call("F\(level + 1)", ["i"], ["o"], node: "c")])
    }
    do {
      _ = try model(chain, [call("F0", ["x"], ["y"])]).loaded()
      Issue.record("loaded")
    } catch {
      #expect(error.message.contains("maximumNesting"))
    }
  }
}
