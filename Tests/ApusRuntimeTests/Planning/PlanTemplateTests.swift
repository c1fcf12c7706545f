// Plans bound from templates: the same bits as plans made node by node, the same errors, and which regions have one.

import ApusGraph
import ApusOperators
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct PlanTemplateTests {
  private let pool = WorkerPool(threads: 1)

  private func program(_ builder: GraphBuilder) throws -> Program {
    try Program(graph: builder.graph, registry: .standard, pool: pool)
  }

  private func run(_ program: Program, _ inputs: [Tensor], maximumBytes: Int = .max) throws -> [Tensor] {
    try program.run(inputs.map { .tensor($0) }, on: pool, settings: RunSettings(maximumBytes: maximumBytes))
      .compactMap(\.tensor)
  }

  /// Runs the graph on all inputs in one program, and each in a program of its own, and expects the same bits; and
  /// that as many plans as `bound` were made from a template.
  private func expectSameBits(_ builder: GraphBuilder, _ cases: [[Tensor]], bound: Int) throws {
    let shared = try program(builder)
    for inputs in cases {
      let found = try run(shared, inputs)
      let expected = try run(program(builder), inputs)
      #expect(found.map(\.shape) == expected.map(\.shape))
      for (a, b) in zip(found, expected) {
        let isSame = a.withUnsafeBytes { x in b.withUnsafeBytes { y in x.elementsEqual(y) } }
        #expect(isSame, "\(inputs.map(\.shape))")
      }
    }
    #expect(shared.planReports().filter(\.isBound).count == bound)
  }

  /// Embeddings of tokens with positions, a product, and a reshape to the size of the input.
  private func encoder() throws -> GraphBuilder {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("batch"), .symbol("length"), 8])
    let positions = builder.weights([1, 32, 8])
    let shape = try builder.node("Shape", [x])
    let length = try builder.node("Gather", [shape, builder.constant([1] as [Int], [1])])
    let batch = try builder.node("Gather", [shape, builder.constant([0] as [Int], [1])])
    let zero = builder.constant([0] as [Int], [1])
    let one = builder.constant([1] as [Int], [1])
    let own = try builder.node("Slice", [positions, zero, length, one])
    let placed = try builder.node("Add", [x, own])
    let product = try builder.node("MatMul", [placed, builder.weights([8, 6])])
    let heads = builder.constant([2, 3] as [Int], [2])
    let target = try builder.node("Concat", [batch, length, heads], [("axis", .int(0))])
    let split = try builder.node("Reshape", [product, target])
    builder.output(try builder.node("Transpose", [split], [("perm", .ints([0, 2, 1, 3]))]), own)
    return builder
  }

  private func batch(_ sizes: Int...) -> [Tensor] { [sampleTensor(Shape(sizes + [8]), seed: sizes.reduce(1, *))] }

  @Test func lengthsAndBatchesAreBound() throws {
    let cases = [batch(1, 5), batch(2, 7), batch(1, 1), batch(3, 32), batch(2, 9), batch(1, 5), batch(31, 2)]
    try expectSameBits(encoder(), cases, bound: 4)
  }

  @Test func whatANodeRefusesIsRefused() throws {
    let program = try program(encoder())
    for length in [3, 4, 5] { _ = try run(program, batch(1, length)) }
    // The table has 32 positions.
    #expect(throws: OperatorError.self) { try run(program, batch(1, 33)) }
    #expect(try run(program, batch(1, 32))[0].shape == [1, 2, 32, 3])
  }

  @Test func emptyInputsArePlannedNodeByNode() throws {
    try expectSameBits(encoder(), [batch(1, 3), batch(2, 3), batch(0, 3), batch(3, 0), batch(2, 2)], bound: 1)
  }

  @Test func extentsThatBroadcastAreBound() throws {
    let builder = GraphBuilder()
    let a = builder.input("a", [.symbol("m"), .symbol("n")])
    let b = builder.input("b", [.symbol("k"), .symbol("n")])
    let sum = try builder.node("Add", [a, b])
    builder.output(sum, try builder.node("Softmax", [sum]))
    func pair(_ m: Int, _ k: Int, _ n: Int) -> [Tensor] {
      [sampleTensor([m, n], seed: m), sampleTensor([k, n], seed: k)]
    }
    try expectSameBits(
      builder, [pair(3, 3, 2), pair(3, 1, 2), pair(1, 4, 5), pair(6, 6, 1), pair(1, 1, 1)], bound: 3)
    let shared = try program(builder)
    for inputs in [pair(3, 3, 2), pair(3, 1, 2), pair(1, 4, 5)] { _ = try run(shared, inputs) }
    #expect(throws: OperatorError.self) { try run(shared, pair(3, 4, 2)) }
  }

  /// Of such nodes nothing is asked but that extents are equal: they are not inferred for every size.
  @Test func extentsThatMustBeEqualAreCompared() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), .symbol("m"), 4])
    let joined = try builder.node("Concat", [x, builder.weights([1, 3, 4])], [("axis", .int(-2))])
    builder.output(joined, try builder.node("Mul", [joined, builder.weights([5, 3, 1, 1])]))
    func input(_ n: Int, _ m: Int) -> [Tensor] { [sampleTensor([n, m, 4], seed: n + m)] }
    try expectSameBits(builder, [input(1, 2), input(1, 5), input(1, 1), input(1, 9), input(1, 7)], bound: 3)
    let shared = try program(builder)
    for m in 1..<5 { _ = try run(shared, input(1, m)) }
    #expect(throws: OperatorError.self) { try run(shared, input(2, 3)) }
    #expect(try run(shared, input(1, 11))[0].shape == [1, 14, 4])
  }

  /// More sizes than steps are kept for, of two inputs that grow apart: steps of one hold while the other changes.
  @Test func stepsAreUsedAgainForSizesThatRecur() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 8])
    let y = builder.input("y", [.symbol("m"), 8])
    let length = try builder.node("Shape", [y])
    let left = try builder.node("Softmax", [try builder.node("MatMul", [x, builder.weights([8, 8])])])
    let right = try builder.node("MatMul", [y, builder.weights([8, 8])])
    let filled = try builder.node("Expand", [builder.weights([1, 8]), length])
    let turned = try builder.node("Transpose", [try builder.node("Add", [right, filled])], [("perm", .ints([1, 0]))])
    builder.output(try builder.node("MatMul", [left, turned]), try builder.node("Tile", [left, length]))
    var cases: [[Tensor]] = []
    for index in 0..<60 {
      let (n, m) = (1 + index * 7 % 19, 1 + index * 5 % 23)
      cases.append([sampleTensor([n, 8], seed: n), sampleTensor([m, 8], seed: m)])
    }
    try expectSameBits(builder, cases, bound: 58)
  }

  @Test func shapesThatContradictTheDeclaredOnesAreStillPlanned() throws {
    // Two inputs share a symbol that nothing in the graph needs to be one.
    let builder = GraphBuilder()
    let a = builder.input("a", [.symbol("n")])
    let b = builder.input("b", [.symbol("n")])
    builder.output(try builder.node("Neg", [a]), try builder.node("Exp", [b]))
    let cases = [(2, 2), (3, 3), (4, 4), (4, 5)].map { a, b in
      [sampleTensor([a], seed: a), sampleTensor([b], seed: b)]
    }
    try expectSameBits(builder, cases, bound: 1)
  }

  @Test func elementsOfInputsAreNoSizes() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n")])
    let target = builder.input("target", [2], .int64)
    builder.output(try builder.node("Reshape", [x, target]))
    let cases = ([[2, 3], [3, 2], [6, 1], [1, 6]] as [[Int64]]).map { [sampleTensor([6], seed: 6), Tensor($0)] }
    try expectSameBits(builder, cases, bound: 0)
  }

  @Test func limitsHold() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 1])
    let y = builder.input("y", [1, .symbol("m")])
    builder.output(try builder.node("Add", [x, y]))
    let program = try program(builder)
    func pair(_ n: Int, _ m: Int) -> [Tensor] { [sampleTensor([n, 1], seed: n), sampleTensor([1, m], seed: m)] }
    for n in 2..<5 { _ = try run(program, pair(n, n + 1)) }
    #expect(throws: OperatorError.self) { try run(program, pair(2000, 2000), maximumBytes: 1 << 20) }
    #expect(try run(program, pair(2000, 2000))[0].shape == [2000, 2000])
  }

  @Test func sizesBecomeElements() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), .symbol("m")])
    let shape = try builder.node("Shape", [x])
    let narrow = try builder.node("Cast", [shape], [("to", .int(6))])
    let size = try builder.node("Size", [x])
    let filled = try builder.node("ConstantOfShape", [shape])
    builder.output(shape, narrow, size, try builder.node("Add", [x, filled]))
    let cases = [(2, 3), (3, 4), (1, 1), (5, 7), (1, 8)].map { n, m in [sampleTensor([n, m], seed: n)] }
    try expectSameBits(builder, cases, bound: 3)
  }

  /// The front of an encoder of sound: a stride, and as many rows of a table as it leaves.
  @Test func stridesAreBound() throws {
    var builder = GraphBuilder()
    let x = builder.input("x", [1, 4, .symbol("frames")])
    let strided = try builder.node(
      "Conv", [x, builder.weights([8, 4, 3])], [("pads", .ints([1, 1])), ("strides", .ints([2]))])
    let rows = try builder.node("Transpose", [strided], [("perm", .ints([0, 2, 1]))])
    let shape = try builder.node("Shape", [rows])
    let length = try builder.node("Gather", [shape, builder.constant([1] as [Int], [1])])
    let zero = builder.constant([0] as [Int], [1])
    let own = try builder.node("Slice", [builder.weights([32, 8]), zero, length, zero])
    builder.output(try builder.node("Add", [rows, own]))
    let cases = [4, 5, 6, 11, 1, 64].map { [sampleTensor([1, 4, $0], seed: $0)] }
    try expectSameBits(builder, cases, bound: 4)
  }

  /// Sizes for which a step is of another form: what is a view, what may be overwritten, what is copied first.
  @Test func formsThatChangeWithTheSizes() throws {
    var builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), .symbol("m")])
    let y = builder.input("y", [.symbol("k"), .symbol("m")])
    let left = try builder.node("Exp", [x])
    let right = try builder.node("Exp", [y])
    let sum = try builder.node("Add", [left, right])
    let turned = try builder.node("Transpose", [sum], [("perm", .ints([1, 0]))])
    let last = try builder.node("Softmax", [turned])
    builder.output(last, try builder.node("MatMul", [turned, sum]))
    func pair(_ n: Int, _ k: Int, _ m: Int) -> [Tensor] {
      [sampleTensor([n, m], seed: n), sampleTensor([k, m], seed: k + 7)]
    }
    let cases = [(3, 3, 2), (4, 4, 5), (1, 3, 2), (3, 1, 2), (1, 1, 9), (5, 5, 1), (64, 1, 33), (1, 64, 1), (2, 2, 2)]
    try expectSameBits(builder, cases.map { pair($0.0, $0.1, $0.2) }, bound: 7)
  }
}
