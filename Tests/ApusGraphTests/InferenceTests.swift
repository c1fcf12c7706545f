// Inferring a graph again: what changed shows, whatever was remembered of the inference before.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct InferenceTests {
  private let driver = InferenceDriver(registry: .standard)

  private func text(_ graph: Graph) -> String { graph.fact(graph.outputs[0]).description }

  /// Infers twice, so that the second time goes by what is remembered.
  private func settle(_ graph: inout Graph) { for _ in 0..<2 { #expect(driver.infer(&graph).isEmpty) } }

  /// Changes the first node.
  private func change(_ graph: inout Graph, _ change: (inout Node) -> Void) {
    var editor = GraphEditor(graph, inference: driver)
    if let first = editor.firstNode { editor.update(first, change) }
    graph = editor.finish()
  }

  @Test func changedAttributes() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [2, 3, 4])
    builder.output(try builder.node("Transpose", [x], [("perm", .ints([1, 0, 2]))]))
    var graph = builder.graph
    settle(&graph)
    #expect(text(graph) == "float32[3, 2, 4]")
    change(&graph) { $0.attributes["perm"] = .ints([2, 1, 0]) }
    graph[graph.outputs[0]].fact = .unknown
    settle(&graph)
    #expect(text(graph) == "float32[4, 3, 2]")
  }

  @Test func changedInputs() throws {
    let builder = GraphBuilder()
    let (x, y) = (builder.input("x", [2, 3]), builder.input("y", [5, 3]))
    builder.output(try builder.node("Neg", [builder.node("Relu", [x])]))
    var graph = builder.graph
    settle(&graph)
    change(&graph) { $0.inputs = [y] }
    for node in graph.nodes { graph[node.outputs[0]!].fact = .unknown }
    settle(&graph)
    #expect(text(graph) == "float32[5, 3]")
    graph[y].fact = .tensor(.float32, [.symbol("n"), 3])
    for node in graph.nodes { graph[node.outputs[0]!].fact = .unknown }
    settle(&graph)
    #expect(text(graph) == "float32[n, 3]")
  }

  /// A constant of the same type and shape with other elements.
  @Test func changedConstants() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [2, 6])
    let target = builder.constant([3, 4], [2])
    builder.output(try builder.node("Reshape", [x, target]))
    var graph = builder.graph
    settle(&graph)
    #expect(text(graph) == "float32[3, 4]")
    let other = Tensor([4, 3])
    graph[target].constant = other
    graph[target].fact = .tensor(TensorFact(other))
    graph[graph.outputs[0]].fact = .unknown
    settle(&graph)
    #expect(text(graph) == "float32[4, 3]")
  }

  /// What another pass forgot of an output is inferred again.
  @Test func forgottenOutputs() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [2, 3])
    builder.output(try builder.node("Relu", [x]))
    var graph = builder.graph
    settle(&graph)
    graph[graph.outputs[0]].fact = .unknown
    #expect(driver.infer(&graph).isEmpty)
    #expect(text(graph) == "float32[2, 3]")
  }
}
