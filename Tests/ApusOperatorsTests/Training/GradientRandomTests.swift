// Gradients of random graphs with shared values against central differences, to the second order.

import ApusGraph
import ApusOperators
import ApusTensor
import Testing

@Suite struct GradientRandomTests {
  @Test(arguments: 0..<24) func randomGraphs(_ seed: Int) throws {
    var random = SplitMix64(seed: UInt64(seed) &* 977 &+ 5)
    let shapes: [Shape] = [[3, 3], [3], [1, 3], [3, 1], []]
    let inputs = shapes.map { shape in
      Tensor((0..<shape.elementCount).map { _ in random.next(in: -1...1) }, shape: shape)
    }
    let check = GradientCheck(inputs: inputs, isSymbolic: seed % 2 == 1, order: 2, tolerance: 1e-5)
    try check.run(label: "seed \(seed)") { g, xs in
      // Every value is 3×3, or broadcasts to it.
      var matrices = [xs[0]]
      var all = xs
      for _ in 0..<10 {
        let square = matrices[random.index(matrices.count)]
        let other = all[random.index(all.count)]
        let value = try Self.node(random.index(12), square, other, g)
        matrices.append(value)
        all.append(value)
      }
      return Array(matrices.suffix(2))
    }
  }

  /// A 3×3 value from one and from another that broadcasts to it.
  private static func node(_ kind: Int, _ x: ValueID, _ other: ValueID, _ g: GradientGraph) throws -> ValueID {
    func apply(_ op: String, _ inputs: [ValueID?], _ attributes: [(String, AttributeValue)] = []) throws -> ValueID {
      try g.node(op, inputs, attributes)[0]
    }
    switch kind {
    case 0: return try apply("Add", [x, other])
    case 1: return try apply("Mul", [other, x])
    case 2: return try apply("Sub", [other, x])
    case 3: return try apply("Div", [x, apply("Exp", [apply("Tanh", [other])])])
    case 4: return try apply("Tanh", [x])
    case 5: return try apply("Gemm", [x, x, other], [("transB", .int(1)), ("alpha", .float(0.5))])
    case 6: return try apply("Transpose", [apply("Sigmoid", [x])])
    case 7: return try apply("Softmax", [apply("Add", [x, other])], [("axis", .int(0))])
    case 8: return try apply("Sub", [x, apply("ReduceMean", [x, g.constant(Tensor([1]))])])
    case 9: return try apply("Gather", [x, g.constant(Tensor([2, 0, 2]))], [("axis", .int(1))])
    case 10:
      let half = try g.node("Split", [x, g.constant(Tensor([1, 2]))], [("axis", .int(0))], outputCount: 2)
      return try apply("Concat", [half[1], half[0]], [("axis", .int(0))])
    default: return try apply("Sin", [apply("MatMul", [x, apply("Expand", [other, g.constant(Tensor([3, 3]))])])])
    }
  }
}

extension SplitMix64 {
  fileprivate mutating func index(_ count: Int) -> Int { min(Int(next(in: 0...1) * Double(count)), count - 1) }
}
