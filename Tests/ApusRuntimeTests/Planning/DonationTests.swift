// Inputs that were given away: written over where nothing else needs them, and nowhere else.

import ApusGraph
import ApusOperators
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct DonationTests {
  private static let shape: Shape = [2, 3, 64, 16]
  private static let pool = WorkerPool(threads: 2)

  private func program(_ make: (GraphBuilder) throws -> Void) throws -> Program {
    let builder = GraphBuilder()
    try make(builder)
    return try Program(graph: builder.graph, registry: .standard, pool: Self.pool)
  }

  /// A cache, what is new, and where it goes.
  private func scatter(_ builder: GraphBuilder) throws -> (past: ValueID, present: ValueID) {
    let past = builder.input("past", [2, 3, .symbol("room"), 16])
    let update = builder.input("update", [2, 3, 1, 16])
    let positions = builder.input("positions", [2], .int64)
    return (past, try builder.node("TensorScatter", [past, update, positions]))
  }

  private func inputs(_ rows: Int = 64, seed: Int = 1) -> [Value] {
    [
      .tensor(sampleTensor([2, 3, rows, 16], seed: seed)), .tensor(sampleTensor([2, 3, 1, 16], seed: seed + 1)),
      .tensor(Tensor([5, 9] as [Int])),
    ]
  }

  private func address(_ value: Value) -> UnsafeRawPointer? { value.tensor?.base }

  private func haveSameBytes(_ a: [Value], _ b: [Value]) -> Bool {
    a.count == b.count
      && zip(a, b).allSatisfy { a, b in
        guard let x = a.tensor, let y = b.tensor, x.shape == y.shape else { return false }
        return x.withUnsafeBytes { x in y.withUnsafeBytes { y in x.elementsEqual(y) } }
      }
  }

  /// The outputs of a run that may write over input 0; the same numbers as of one that may not.
  private func run(_ program: Program, _ given: inout [Value], _ donated: [Int] = [0]) throws -> [Value] {
    let expected = try program.run(copies(given), on: Self.pool)
    let results = try program.run(&given, donating: donated, on: Self.pool)
    #expect(haveSameBytes(results, expected))
    return results
  }

  private func copies(_ values: [Value]) throws -> [Value] {
    try values.map { try .tensor(#require($0.tensor).copied()) }
  }

  @Test func resultsTakeTheMemoryOfWhatIsGiven() throws {
    let program = try program { $0.output(try scatter($0).present) }
    for rows in [64, 65, 64, 80, 100, 64] {
      var given = inputs(rows)
      let place = address(given[0])
      let results = try run(program, &given)
      #expect(address(results[0]) == place)
      #expect(given[0].tensor == nil && given[1].tensor != nil)
    }
    // The plan for that is none for runs that give nothing.
    var given = inputs()
    let kept = given
    #expect(address(try run(program, &given, [])[0]) != address(kept[0]))
    #expect(haveSameBytes(kept, inputs()))
  }

  @Test func chainsAndViewsTakeItToo() throws {
    let program = try program { builder in
      let (_, present) = try scatter(builder)
      let flat = try builder.node("Reshape", [present, builder.constant([2, 3, -1] as [Int], [3])])
      builder.output(try builder.node("Relu", [try builder.node("Neg", [flat])]))
    }
    var given = inputs()
    let place = address(given[0])
    #expect(address(try run(program, &given)[0]) == place)
  }

  @Test func whatSomebodyHoldsStaysAsItIs() throws {
    let program = try program { $0.output(try scatter($0).present) }
    for _ in 0..<2 {
      var given = inputs()
      let kept = given[0]
      let results = try run(program, &given)
      #expect(address(results[0]) != address(kept))
      #expect(haveSameBytes([kept], [inputs()[0]]))
    }
    // Memory of a caller is nobody else's, even if the tensor is.
    var bytes = [UInt8](repeating: 0, count: 24 << 10)
    try bytes.withUnsafeMutableBytes { bytes in
      let base = try #require(bytes.baseAddress)
      let storage = TensorStorage(base: base, byteCount: bytes.count, release: nil)
      var given = inputs()
      given[0] = .tensor(Tensor(dataType: .float32, shape: Self.shape, storage: consume storage))
      #expect(address(try run(program, &given)[0]) != UnsafeRawPointer(base))
      let lent = TensorStorage(base: base, byteCount: bytes.count, isWritable: true, release: nil)
      given[0] = .tensor(Tensor(dataType: .float32, shape: Self.shape, storage: consume lent))
      let isAligned = UInt(bitPattern: base) % 16 == 0
      #expect((address(try run(program, &given)[0]) == UnsafeRawPointer(base)) == isAligned)
    }
  }

  @Test func partsOfBlocksAndSmallTensorsAreCopied() throws {
    let program = try program { $0.output(try scatter($0).present) }
    let whole = sampleTensor([2, 3, 80, 16], seed: 3)
    var given = inputs()
    given[0] = .tensor(Tensor(dataType: .float32, shape: Self.shape, storage: whole.storage, byteOffset: 64))
    _ = try run(program, &given)
    #expect(haveSameBytes([.tensor(whole)], [.tensor(sampleTensor([2, 3, 80, 16], seed: 3))]))
    var small = inputs(10)
    let place = address(small[0])
    #expect(address(try run(program, &small)[0]) != place)
  }

  @Test func whatLaterNodesNeedIsNotWrittenOver() throws {
    let both = try program { builder in
      let (past, present) = try scatter(builder)
      builder.output(present, try builder.node("Mul", [past, present]))
    }
    let output = try program { builder in
      let (past, present) = try scatter(builder)
      builder.output(present, try builder.node("Identity", [past]))
    }
    let twice = try program { builder in
      let past = builder.input("past", [2, 3, 64, 16])
      builder.output(try builder.node("Add", [past, past]), try builder.node("Neg", [past]))
    }
    for program in [both, output] {
      var given = inputs()
      _ = try run(program, &given)
    }
    var given = [inputs()[0]]
    _ = try run(twice, &given)
  }

  @Test func valuesInSequencesAndOptionalsAreHeld() throws {
    let program = try program { builder in
      let (past, present) = try scatter(builder)
      let sequence = try builder.node("SequenceConstruct", [past])
      // The sequence exists before the cache is written.
      let length = try builder.node("SequenceLength", [sequence])
      let moved = try builder.node("Add", [present, try builder.node("Cast", [length], [("to", .int(1))])])
      let first = try builder.node("SequenceAt", [sequence, builder.constant([0] as [Int], [])])
      builder.output(moved, first)
    }
    var given = inputs()
    _ = try run(program, &given)
  }

  @Test func oneTensorForTwoInputs() throws {
    let program = try program { builder in
      let (a, b) = (builder.input("a", [64, 64]), builder.input("b", [64, 64]))
      builder.output(try builder.node("Sub", [try builder.node("Exp", [a]), b]))
    }
    for donated in [[0], [1], [0, 1]] {
      let tensor = sampleTensor([64, 64], seed: 4)
      var given: [Value] = [.tensor(tensor), .tensor(consume tensor)]
      _ = try run(program, &given, donated)
    }
  }

  /// Random graphs over inputs of which some are given away and some of those are held elsewhere.
  @Test func randomGraphs() throws {
    var random = TestRandom(seed: 5)
    for seed in 0..<150 {
      let builder = GraphBuilder()
      let count = 2 + random.below(3)
      var values = (0..<count).map { builder.input("x\($0)", [.symbol("n"), 64]) }
      for _ in 0..<2 + random.below(9) {
        func any() -> ValueID { values[random.below(values.count)] }
        switch random.below(7) {
        case 0: values.append(try builder.node("Neg", [any()]))
        case 1: values.append(try builder.node("Add", [any(), any()]))
        case 2: values.append(try builder.node("Sub", [any(), any()]))
        case 3: values.append(try builder.node("Identity", [any()]))
        case 4: values.append(try builder.node("Where", [try builder.node("Greater", [any(), any()]), any(), any()]))
        case 5:
          let rows = builder.constant([3, 1] as [Int], [2, 1])
          values.append(try builder.node("ScatterND", [any(), rows, builder.weights([2, 64])]))
        default:
          // Ends the region: eager, and holds what it was given.
          let sequence = try builder.node("SequenceConstruct", [any(), any()])
          values.append(try builder.node("SequenceAt", [sequence, builder.constant([1] as [Int], [])]))
        }
      }
      for _ in 0..<1 + random.below(3) { builder.output(values[random.below(values.count)]) }
      builder.output(values[values.count - 1])
      let program = try Program(graph: builder.graph, registry: .standard, pool: Self.pool)
      for round in 0..<6 {
        let rows = [40, 40, 56, 40, 72, 33][round]
        var given: [Value] = (0..<count).map { .tensor(sampleTensor([rows, 64], seed: 10 * seed + $0)) }
        if random.below(4) == 0 { given[0] = given[1] }
        let expected = try program.run(copies(given), on: Self.pool)
        let before = try copies(given)
        let donated = (0..<count).filter { _ in random.below(3) > 0 }
        var held: [(Int, Value)] = []
        for input in 0..<count where random.below(3) == 0 { held.append((input, given[input])) }
        let results = try program.run(&given, donating: donated, on: Self.pool)
        #expect(haveSameBytes(results, expected), "graph \(seed), round \(round)")
        for (input, value) in held { #expect(haveSameBytes([value], [before[input]]), "graph \(seed), round \(round)") }
        for input in 0..<count where !donated.contains(input) {
          #expect(haveSameBytes([given[input]], [before[input]]), "graph \(seed), round \(round)")
        }
      }
    }
  }
}
