// Values that a Loop or Scan carries unchanged, and constants from outside: constants inside.

import ApusGraph
import ApusOptimizer
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct SubgraphConstantsTests {
  /// x = x · w, three times, with w carried beside it, through an Identity.
  private func loop(initialWeights: (GraphBuilder) throws -> ValueID, returnsWeights: Bool) throws -> Graph {
    let body = GraphBuilder()
    _ = body.input("i", [], .int64)
    let condition = body.input("c", [], .bool)
    let (x, w) = (body.input("x", [2, 4]), body.input("w", [4, 4]))
    body.output(condition, try body.node("MatMul", [x, w]), try body.node("Identity", [w]))
    let builder = GraphBuilder()
    let start = builder.input("start", [2, 4])
    let weights = try initialWeights(builder)
    let trips = builder.constant([3], [])
    builder.graph.outputs = try builder.apply(
      OperatorID("Loop"), name: "loop", [trips, nil, start, weights], [("body", .graph(body.subgraph))],
      outputCount: returnsWeights ? 2 : 1)
    return builder.graph
  }

  private func body(of graph: Graph) -> Graph? {
    guard case .graph(let subgraph)? = graph.nodes.first(where: { $0.op.name == "Loop" })?.attributes["body"] else {
      return nil
    }
    return subgraph.graph
  }

  private func run(_ graph: Graph, _ inputs: [Tensor]) throws -> [Tensor] {
    let pool = WorkerPool(threads: 1)
    return try Program(graph: graph, registry: .standard, pool: pool).run(inputs.map { .tensor($0) }, on: pool)
      .compactMap(\.tensor)
  }

  @Test(arguments: [false, true]) func carriedWeights(_ returnsWeights: Bool) throws {
    let plain = try loop(initialWeights: { $0.weights([4, 4]) }, returnsWeights: returnsWeights)
    var graph = plain
    _ = try Optimizer(registry: .standard).optimize(&graph)
    let inner = try #require(body(of: graph))
    #expect(inner.inputs.count == 3 && inner.outputs.count == 2 && inner.captures.isEmpty)
    let product = try #require(inner.nodes.first { $0.inputs.count >= 2 })
    #expect(inner.constant(product.inputs[1]) != nil)
    let x = sampleTensor([2, 4], seed: 7)
    let (found, expected) = (try run(graph, [x]), try run(plain, [x]))
    #expect(found.count == expected.count)
    for (a, b) in zip(found, expected) { #expect(largestDifference(a, b) <= 1e-6) }
  }

  /// Not a constant: captured, and what the loop returned of it is the value itself.
  @Test func carriedInput() throws {
    let plain = try loop(initialWeights: { $0.input("w", [4, 4]) }, returnsWeights: true)
    var graph = plain
    _ = try Optimizer(registry: .standard).optimize(&graph)
    #expect(body(of: graph)?.captures.count == 1)
    let inputs = [sampleTensor([2, 4], seed: 1), sampleTensor([4, 4], seed: 2)]
    for (a, b) in zip(try run(graph, inputs), try run(plain, inputs)) { #expect(largestDifference(a, b) <= 1e-6) }
    // No iteration: what went in comes out.
    let results = try run(graph, inputs)
    #expect(largestDifference(results[1], inputs[1]) == 0)
  }

  /// A constant that only folding makes one is a constant inside, too.
  @Test func foldedCapture() throws {
    let branch = GraphBuilder()
    let captured = branch.input("w", [4])
    let doubled = try branch.node("Add", [captured, captured])
    branch.output(doubled)
    var inner = branch.graph
    inner.inputs = []
    inner.captures = [captured]
    let builder = GraphBuilder()
    let condition = builder.input("c", [], .bool)
    let weights = try builder.node("Neg", [builder.weights([4])])
    let subgraph = Subgraph(graph: inner, captured: [weights])
    builder.output(
      try builder.node("If", [condition], [("then_branch", .graph(subgraph)), ("else_branch", .graph(subgraph))]))
    let plain = builder.graph
    var graph = plain
    _ = try Optimizer(registry: .standard).optimize(&graph)
    for (_, subgraph) in graph.nodes.flatMap(\.subgraphs) {
      #expect(
        subgraph.captured.isEmpty && subgraph.graph.nodes.isEmpty
          && subgraph.graph.constant(subgraph.graph.outputs[0]) != nil)
    }
    let condition1 = Tensor(scalar: true)
    #expect(largestDifference(try run(graph, [condition1])[0], try run(plain, [condition1])[0]) == 0)
  }

  @Test func scanStates() throws {
    let body = GraphBuilder()
    let (state, weights, x) = (body.input("s", [4]), body.input("w", [4]), body.input("x", [4]))
    let product = try body.node("Mul", [x, weights])
    body.output(try body.node("Add", [state, product]), weights, product)
    let builder = GraphBuilder()
    let (start, sequence) = (builder.input("start", [4]), builder.input("xs", [3, 4]))
    let w = builder.weights([4])
    builder.graph.outputs = try builder.apply(
      OperatorID("Scan"), name: "scan", [start, w, sequence],
      [("body", .graph(body.subgraph)), ("num_scan_inputs", .int(1))], outputCount: 3)
    let plain = builder.graph
    var graph = plain
    _ = try Optimizer(registry: .standard).optimize(&graph)
    guard case .graph(let subgraph)? = graph.nodes.first(where: { $0.op.name == "Scan" })?.attributes["body"] else {
      Issue.record("no Scan")
      return
    }
    #expect(subgraph.graph.inputs.count == 2 && subgraph.captured.isEmpty)
    let inputs = [sampleTensor([4], seed: 1), sampleTensor([3, 4], seed: 2)]
    for (a, b) in zip(try run(graph, inputs), try run(plain, inputs)) { #expect(largestDifference(a, b) == 0) }
  }
}
