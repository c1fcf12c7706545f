// MatMul, Gemm and apus.Gemm: packed against plain, constants, halves, integers, odd and empty extents.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct MatMulTests {
  @Test(
    arguments: [
      ([1, 32], [32, 32]), ([7, 5], [5, 3]), ([1, 300], [300, 500]), ([130, 65], [65, 33]), ([257, 129], [129, 200]),
      ([5], [5]), ([5], [5, 3]), ([4, 5], [5]), ([2, 3, 4, 5], [5, 6]), ([2, 3, 4, 5], [3, 5, 6]),
      ([4, 5], [2, 3, 5, 6]),
      ([2, 1, 4, 5], [1, 3, 5, 6]), ([40, 20, 30], [40, 30, 10]), ([0, 5], [5, 3]), ([4, 0], [0, 3]),
      ([2, 3, 4], [4, 0]),
    ] as [([Int], [Int])])
  func packedIsPlain(_ a: [Int], _ b: [Int]) throws {
    try FormComparison("MatMul", tolerance: 1e-4).check(
      [sampleTensor(Shape(a), seed: 1), sampleTensor(Shape(b), seed: 2)], constants: [1])
  }

  /// A row alone has the bits that it has among others.
  @Test func rowsDoNotDependOnTheirNeighbours() throws {
    let (k, n) = (300, 70)
    let (a, b) = (sampleTensor([40, k], seed: 1), sampleTensor([k, n], seed: 2))
    let whole = try FormComparison("MatMul").run([a, b])[0].elements(as: Float.self)!
    for row in [0, 17, 39] {
      let line = Array(a.elements(as: Float.self)![row * k..<(row + 1) * k])
      let alone = try FormComparison("MatMul").run([Tensor(line, shape: [1, k]), b])[0].elements(as: Float.self)!
      #expect(alone == Array(whole[row * n..<(row + 1) * n]))
    }
  }

  @Test func integersWrap() throws {
    let (high, low) = (Int32.max, Int32.min)
    let left: [Int32] = [high, 2, -3, low]
    let right: [Int32] = [3, -1, 5, 7]
    let first: Int32 = high &* 3 &+ 10
    let second: Int32 = 14 &- high
    let third: Int32 = low &* 5 &- 9
    let fourth: Int32 = low &* 7 &+ 3
    let product = try OperatorRun("MatMul")(Tensor(left, shape: [2, 2]), Tensor(right, shape: [2, 2]))
    #expect(product[0].elements(as: Int32.self) == [first, second, third, fourth])
    let c: [UInt64] = [UInt64.max, 1]
    let d: [UInt64] = [2, 9]
    let wide = try OperatorRun("MatMul")(Tensor(c, shape: [1, 2]), Tensor(d, shape: [2, 1]))
    #expect(wide[0].elements(as: UInt64.self) == [7])
  }

  @Test func doublesAreExactEnough() throws {
    let a = Tensor((0..<12).map { Double($0) }, shape: [3, 4])
    let b = Tensor((0..<8).map { Double($0) / 3 }, shape: [4, 2])
    let product = try OperatorRun("MatMul")(a, b)[0].elements(as: Double.self)!
    for (index, value) in product.enumerated() {
      var expected = 0.0
      for depth in 0..<4 { expected += Double(index / 2 * 4 + depth) * Double(depth * 2 + index % 2) / 3 }
      #expect(abs(value - expected) < 1e-12)
    }
  }

  @Test func unequalDepthsAreNamed() {
    #expect(throws: (any Error).self) {
      try OperatorRun("MatMul")(sampleTensor([2, 3], seed: 1), sampleTensor([4, 2], seed: 2))
    }
    #expect(throws: (any Error).self) {
      try OperatorRun("MatMul")(sampleTensor([], seed: 1), sampleTensor([4, 2], seed: 2))
    }
  }
}

@Suite struct GemmTests {
  @Test(arguments: [0, 1], [0, 1])
  func packedIsPlain(_ transA: Int, _ transB: Int) throws {
    let (m, n, k) = (37, 45, 70)
    let a = sampleTensor(transA == 1 ? [k, m] : [m, k], seed: 1)
    let b = sampleTensor(transB == 1 ? [n, k] : [k, n], seed: 2)
    let addends: [Tensor?] =
      [nil] + ([[n], [1, n], [m, 1], [m, n], [1], []] as [Shape]).map { sampleTensor($0, seed: 3) }
    for (alpha, beta) in [(1, 1), (0.5, 1), (1, 0.25), (2, 0)] as [(Float, Float)] {
      let gemm = FormComparison(
        "Gemm", [("transA", .int(transA)), ("transB", .int(transB)), ("alpha", .float(alpha)), ("beta", .float(beta))],
        tolerance: 1e-4)
      for c in addends { try gemm.check([a, b, c], constants: [1, 2], halves: alpha == 0.5) }
    }
  }

  @Test func integersWithFactorsAreCut() throws {
    let run = OperatorRun("Gemm", attributes: [("alpha", .float(0.5)), ("beta", .float(2))])
    let y = try run(Tensor([3 as Int32], shape: [1, 1]), Tensor([5 as Int32], shape: [1, 1]), Tensor([-4 as Int32]))
    #expect(y[0].elements(as: Int32.self) == [0])
  }
}

@Suite struct FusedGemmTests {
  @Test(arguments: [
    "none", "relu", "clip", "leaky_relu", "sigmoid", "tanh", "hard_sigmoid", "hard_swish", "silu", "gelu", "gelu_tanh",
  ])
  func packedIsPlain(_ activation: String) throws {
    let gemm = FormComparison(
      "Gemm", domain: "apus",
      [
        ("activation", .string(activation)), ("activation_alpha", .float(0.2)), ("activation_beta", .float(0.6)),
        ("alpha", .float(0.5)), ("transB", .int(1)),
      ], tolerance: 1e-4)
    let (a, b) = (sampleTensor([2, 9, 40], seed: 1), sampleTensor([35, 40], seed: 2))
    let (bias, residual) = (sampleTensor([35], seed: 3), sampleTensor([2, 9, 35], seed: 4))
    try gemm.check([a, b, bias, residual], constants: [1, 2])
    try gemm.check([a, b, nil, residual], constants: [1])
    try gemm.check([a, b, bias], constants: [1, 2])
    try gemm.check([a, b], constants: [1])
  }
}
