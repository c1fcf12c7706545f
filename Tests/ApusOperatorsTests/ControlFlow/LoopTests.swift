// Loop, Scan, If and SequenceMap: zero iterations, growing shapes, facts that hold for every iteration.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct LoopTests {
  /// A body that appends the counter to a vector and returns the counter as scan output.
  static func growingBody(declared: [Dim]) throws -> Graph {
    let builder = GraphBuilder()
    let counter = builder.input("i", [], .int64)
    let condition = builder.input("c", [], .bool)
    let vector = builder.input("v", declared, .int64)
    let one = builder.constant([1], [1])
    let element = try builder.node("Reshape", [counter, one])
    let grown = try builder.node("Concat", [vector, element], [("axis", .int(0))])
    builder.output(condition, grown, element)
    return builder.graph
  }

  @Test func growingValue() throws {
    let body = Subgraph(graph: try Self.growingBody(declared: [1]), captured: [])
    let run = OperatorRun("Loop", attributes: [("body", .graph(body))])
    let results = try run(Tensor(scalar: 3), nil, Tensor([7]), outputs: 2)
    #expect(results[0].elements(as: Int.self) == [7, 0, 1, 2])
    #expect(results[1].shape == [3, 1])
    #expect(results[1].elements(as: Int.self) == [0, 1, 2])
  }

  @Test func noIteration() throws {
    let body = Subgraph(graph: try Self.growingBody(declared: [1]), captured: [])
    let run = OperatorRun("Loop", attributes: [("body", .graph(body))])
    for (trips, condition) in [(0, true), (5, false)] {
      let results = try run(Tensor(scalar: trips), Tensor(scalar: condition), Tensor([7]), outputs: 2)
      #expect(results[0].elements(as: Int.self) == [7])
      #expect(results[1].dataType == .int64)
      #expect(results[1].shape == [0, 1])
    }
  }

  /// Without a first condition the loop is one over a number, and those of the body do not count.
  @Test func conditionsWithoutAFirstOne() throws {
    let builder = GraphBuilder()
    let counter = builder.input("i", [], .int64)
    let condition = builder.input("c", [], .bool)
    builder.output(try builder.node("Not", [condition]), counter)
    let run = OperatorRun("Loop", attributes: [("body", .graph(Subgraph(graph: builder.graph, captured: [])))])
    #expect(try run(Tensor(scalar: 3), nil)[0].elements(as: Int.self) == [0, 1, 2])
    #expect(try run(Tensor(scalar: 3), Tensor(scalar: true))[0].elements(as: Int.self) == [0])
  }

  /// The extent of a carried value that grows must not stay what the first iteration or the body's declaration says.
  @Test func factsOfTheBody() throws {
    let builder = GraphBuilder()
    let start = builder.input("start", [1], .int64)
    let trips = builder.input("trips", [], .int64)
    let body = Subgraph(graph: try Self.growingBody(declared: [1]), captured: [])
    let result = try builder.node("Loop", [trips, nil, start], [("body", .graph(body))])
    #expect(builder.graph.fact(result) == .tensor(.int64, [.unknown]))
    let inner = try #require(builder.graph.nodes[0].attributes.graph("body")).graph
    #expect(inner.fact(inner.inputs[2]) == .tensor(.int64, [.unknown]))
  }

  @Test func sequenceMapOfNothing() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [2])
    builder.output(try builder.node("Neg", [x]))
    let body = Subgraph(graph: builder.graph, captured: [])
    let run = OperatorRun("SequenceMap", attributes: [("body", .graph(body))])
    let results = try run([.sequence([], elementType: .tensor(.float32, nil))])
    #expect(results[0].sequence?.isEmpty == true)
    #expect(results[0].type == .sequence(.tensor(.float32, nil)))
  }
}
