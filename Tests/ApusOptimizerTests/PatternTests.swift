// Patterns of fusions in every order of operands that the operators allow, and in every form.

import ApusGraph
import ApusOptimizer
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct PatternTests {
  /// Builds commutative nodes whose operands change places as the bits of a number say.
  private struct Swapping {
    let builder = GraphBuilder()
    private var bits: Int

    init(_ bits: Int) { self.bits = bits }

    mutating func node(_ op: String, _ a: ValueID, _ b: ValueID) throws -> ValueID {
      defer { bits >>= 1 }
      return try builder.node(op, bits & 1 == 0 ? [a, b] : [b, a])
    }

    mutating func number(_ value: Float) -> ValueID { builder.constant([value], []) }
  }

  private let input = sampleTensor([3, 4], seed: 6)

  private func expectGelu(_ graph: Graph, _ what: String) throws {
    let result = try PassCheck(graph, [input])
    #expect(result.ops == ["Gelu"], "\(what)")
    #expect(result.difference < 1e-6, "\(what)")
  }

  /// x·½·(1 + curve) in its three forms.
  private func finish(_ x: ValueID, _ curve: ValueID, form: Int, _ graph: inout Swapping) throws {
    let sum = try graph.node("Add", curve, graph.number(1))
    let half = graph.number(0.5)
    switch form {
    case 0: graph.builder.output(try graph.node("Mul", try graph.node("Mul", x, sum), half))
    case 1: graph.builder.output(try graph.node("Mul", try graph.node("Mul", x, half), sum))
    default: graph.builder.output(try graph.node("Mul", x, try graph.node("Mul", sum, half)))
    }
  }

  @Test(arguments: 0..<3, [true, false]) func erf(_ form: Int, _ divides: Bool) throws {
    for bits in 0..<16 {
      var graph = Swapping(bits)
      let x = graph.builder.input("x", [3, 4])
      let argument =
        divides
        ? try graph.builder.node("Div", [x, graph.number(Float(2).squareRoot())])
        : try graph.node("Mul", x, graph.number(Float(0.5).squareRoot()))
      try finish(x, try graph.builder.node("Erf", [argument]), form: form, &graph)
      try expectGelu(graph.builder.graph, "form \(form), order \(bits)")
    }
  }

  @Test(arguments: 0..<3, [true, false]) func tanh(_ form: Int, _ isPower: Bool) throws {
    for bits in 0..<256 {
      var graph = Swapping(bits)
      let x = graph.builder.input("x", [3, 4])
      let cube =
        isPower
        ? try graph.builder.node("Pow", [x, graph.number(3)]) : try graph.node("Mul", x, try graph.node("Mul", x, x))
      let sum = try graph.node("Add", x, try graph.node("Mul", cube, graph.number(0.044715)))
      let argument = try graph.node("Mul", sum, graph.number(Float((2 / Double.pi).squareRoot())))
      try finish(x, try graph.builder.node("Tanh", [argument]), form: form, &graph)
      try expectGelu(graph.builder.graph, "form \(form), order \(bits)")
    }
  }

  /// A placeholder stands for one value.
  @Test func anotherValueIsNotTheSame() throws {
    for isSame in [true, false] {
      let builder = GraphBuilder()
      let (x, y) = (builder.input("x", [3, 4]), builder.input("y", [3, 4]))
      builder.output(try builder.node("Mul", [isSame ? y : x, builder.node("Sigmoid", [y])]))
      let result = try PassCheck(builder.graph, [input, sampleTensor([3, 4], seed: 7)])
      #expect(result.ops.contains("Swish") == isSame)
      #expect(result.difference < 1e-6)
    }
  }

  /// Exponents of another operand, and the cube of another value.
  @Test func powersInTheWrongOrder() throws {
    var graph = Swapping(0)
    let x = graph.builder.input("x", [3, 4])
    let power = try graph.builder.node("Pow", [graph.number(3), x])
    let sum = try graph.node("Add", x, try graph.node("Mul", power, graph.number(0.044715)))
    let argument = try graph.node("Mul", sum, graph.number(Float((2 / Double.pi).squareRoot())))
    try finish(x, try graph.builder.node("Tanh", [argument]), form: 0, &graph)
    let result = try PassCheck(graph.builder.graph, [input])
    #expect(!result.ops.contains("Gelu"))
    #expect(result.difference < 1e-6)
  }
}
