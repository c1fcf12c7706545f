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

  private enum HardForm: Int, CaseIterable { case productFirst, sixthFirst, sixthOfX, sigmoid, alone }

  private func hard(_ form: HardForm, bits: Int, divides: Bool, bounds: [Float]) throws -> Graph {
    var graph = Swapping(bits)
    let builder = graph.builder
    let x = builder.input("x", [3, 4])
    let sum = try graph.node("Add", x, graph.number(bounds[0]))
    let clip = try builder.node("Clip", [sum, graph.number(bounds[1]), graph.number(bounds[2])])
    func sixth(_ value: ValueID) throws -> ValueID {
      divides
        ? try builder.node("Div", [value, graph.number(6)]) : try graph.node("Mul", value, graph.number(1 / 6))
    }
    switch form {
    case .productFirst: builder.output(try sixth(graph.node("Mul", x, clip)))
    case .sixthFirst: builder.output(try graph.node("Mul", x, sixth(clip)))
    case .sixthOfX: builder.output(try graph.node("Mul", sixth(x), clip))
    case .sigmoid:
      let gate = try builder.node("HardSigmoid", [x], [("alpha", .float(1 / bounds[2])), ("beta", .float(0.5))])
      builder.output(try graph.node("Mul", x, gate))
    case .alone: builder.output(try sixth(clip))
    }
    return builder.graph
  }

  @Test func hardSwish() throws {
    let input = Tensor([-8, -3, -2.5, -1, -0, 0, 0.5, 1, 2, 3, 3.5, 9] as [Float], shape: [3, 4])
    for form in HardForm.allCases {
      for bits in 0..<8 {
        for divides in [true, false] {
          let result = try PassCheck(hard(form, bits: bits, divides: divides, bounds: [3, 0, 6]), [input])
          #expect(result.ops == [form == .alone ? "HardSigmoid" : "HardSwish"], "\(form), order \(bits)")
          #expect(result.difference < 1e-6)
        }
      }
      for bounds in [[3, 0, 5], [3, -1, 6], [2, 0, 6]] as [[Float]] where form != .sigmoid || bounds[2] != 6 {
        let result = try PassCheck(hard(form, bits: 0, divides: true, bounds: bounds), [input])
        #expect(result.ops.filter { $0.hasPrefix("Hard") } == (form == .sigmoid ? ["HardSigmoid"] : []), "\(form)")
        #expect(result.difference < 1e-6)
      }
    }
  }

  /// Attributes have 32 bits: what doubles would lose by them stays, or keeps its full constants.
  @Test func doublesStayExact() throws {
    let x = Tensor([-2.9, -1.3, 0.7, 2.1] as [Double], shape: [1, 4])
    func check(_ body: (GraphBuilder, ValueID, (Double) -> ValueID) throws -> ValueID) throws -> PassCheck {
      let builder = GraphBuilder()
      let value = builder.input("x", [1, 4], .float64)
      builder.output(try body(builder, value) { builder.constant([$0], []) })
      return try PassCheck(builder.graph, [x])
    }
    let gate = try check { builder, x, number in
      let clip = try builder.node("Clip", [try builder.node("Add", [x, number(3)]), number(0), number(6)])
      return try builder.node("Div", [clip, number(6)])
    }
    #expect(gate.ops == ["Add", "Clip", "Div"] && gate.difference == 0)
    let product = try check { builder, x, _ in
      let gate = try builder.node("HardSigmoid", [x], [("alpha", .float(1 / 6)), ("beta", .float(0.5))])
      return try builder.node("Mul", [x, gate])
    }
    #expect(product.ops == ["HardSigmoid", "Mul"] && product.difference == 0)
    let normalized = try check { builder, x, number in
      let square = try builder.node("ReduceMean", [try builder.node("Mul", [x, x]), builder.constant([-1], [1])])
      return try builder.node("Div", [x, builder.node("Sqrt", [builder.node("Add", [square, number(1e-5)])])])
    }
    #expect(!normalized.ops.contains("RMSNormalization") && normalized.difference == 0)
  }

  private enum RootForm: CaseIterable { case divided, reciprocal, quotient }

  /// d / √(mean(d²) + ε), times weights, perhaps plus a bias; d is x, or x less its mean.
  private func normalized(
    _ form: RootForm, bits: Int, isCentred: Bool, axes: [Int] = [-1], hasBias: Bool = true, weights: Shape = [4],
    keepsAxis: Bool = true
  ) throws -> Graph {
    var graph = Swapping(bits)
    let builder = graph.builder
    let x = builder.input("x", [.symbol("n"), 4])
    func mean(_ value: ValueID) throws -> ValueID {
      try builder.node(
        "ReduceMean", [value, builder.constant(axes, [axes.count])], [("keepdims", .int(keepsAxis ? 1 : 0))])
    }
    let d = isCentred ? try builder.node("Sub", [x, mean(x)]) : x
    let square =
      bits & 1 == 0 ? try builder.node("Pow", [d, graph.number(2)]) : try graph.node("Mul", d, d)
    let root = try builder.node("Sqrt", [graph.node("Add", mean(square), graph.number(1e-3))])
    var y: ValueID
    switch form {
    case .divided: y = try builder.node("Div", [d, root])
    case .reciprocal: y = try graph.node("Mul", d, builder.node("Reciprocal", [root]))
    case .quotient: y = try graph.node("Mul", d, builder.node("Div", [graph.number(1), root]))
    }
    y = try graph.node("Mul", y, builder.weights(weights))
    if hasBias { y = try graph.node("Add", y, builder.weights(weights)) }
    builder.output(y)
    return builder.graph
  }

  @Test func normalizations() throws {
    for form in RootForm.allCases {
      for bits in 0..<32 {
        for (isCentred, hasBias) in [(true, true), (true, false), (false, true), (false, false)] {
          let result = try PassCheck(normalized(form, bits: bits, isCentred: isCentred, hasBias: hasBias), [input])
          let op = isCentred ? "LayerNormalization" : "RMSNormalization"
          #expect(result.ops == (hasBias && !isCentred ? [op, "Add"] : [op]), "\(form), order \(bits)")
          #expect(result.difference < 1e-5)
        }
      }
    }
  }

  /// Means over other axes, weights of another shape.
  @Test func otherNormalizationsStay() throws {
    for axes in [[0], [0, 1]] {
      let result = try PassCheck(normalized(.divided, bits: 0, isCentred: true, axes: axes), [input])
      #expect(!result.ops.contains { $0.hasSuffix("Normalization") }, "\(axes)")
      #expect(result.difference < 1e-5)
    }
    for weights in [[1], [3, 4], [2, 1, 1], []] as [Shape] {
      let result = try PassCheck(normalized(.divided, bits: 0, isCentred: true, weights: weights), [input])
      #expect(result.ops == ["LayerNormalization", "Mul", "Add"], "\(weights)")
      #expect(result.difference < 1e-5)
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
