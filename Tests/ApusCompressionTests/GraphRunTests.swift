// What every compression starts from: values with names, and a graph that runs.

import ApusCompression
import ApusGraph
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct GraphRunTests {
  @Test func valuesGetDistinctNames() throws {
    let builder = GraphBuilder()
    let x = builder.input("n1", [2])
    let a = try builder.node("Relu", [x])
    let b = try builder.node("Neg", [a])
    builder.output(b)
    var graph = builder.graph
    graph.nameValues()
    let names = graph.nodes.compactMap { $0.outputs[0] }.map { graph[$0].name }
    #expect(Set(names + ["n1"]).count == 3 && !names.contains(""))
  }

  @Test func runsWithoutChangingTheGraph() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 3])
    let y = try builder.node("MatMul", [x, builder.weights([3, 2])])
    builder.output(try builder.node("Relu", [y]))
    let graph = builder.graph
    let run = try GraphRun(graph, in: RunSurroundings(pool: WorkerPool(threads: 2)))
    for rows in [1, 4, 2] {
      let outputs = try run.outputs(for: [.tensor(sampleTensor([rows, 3], seed: rows))])
      #expect(outputs.first?.tensor?.shape == [rows, 2])
    }
    #expect(graph.nodes.count == 2)
  }
}
