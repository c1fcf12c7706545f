// Every pass: the graph before, the graph after, the same numbers.

import ApusGraph
import ApusOperators
import ApusOptimizer
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct FusionTests {
  /// Runs the graph as it is and optimized; returns the operators that are left and the largest difference.
  private func optimize(_ graph: Graph, _ inputs: [Tensor], disabled: Set<String> = []) throws -> (
    ops: [String], difference: Float
  ) {
    let pool = WorkerPool(threads: 1)
    let values = inputs.map { Value.tensor($0) }
    let before = try Program(graph: graph, registry: .standard, pool: pool).run(values, on: pool)
    var optimized = graph
    _ = try Optimizer(registry: .standard, disabled: disabled).optimize(&optimized)
    try GraphVerifier.verify(optimized)
    let after = try Program(graph: optimized, registry: .standard, pool: pool).run(values, on: pool)
    let difference = zip(before, after).reduce(Float(0)) { max($0, largestDifference($1.0.tensor!, $1.1.tensor!)) }
    return (optimized.nodes.map(\.op.description), difference)
  }

  @Test func erfGelu() throws {
    for order in 0..<3 {
      let builder = GraphBuilder()
      let x = builder.input("x", [.symbol("n"), 8])
      let root = builder.constant([Float(2).squareRoot()], [])
      let erf = try builder.node("Erf", [try builder.node("Div", [x, root])])
      let sum = try builder.node("Add", [erf, builder.constant([1 as Float], [])])
      let half = builder.constant([0.5 as Float], [])
      let y: ValueID
      switch order {
      case 0: y = try builder.node("Mul", [try builder.node("Mul", [x, half]), sum])
      case 1: y = try builder.node("Mul", [try builder.node("Mul", [x, sum]), half])
      default: y = try builder.node("Mul", [x, try builder.node("Mul", [sum, half])])
      }
      builder.output(y)
      let result = try optimize(builder.graph, [sampleTensor([5, 8], seed: 3)])
      #expect(result.ops == ["Gelu"], "order \(order)")
      #expect(result.difference < 1e-6)
    }
  }

  @Test func tanhGelu() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 8])
    let cube = try builder.node("Pow", [x, builder.constant([3 as Float], [])])
    let inner = try builder.node(
      "Add", [x, try builder.node("Mul", [cube, builder.constant([0.044715 as Float], [])])])
    let tanh = try builder.node(
      "Tanh", [try builder.node("Mul", [inner, builder.constant([0.7978845608 as Float], [])])])
    let sum = try builder.node("Add", [tanh, builder.constant([1 as Float], [])])
    builder.output(try builder.node("Mul", [try builder.node("Mul", [x, builder.constant([0.5 as Float], [])]), sum]))
    let result = try optimize(builder.graph, [sampleTensor([5, 8], seed: 3)])
    #expect(result.ops == ["Gelu"])
    #expect(result.difference < 1e-6)
  }

  @Test func patternsWithOtherNumbersStay() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [8])
    let erf = try builder.node("Erf", [try builder.node("Div", [x, builder.constant([1.5 as Float], [])])])
    let sum = try builder.node("Add", [erf, builder.constant([1 as Float], [])])
    builder.output(try builder.node("Mul", [try builder.node("Mul", [x, builder.constant([0.5 as Float], [])]), sum]))
    #expect(!(try optimize(builder.graph, [sampleTensor([8], seed: 3)]).ops.contains("Gelu")))
  }

  @Test func valuesUsedElsewhereAreKept() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 16])
    let product = try builder.node("MatMul", [x, builder.weights([16, 24])])
    builder.output(try builder.node("Relu", [product]), product)
    let result = try optimize(builder.graph, [sampleTensor([3, 16], seed: 4)])
    #expect(result.ops.count == 2)
    #expect(result.difference == 0)
  }

  @Test func gemmTakesBiasResidualAndActivation() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), .symbol("s"), 16])
    let product = try builder.node("MatMul", [x, builder.weights([16, 16])])
    let biased = try builder.node("Add", [builder.weights([16]), product])
    let residual = try builder.node("Add", [biased, x])
    builder.output(try builder.node("Relu", [residual]))
    let result = try optimize(builder.graph, [sampleTensor([2, 3, 16], seed: 4)])
    #expect(result.ops == ["apus.Gemm"])
    #expect(result.difference < 1e-5)
  }

  /// A product of two values reads the second one turned and takes a factor, where that is a power of two.
  @Test(arguments: [0.125, 0.1, 0, -0.5, .infinity] as [Float])
  func productsReadValuesAsTheyLie(_ factor: Float) throws {
    let shapes: [([Int], [Int])] = [
      ([2, 3, 7, 16], [2, 3, 5, 16]), ([3, 1, 16], [3, 9, 16]), ([4, 16], [2, 5, 16]), ([16], [5, 16]),
    ]
    for (a, b) in shapes {
      let builder = GraphBuilder()
      let (x, y) = (builder.input("x", a.map { Dim($0) }), builder.input("y", b.map { Dim($0) }))
      let axes = b.indices.dropLast(2) + [b.count - 1, b.count - 2]
      let turned = try builder.node("Transpose", [y], [("perm", .ints(Array(axes)))])
      let product = try builder.node("MatMul", [x, turned])
      builder.output(try builder.node("Mul", [builder.constant([factor], []), product]))
      let result = try optimize(builder.graph, [sampleTensor(Shape(a), seed: 3), sampleTensor(Shape(b), seed: 4)])
      #expect(result.ops == (factor == 0.125 ? ["apus.Gemm"] : ["apus.Gemm", "Mul"]), "\(a) \(b) \(result.ops)")
      if factor.isFinite { #expect(result.difference < 1e-5, "\(a) \(b)") }
    }
  }

  @Test func convolutionBlock() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 8, 14, 14])
    func normalized(_ value: ValueID, _ builder: GraphBuilder) throws -> ValueID {
      let variance = builder.constant((0..<8).map { 0.5 + Float($0) * 0.1 }, [8])
      return try builder.node(
        "BatchNormalization", [value, builder.weights([8]), builder.weights([8]), builder.weights([8]), variance])
    }
    let pads: [(String, AttributeValue)] = [("pads", .ints([1, 1, 1, 1]))]
    let first = try builder.node("Conv", [x, builder.weights([8, 8, 3, 3])], pads)
    let second = try builder.node("Relu", [try normalized(first, builder)])
    let third = try normalized(try builder.node("Conv", [second, builder.weights([8, 8, 3, 3])], pads), builder)
    let sum = try builder.node("Relu", [try builder.node("Add", [third, x])])
    builder.output(try builder.node("GlobalAveragePool", [sum]))
    let result = try optimize(builder.graph, [sampleTensor([2, 8, 14, 14], seed: 5)])
    #expect(result.ops.filter { $0 == "apus.Conv" }.count == 2)
    #expect(!result.ops.contains("Relu") && !result.ops.contains("Add") && !result.ops.contains("BatchNormalization"))
    #expect(result.difference < 1e-4)
  }

  @Test func channelsLastKeepsOtherConsumersRight() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [1, 4, 6, 5])
    let y = try builder.node("Conv", [x, builder.weights([6, 4, 1, 1])])
    let flat = try builder.node("Flatten", [y])
    let joined = try builder.node("Concat", [y, try builder.node("Neg", [y])], [("axis", .int(1))])
    let scaled = try builder.node("Mul", [joined, builder.weights([12, 1, 1])])
    let permuted = try builder.node("Transpose", [scaled], [("perm", .ints([0, 2, 3, 1]))])
    builder.output(flat, permuted)
    let result = try optimize(builder.graph, [sampleTensor([1, 4, 6, 5], seed: 6)])
    #expect(result.difference < 1e-5)
  }

  @Test func foldingAndSharing() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 4])
    let constant = try builder.node("Add", [builder.weights([4]), builder.weights([4])])
    let a = try builder.node("Add", [x, constant])
    let b = try builder.node("Add", [x, constant])
    builder.output(try builder.node("Mul", [a, try builder.node("Identity", [b])]))
    let result = try optimize(builder.graph, [sampleTensor([3, 4], seed: 7)])
    #expect(result.ops == ["Add", "Mul"])
    #expect(result.difference == 0)
  }

  @Test func passesCanBeSwitchedOff() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 16])
    builder.output(try builder.node("MatMul", [x, builder.weights([16, 24])]))
    let result = try optimize(builder.graph, [sampleTensor([3, 16], seed: 4)], disabled: ["fuse-matrix-products"])
    #expect(result.ops == ["MatMul"])
  }

  /// Attention as torch exports it: keys transposed between reshapes, safe softmax, heads moved by transposes.
  private func attentionGraph(masked: Bool, safe: Bool) throws -> Graph {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("b"), .symbol("s"), 24])
    let mask = masked ? builder.input("mask", [.symbol("b"), 1, .symbol("s"), .symbol("s")]) : nil
    func heads(_ builder: GraphBuilder) throws -> ValueID {
      let projected = try builder.node("MatMul", [x, builder.weights([24, 24])])
      let split = try builder.node("Reshape", [projected, builder.constant([0, 0, 3, 8] as [Int], [4])])
      return try builder.node("Transpose", [split], [("perm", .ints([0, 2, 1, 3]))])
    }
    let (q, k, v) = (try heads(builder), try heads(builder), try heads(builder))
    let factor = builder.constant([Float(8).squareRoot().squareRoot()], [])
    let transposed = try builder.node("Transpose", [k], [("perm", .ints([0, 1, 3, 2]))])
    var scores = try builder.node(
      "MatMul", [try builder.node("Div", [q, factor]), try builder.node("Div", [transposed, factor])])
    if let mask { scores = try builder.node("Add", [scores, mask]) }
    var probabilities = try builder.node("Softmax", [scores], [("axis", .int(-1))])
    if safe {
      let isNaN = try builder.node("IsNaN", [probabilities])
      probabilities = try builder.node("Where", [isNaN, builder.constant([0 as Float], []), probabilities])
    }
    let y = try builder.node(
      "Transpose", [try builder.node("MatMul", [probabilities, v])], [("perm", .ints([0, 2, 1, 3]))])
    builder.output(try builder.node("Reshape", [y, builder.constant([0, 0, 24] as [Int], [3])]))
    return builder.graph
  }

  @Test func attentionOnPositions() throws {
    let x = sampleTensor([2, 5, 24], seed: 8)
    let mask = Tensor((0..<50).map { $0 % 7 == 0 || $0 < 5 ? -Float.infinity : 0 }, shape: [2, 1, 5, 5])
    for (masked, safe) in [(false, false), (false, true), (true, true)] {
      let result = try optimize(attentionGraph(masked: masked, safe: safe), masked ? [x, mask] : [x])
      #expect(result.ops == ["apus.Gemm", "apus.Gemm", "apus.Gemm", "Attention"], "masked \(masked), safe \(safe)")
      #expect(result.difference < 1e-5)
    }
  }

  /// Attention of six heads of queries on two of keys and values, each repeated `times` times in the order of the axes.
  private func grouped(keys: Int, values: Int, isBehindHeads: Bool = true) throws -> Graph {
    let builder = GraphBuilder()
    let q = builder.input("q", [.symbol("b"), 6, .symbol("s"), 8])
    func repeated(_ name: String, _ times: Int) throws -> ValueID {
      let heads = builder.input(name, [.symbol("b"), Dim(6 / times), .symbol("s"), 8])
      let axis = isBehindHeads ? 2 : 1
      let widened = try builder.node("Unsqueeze", [heads, builder.constant([axis], [1])])
      var extents = [1, 1, 1, 1, 1]
      extents[axis] = times
      let expanded = try builder.node("Expand", [widened, builder.constant(extents, [5])])
      return try builder.node("Reshape", [expanded, builder.constant([0, 6, -1, 8] as [Int], [4])])
    }
    let (k, v) = (try repeated("k", keys), try repeated("v", values))
    builder.output(try builder.node("Attention", [q, k, v]))
    return builder.graph
  }

  @Test func repeatedHeadsAreShared() throws {
    let q = sampleTensor([2, 6, 5, 8], seed: 1)
    let (k, v) = (sampleTensor([2, 2, 5, 8], seed: 2), sampleTensor([2, 2, 5, 8], seed: 3))
    let result = try optimize(grouped(keys: 3, values: 3), [q, k, v])
    #expect(result.ops == ["Attention"])
    #expect(result.difference < 1e-6)
    // Keys and values of other numbers, and heads that are repeated one after the other.
    let wide = sampleTensor([2, 3, 5, 8], seed: 4)
    let uneven = try optimize(grouped(keys: 3, values: 2), [q, k, wide])
    #expect(uneven.ops.filter { $0 == "Expand" }.count == 2)
    let turned = try optimize(grouped(keys: 3, values: 3, isBehindHeads: false), [q, k, v])
    #expect(turned.ops.filter { $0 == "Expand" }.count == 2)
    #expect(turned.difference == 0)
  }

  @Test func maskedAttentionWithoutGuardKeepsItsNaNs() throws {
    let x = sampleTensor([2, 5, 24], seed: 8)
    // The first query of the first image sees no key.
    let mask = Tensor((0..<50).map { $0 < 5 || $0 % 7 == 0 ? -Float.infinity : 0 }, shape: [2, 1, 5, 5])
    let result = try optimize(attentionGraph(masked: true, safe: false), [x, mask])
    #expect(result.ops == ["apus.Gemm", "apus.Gemm", "apus.Gemm", "apus.Attention"])
    #expect(result.difference < 1e-5)
    let portable = try optimize(attentionGraph(masked: true, safe: false), [x, mask], disabled: ["fuse-attention"])
    #expect(portable.ops.contains("Softmax"))
  }

  /// Attention in windows of [images · windows, heads, 4 positions, 8], whose scores get a bias and a mask of their
  /// window, as Swin has it.
  private func windows(
    bias: Shape? = [1, 2, 4, 4], mask: Shape = [1, 3, 1, 4, 4], isMaskFirst: Bool = false, batch: Dim = .symbol("b") * 3
  ) throws -> Graph {
    let builder = GraphBuilder()
    let (q, k, v) = (
      builder.input("q", [batch, 2, 4, 8]), builder.input("k", [batch, 2, 4, 8]), builder.input("v", [batch, 2, 4, 6])
    )
    let turned = try builder.node("Transpose", [k], [("perm", .ints([0, 1, 3, 2]))])
    var scores = try builder.node("MatMul", [q, turned])
    if let bias { scores = try builder.node("Add", [builder.weights(bias), scores]) }
    let split = try builder.node("Reshape", [scores, builder.constant([-1, 3, 2, 4, 4] as [Int], [5])])
    let numbers = builder.constant((0..<mask.elementCount).map { $0 % 5 == 0 ? -100 : 0 as Float }, mask)
    let masked = try builder.node("Add", isMaskFirst ? [numbers, split] : [split, numbers])
    let back = try builder.node("Reshape", [masked, builder.constant([-1, 2, 4, 4] as [Int], [4])])
    let probabilities = try builder.node("Softmax", [back], [("axis", .int(-1))])
    builder.output(try builder.node("MatMul", [probabilities, v]))
    return builder.graph
  }

  @Test func windowsWithMasksAreHeads() throws {
    let inputs = [(8, 1), (8, 2), (6, 3)].map { sampleTensor([6, 2, 4, $0.0], seed: $0.1) }
    for graph in [
      try windows(), try windows(bias: nil), try windows(bias: [2, 4, 4]), try windows(mask: [1, 3, 2, 4, 4]),
      try windows(isMaskFirst: true), try windows(batch: 6),
    ] {
      let result = try optimize(graph, inputs)
      #expect(result.ops.contains("apus.Attention") && !result.ops.contains("Softmax"), "\(result.ops)")
      #expect(result.difference < 1e-5)
    }
    // A bias of each window, a mask of one window for all, and one for each image: as they are.
    for graph in [
      try windows(bias: [6, 2, 4, 4], batch: 6), try windows(mask: [1, 1, 1, 4, 4]),
      try windows(mask: [2, 3, 1, 4, 4]),
    ] {
      let result = try optimize(graph, inputs)
      #expect(result.ops.contains("Softmax"), "\(result.ops)")
      #expect(result.difference < 1e-5)
    }
  }

  /// What stands before a convolution and its activation, between images whose channels are last.
  @Test func normalizationsBetweenConvolutionsStayThere() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 3, 6, 5])
    let first = try builder.node("Conv", [x, builder.weights([8, 3, 3, 3])])
    let pooled = try builder.node("MaxPool", [first], [("kernel_shape", .ints([2, 2]))])
    let variance = builder.constant((0..<8).map { Float($0) / 4 + 0.25 }, [8])
    let normalized = try builder.node(
      "BatchNormalization", [pooled, builder.weights([8]), builder.weights([8]), builder.weights([8]), variance])
    let active = try builder.node("Relu", [normalized])
    builder.output(try builder.node("Conv", [active, builder.weights([4, 8, 1, 1])]))
    let result = try optimize(builder.graph, [sampleTensor([2, 3, 6, 5], seed: 1)])
    #expect(result.ops.contains("apus.BatchNormalization") && !result.ops.contains("Relu"))
    #expect(result.ops.count { $0 == "Transpose" } <= 2, "\(result.ops)")
    #expect(result.difference < 1e-5)
  }
}
