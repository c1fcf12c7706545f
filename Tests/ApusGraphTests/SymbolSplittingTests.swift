// One name of a file on several extents: symbols that are equal only where the graph needs it.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct SymbolSplittingTests {
  private func split(_ build: (GraphBuilder) throws -> Void) throws -> Graph {
    let builder = GraphBuilder()
    try build(builder)
    var declared = builder.graph
    for index in declared.values.indices
    where !declared.inputs.contains(ValueID(index)) && declared.values[index].constant == nil {
      declared.values[index].fact = .unknown
    }
    return try SymbolSplitting.split(declared: declared, inferred: builder.graph, registry: .standard)
  }

  private func text(_ graph: Graph, _ value: ValueID) -> String { graph.fact(value).description }

  @Test func concatenated() throws {
    let graph = try split { builder in
      let (a, b) = (builder.input("a", [.symbol("N")]), builder.input("b", [.symbol("N")]))
      builder.output(try builder.node("Concat", [a, b], [("axis", .int(0))]))
    }
    #expect(graph.inputs.map { text(graph, $0) } == ["float32[N]", "float32[N_2]"])
    #expect(text(graph, graph.outputs[0]) == "float32[N + N_2]")
  }

  /// Sums need one extent; a third input of the same name does not.
  @Test func added() throws {
    let graph = try split { builder in
      let square: [Dim] = [.symbol("N"), .symbol("M")]
      let (a, b, c) = (builder.input("a", square), builder.input("b", square), builder.input("c", [.symbol("N")]))
      builder.output(try builder.node("Relu", [builder.node("Add", [a, b])]), try builder.node("Neg", [c]))
    }
    #expect(graph.inputs.map { text(graph, $0) } == ["float32[N, M]", "float32[N, M]", "float32[N_3]"])
    #expect(text(graph, graph.outputs[0]) == "float32[N, M]")
  }

  /// A name that is taken is not given again, and names of one extent stay.
  @Test func names() throws {
    let graph = try split { builder in
      let inputs = [
        builder.input("a", [.symbol("N"), .symbol("N")]), builder.input("b", [.symbol("N_2"), .symbol("K")]),
      ]
      for input in inputs { builder.output(try builder.node("Neg", [input])) }
    }
    #expect(graph.inputs.map { text(graph, $0) } == ["float32[N, N_3]", "float32[N_2, K]"])
  }

  /// What the shared name made look like a number is not one.
  @Test func differences() throws {
    let graph = try split { builder in
      let (a, b) = (builder.input("a", [.symbol("N")]), builder.input("b", [.symbol("N")]))
      let difference = try builder.node("Sub", [builder.node("Shape", [a]), builder.node("Shape", [b])])
      builder.output(difference)
    }
    #expect(graph.fact(graph.outputs[0]).tensor?.values?.first?.known == nil)
  }
}
