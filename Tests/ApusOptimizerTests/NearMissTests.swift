// Patterns with odd constants, shared values and other types: rewritten only where the numbers and shapes stay the
// same.

import ApusGraph
import ApusOptimizer
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct NearMissTests {
  /// x·half·(1 + erf(x·root)), with constants of any shape.
  private func gelu(
    half: [Float] = [0.5], halfShape: Shape = [], one: Float = 1, oneShape: Shape = [],
    root: Float = Float(0.5).squareRoot(),
    rootShape: Shape = [], keepsCurve: Bool = false
  ) throws -> Graph {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 4])
    let erf = try builder.node("Erf", [try builder.node("Mul", [x, builder.constant([root], rootShape)])])
    let sum = try builder.node("Add", [erf, builder.constant([one], oneShape)])
    builder.output(try builder.node("Mul", [try builder.node("Mul", [x, sum]), builder.constant(half, halfShape)]))
    if keepsCurve { builder.output(erf) }
    return builder.graph
  }

  private let x = sampleTensor([3, 4], seed: 3)

  @Test func constantsWithMoreAxesAddAxes() throws {
    for shape: Shape in [[1, 1, 1], [1, 1, 1, 1]] {
      for graph in [try gelu(halfShape: shape), try gelu(oneShape: shape), try gelu(rootShape: shape)] {
        let result = try PassCheck(graph, [x])
        #expect(!result.ops.contains("Gelu"))
        #expect(result.difference == 0)
      }
    }
    let same = try PassCheck(gelu(halfShape: [1], oneShape: [1, 1], rootShape: [1, 1]), [x])
    #expect(same.ops == ["Gelu"])
    #expect(same.difference < 1e-6)
  }

  /// An Expand that may have to refuse what it is given is no identity, even if it changes nothing when it does not.
  @Test func expandsThatMayRefuseStay() throws {
    func ops(to target: (GraphBuilder, ValueID, ValueID) throws -> ValueID) throws -> [String] {
      let builder = GraphBuilder()
      let x = builder.input("x", [2, .symbol("c")])
      let z = builder.input("z", [.symbol("d"), .symbol("c")])
      builder.output(try builder.node("Neg", [try builder.node("Expand", [x, try target(builder, x, z)])]))
      let result = try PassCheck(builder.graph, [sampleTensor([2, 3], seed: 1), sampleTensor([1, 3], seed: 2)])
      #expect(result.difference == 0)
      return result.ops
    }
    #expect(try ops { builder, _, z in try builder.node("Shape", [z]) }.contains("Expand"))
    #expect(try ops { builder, x, _ in try builder.node("Shape", [x]) } == ["Neg"])
    #expect(try ops { builder, _, z in try builder.node("Shape", [z], [("start", .int(1))]) } == ["Neg"])
    #expect(try ops { builder, _, _ in builder.constant([1, 1] as [Int], [2]) } == ["Neg"])
  }

  @Test func otherNumbersStay() throws {
    let odd: [Float] = [-0.5, 0, .nan, .infinity, 0.500_01]
    for number in odd {
      #expect(!(try PassCheck(gelu(half: [number]), [x]).ops.contains("Gelu")))
      #expect(!(try PassCheck(gelu(one: number), [x]).ops.contains("Gelu")))
      #expect(!(try PassCheck(gelu(root: number), [x]).ops.contains("Gelu")))
    }
  }

  @Test func outputsInsideStay() throws {
    let result = try PassCheck(gelu(keepsCurve: true), [x])
    #expect(result.ops.contains("Erf"))
    #expect(result.difference == 0)
    let refusals = result.reports.flatMap(\.refusals)
    #expect(refusals.map(\.fusion) == ["erf-gelu"], "noted once")
    #expect(refusals.first?.reason.hasSuffix("is needed elsewhere") ?? false)
  }

  @Test func gelusOfDoublesNeedTheirFullConstants() throws {
    for (root, isGelu) in [(0.5.squareRoot(), true), (Double(Float(0.5).squareRoot()), false)] {
      let builder = GraphBuilder()
      let x = builder.input("x", [4], .float64)
      let erf = try builder.node("Erf", [try builder.node("Mul", [x, builder.constant([root], [])])])
      let sum = try builder.node("Add", [erf, builder.constant([1.0], [])])
      builder.output(try builder.node("Mul", [try builder.node("Mul", [x, sum]), builder.constant([0.5], [])]))
      var graph = builder.graph
      _ = try Optimizer(registry: .standard).optimize(&graph)
      #expect((graph.nodes.map(\.op.name) == ["Gelu"]) == isGelu)
    }
  }

  @Test func integersAreNoSwish() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [4], .int64)
    builder.output(try builder.node("Mul", [x, x]))
    let result = try PassCheck(builder.graph, [Tensor([1, -2, 3, 4] as [Int64])])
    #expect(result.ops == ["Mul"])
    #expect(result.difference == 0)
  }

  /// A convolution, then `op` with a constant of one number a channel.
  private func convolution(_ op: String, _ numbers: [Float], _ shape: Shape, swapped: Bool = false) throws -> Graph {
    let builder = GraphBuilder()
    let x = builder.input("x", [1, 2, 3, 3])
    let y = try builder.node("Conv", [x, builder.weights([2, 2, 1, 1]), builder.weights([2])])
    let constant = builder.constant(numbers, shape)
    builder.output(try builder.node(op, swapped ? [constant, y] : [y, constant]))
    return builder.graph
  }

  @Test func affineConstantsGoIntoConvolutions() throws {
    let image = sampleTensor([1, 2, 3, 3], seed: 9)
    for op in ["Mul", "Add", "Sub", "Div"] {
      for (numbers, shape) in [
        ([2, -3] as [Float], [2, 1, 1] as Shape), ([2, -3], [1, 2, 1, 1]), ([0.5], []), ([-4], [1, 1, 1, 1]),
      ] {
        let result = try PassCheck(convolution(op, numbers, shape), [image])
        #expect(!result.ops.contains(op), "\(op) \(shape)")
        #expect(result.difference < 1e-5)
      }
    }
    let zero = try PassCheck(convolution("Mul", [0, 0], [2, 1, 1]), [image])
    #expect(zero.difference == 0)
  }

  @Test func oddConstantsStayBehindConvolutions() throws {
    let image = sampleTensor([1, 2, 3, 3], seed: 9)
    let cases: [(String, [Float], Shape)] = [
      ("Mul", [.infinity, 1], [2, 1, 1]), ("Mul", [.nan], []), ("Div", [0, 1], [2, 1, 1]), ("Div", [.infinity], []),
      ("Add", [.infinity, 1], [2, 1, 1]), ("Mul", [1e-44], []), ("Mul", [2], [1, 1, 1, 1, 1]), ("Div", [1e-44], []),
      ("Mul", [1, 2, 3], [3]), ("Add", [1, 2, 3], [3, 1]), ("Mul", [1e38], []), ("Mul", [1, 3e37], [2, 1, 1]),
    ]
    for (op, numbers, shape) in cases {
      let result = try PassCheck(convolution(op, numbers, shape), [image], passes: Optimizer.portablePasses)
      #expect(result.ops.contains(op), "\(op) \(numbers) \(shape)")
      #expect(result.difference == 0)
    }
    for op in ["Sub", "Div"] {
      let result = try PassCheck(convolution(op, [2], [], swapped: true), [image], passes: Optimizer.portablePasses)
      #expect(result.ops.contains(op))
    }
  }

  /// softmax(scale·Q·Kᵀ [+ mask])·V over four axes.
  private func attention(scale: [Float]?, _ shape: Shape = [], mask: Shape? = nil, zero: Shape = []) throws -> Graph {
    let builder = GraphBuilder()
    let (q, k, v) = (
      builder.input("q", [1, 2, 3, 4]), builder.input("k", [1, 2, 5, 4]), builder.input("v", [1, 2, 5, 4])
    )
    let keys = try builder.node("Transpose", [k], [("perm", .ints([0, 1, 3, 2]))])
    var scores = try builder.node("MatMul", [q, keys])
    if let scale { scores = try builder.node("Mul", [scores, builder.constant(scale, shape)]) }
    if let mask { scores = try builder.node("Add", [scores, builder.weights(mask)]) }
    var weights = try builder.node("Softmax", [scores], [("axis", .int(-1))])
    if mask != nil {
      let isNaN = try builder.node("IsNaN", [weights])
      weights = try builder.node("Where", [isNaN, builder.constant([0 as Float], zero), weights])
    }
    builder.output(try builder.node("MatMul", [weights, v]))
    return builder.graph
  }

  @Test func attentionTakesPositiveScalesOnly() throws {
    let inputs = [
      sampleTensor([1, 2, 3, 4], seed: 1), sampleTensor([1, 2, 5, 4], seed: 2), sampleTensor([1, 2, 5, 4], seed: 3),
    ]
    for scale: [Float]? in [nil, [0.5], [1e3]] {
      let result = try PassCheck(attention(scale: scale), inputs)
      #expect(result.ops == ["Attention"], "\(scale ?? [])")
      #expect(result.difference < 1e-4)
    }
    for scale: Float in [0, -0.5, .nan, .infinity, 1e-44] {
      let result = try PassCheck(attention(scale: [scale]), inputs)
      #expect(!result.ops.contains("Attention"), "\(scale)")
      #expect(result.difference == 0)
    }
    #expect(!(try PassCheck(attention(scale: [0.5], [1, 1, 1, 1, 1]), inputs).ops.contains("Attention")))
  }

  @Test func attentionMasksHaveAColumnForEachKey() throws {
    let inputs = [
      sampleTensor([1, 2, 3, 4], seed: 1), sampleTensor([1, 2, 5, 4], seed: 2), sampleTensor([1, 2, 5, 4], seed: 3),
    ]
    for (mask, isFused) in [
      ([3, 5] as Shape, true), ([1, 5], true), ([2, 3, 5], true), ([3, 1], false), ([1, 1], false), ([5], false),
    ] {
      let result = try PassCheck(attention(scale: nil, mask: mask), inputs)
      #expect(result.ops.contains("Attention") == isFused, "\(mask)")
      #expect(result.difference < 1e-5)
    }
    #expect(
      !(try PassCheck(attention(scale: nil, mask: [3, 5], zero: [1, 1, 1, 1, 1]), inputs).ops.contains("Attention")))
  }

  @Test func sumsOfAValueWithItselfStay() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 4])
    let product = try builder.node("MatMul", [x, builder.weights([4, 4])])
    builder.output(try builder.node("Add", [product, product]))
    let result = try PassCheck(builder.graph, [self.x])
    #expect(result.ops == ["apus.Gemm", "Add"])
    #expect(result.difference == 0)
  }

  @Test func biasesWithMoreAxesStay() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 4])
    let product = try builder.node("MatMul", [x, builder.weights([4, 4])])
    builder.output(try builder.node("Add", [product, builder.weights([1, 1, 4])]))
    let result = try PassCheck(builder.graph, [self.x])
    #expect(result.ops == ["apus.Gemm", "Add"])
    #expect(result.difference == 0)
  }
}
