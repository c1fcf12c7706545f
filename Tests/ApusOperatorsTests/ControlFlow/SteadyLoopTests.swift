// Loop and Scan whose bodies are run with one plan for all iterations: where states lie, what is written over, and what
// is collected.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct SteadyLoopTests {
  private static let state = 3
  private static let large = 4_000

  /// A loop of `trips` iterations over vectors of floats, whose body is given counter, condition and states.
  private func loop(
    trips: Int?, condition: Bool? = true, _ states: [[Float]], outputs: Int,
    _ make: (GraphBuilder, _ counter: ValueID, _ condition: ValueID, _ states: [ValueID]) throws -> [ValueID]
  ) throws -> [Tensor] {
    let builder = GraphBuilder()
    let counter = builder.input("i", [], .int64)
    let given = builder.input("c", [], .bool)
    let inputs = states.indices.map { builder.input("s\($0)", [Dim(states[$0].count)]) }
    for value in try make(builder, counter, given, inputs) { builder.output(value) }
    let run = OperatorRun("Loop", attributes: [("body", .graph(Subgraph(graph: builder.graph, captured: [])))])
    let first: [Tensor?] = [trips.map { Tensor(scalar: $0) }, condition.map { Tensor(scalar: $0) }]
    let values = (first + states.map { Tensor($0) }).map { $0.map { Value.tensor($0) } }
    return try run(values, outputs: outputs).compactMap(\.tensor)
  }

  /// States that change places, and one that is what another one was two iterations before.
  @Test(arguments: [state, large]) func statesThatAreHandedOn(count: Int) throws {
    let vectors = (0..<4).map { number in (0..<count).map { Float($0 % 7 + 10 * number) } }
    let results = try loop(trips: 5, vectors, outputs: 5) { builder, _, condition, states in
      let next = try builder.node("Neg", [states[1]])
      return [condition, states[1], next, states[0], states[2], states[0]]
    }
    var expected = vectors
    var collected: [Float] = []
    for _ in 0..<5 {
      collected += expected[0]
      expected = [expected[1], expected[1].map { -$0 }, expected[0], expected[2]]
    }
    for index in 0..<4 { #expect(results[index].elements(as: Float.self) == expected[index]) }
    #expect(results[4].elements(as: Float.self) == collected)
    #expect(results[4].shape == [5, count])
  }

  /// What is written over is the loop's own: neither what it was given nor what was collected.
  @Test(arguments: [state, large]) func givenStatesStay(count: Int) throws {
    let vector = (0..<count).map { Float($0 % 5) }
    let results = try loop(trips: 40, [vector, vector], outputs: 4) { builder, _, condition, states in
      let sum = try builder.node("Add", [states[0], states[1]])
      let negative = try builder.node("Neg", [states[1]])
      return [condition, sum, negative, sum, states[0]]
    }
    var (first, second) = (vector, vector)
    var (sums, before): ([Float], [Float]) = ([], [])
    for _ in 0..<40 {
      before += first
      first = zip(first, second).map { $0 + $1 }
      second = second.map { -$0 }
      sums += first
    }
    #expect(results[0].elements(as: Float.self) == first)
    #expect(results[1].elements(as: Float.self) == second)
    #expect(results[2].elements(as: Float.self) == sums)
    #expect(results[3].elements(as: Float.self) == before)
  }

  /// Loops that end by their condition, after fewer or more iterations than are collected together.
  @Test(arguments: [1, 2, 16, 17, 100]) func endsByItsCondition(count: Int) throws {
    for trips in [nil, Int.max, count + 5, count] {
      let results = try loop(trips: trips, [[0]], outputs: 3) { builder, counter, _, states in
        let one = builder.addConstant(Tensor([1] as [Float]))
        let last = builder.addConstant(Tensor(scalar: count - 1))
        return [
          try builder.node("Less", [counter, last]), try builder.node("Add", [states[0], one]), counter, states[0],
        ]
      }
      #expect(results[0].elements(as: Float.self) == [Float(count)])
      #expect(results[1].elements(as: Int.self) == Array(0..<count))
      #expect(results[1].shape == [count])
      #expect(results[2].elements(as: Float.self) == (0..<count).map { Float($0) })
    }
  }

  /// A counter that lives on as a state, and collected constants.
  @Test func countersAsStates() throws {
    let builder = GraphBuilder()
    let counter = builder.input("i", [], .int64)
    let condition = builder.input("c", [], .bool)
    let states = [builder.input("a", [], .int64), builder.input("b", [], .int64)]
    let double = try builder.node("Add", [states[1], states[1]])
    let constant = builder.addConstant(Tensor([4, 5]))
    builder.output(condition, counter, states[0], double, constant)
    let run = OperatorRun("Loop", attributes: [("body", .graph(Subgraph(graph: builder.graph, captured: [])))])
    let results = try run(Tensor(scalar: 6), nil, Tensor(scalar: 70), Tensor(scalar: 80), outputs: 4)
    #expect(results[0].elements(as: Int.self) == [5])
    #expect(results[1].elements(as: Int.self) == [4])
    #expect(results[2].elements(as: Int.self) == [160, 140, 0, 2, 4, 6])
    #expect(results[3].elements(as: Int.self) == [4, 5, 4, 5, 4, 5, 4, 5, 4, 5, 4, 5])
  }

  /// Elements along each axis in both directions, of sizes that vectors of memory divide or not, and states that are
  /// elements of the iteration before.
  @Test(arguments: [0, 1], [3, 4]) func scansOfElements(axis: Int, width: Int) throws {
    for direction in [0, 1] {
      let length = 9
      let rows = (0..<length * width).map { Float($0) }
      let builder = GraphBuilder()
      let states = [builder.input("sum", [Dim(width)]), builder.input("last", [Dim(width)])]
      let element = builder.input("x", [Dim(width)])
      let sum = try builder.node("Add", [states[0], element])
      let difference = try builder.node("Sub", [element, states[1]])
      builder.output(sum, element, difference, element)
      let run = OperatorRun(
        "Scan",
        attributes: [
          ("body", .graph(Subgraph(graph: builder.graph, captured: []))), ("num_scan_inputs", .int(1)),
          ("scan_input_axes", .ints([axis])), ("scan_input_directions", .ints([direction])),
          ("scan_output_axes", .ints([axis, 0])), ("scan_output_directions", .ints([0, direction])),
        ])
      let zeros = Tensor([Float](repeating: 0, count: width))
      let x = Tensor(rows, shape: axis == 0 ? [length, width] : [width, length])
      let results = try run(zeros, zeros, x, outputs: 4)
      func at(_ step: Int, _ column: Int) -> Float {
        let position = direction == 0 ? step : length - 1 - step
        return axis == 0 ? rows[position * width + column] : rows[column * length + position]
      }
      let columns = 0..<width
      #expect(
        results[0].elements(as: Float.self) == columns.map { column in (0..<length).reduce(0) { $0 + at($1, column) } })
      #expect(results[1].elements(as: Float.self) == columns.map { at(length - 1, $0) })
      let differences = (0..<length).map { step in columns.map { at(step, $0) - (step > 0 ? at(step - 1, $0) : 0) } }
      let expected =
        axis == 0 ? differences.flatMap { $0 } : columns.flatMap { column in differences.map { $0[column] } }
      #expect(results[2].elements(as: Float.self) == expected)
      #expect(
        results[3].elements(as: Float.self)
          == (0..<length).flatMap { step in columns.map { at(direction == 0 ? step : length - 1 - step, $0) } })
    }
  }

  /// Bodies whose plan depends on the counter are run one by one.
  @Test func sizesThatTheCounterDecides() throws {
    let results = try loop(trips: 4, [[1, 2, 3, 4, 5]], outputs: 2) { builder, counter, condition, states in
      let one = builder.constant([1], [1])
      let start = try builder.node("Reshape", [counter, one])
      let end = try builder.node("Add", [start, one])
      let part = try builder.node("Slice", [states[0], start, end])
      return [condition, states[0], part]
    }
    #expect(results[1].elements(as: Float.self) == [1, 2, 3, 4])
  }
}
