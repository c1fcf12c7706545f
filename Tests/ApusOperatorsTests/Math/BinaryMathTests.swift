// Arithmetic with broadcasting: kernels against definitions, every pattern of repetition, integers, old versions.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct BinaryMathTests {
  @Test(arguments: [BinaryFunction.add, .sub, .mul, .div, .min, .max, .prelu]) func kernelsMatchDefinitions(
    _ function: BinaryFunction
  ) throws {
    let fast = try #require(function.fastLoops(.float32))
    let slow = try #require(function.definition(.float32))
    let a: [Float] = (0..<67).map { Float($0 * 37 % 41) - 20 } + [.infinity, -.infinity, .nan, 1, -0.0, 3]
    let b: [Float] = (0..<67).map { Float($0 * 17 % 29) - 14 } + [1, .nan, 2, .nan, 5, 0]
    for (one, other) in [(fast.both, slow.both), (fast.scalarB, slow.scalarB), (fast.scalarA, slow.scalarA)] {
      let (x, y) = (apply(one, a, b), apply(other, a, b))
      for i in x.indices {
        let isSame = x[i] == y[i] || (x[i].isNaN && y[i].isNaN)
        #expect(isSame, "\(i): \(x[i]) \(y[i])")
      }
    }
  }

  private func apply(_ loop: BinaryLoop, _ a: [Float], _ b: [Float]) -> [Float] {
    var y = [Float](repeating: 0, count: a.count)
    a.withUnsafeBytes { x in
      b.withUnsafeBytes { z in
        y.withUnsafeMutableBytes { loop(x.baseAddress!, z.baseAddress!, $0.baseAddress!, a.count) }
      }
    }
    return y
  }

  /// A profile shows an operation for each element, however the step got its name.
  @Test(arguments: ["Add", "Greater", "Where"]) func operationsAreCounted(name: String) throws {
    let builder = GraphBuilder()
    let (x, y) = (builder.input("x", [3, 5]), builder.input("y", [5]))
    let condition = builder.input("condition", [3, 1], .bool)
    let output = try builder.node(name, name == "Where" ? [condition, x, y] : [x, y])
    let graph = builder.graph
    let node = graph.nodes[0]
    let facts = node.inputs.map { $0.map { graph.fact($0) } }
    let definition = try OperatorRegistry.standard.require(node.op)
    let context = PrepareContext(
      node: node, schema: definition.schema, inputs: facts, outputs: [graph.fact(output)],
      constants: facts.map { _ in nil })
    guard case .planned(let kernel) = try definition.prepare(context) else {
      Issue.record("\(name) has no planned kernel")
      return
    }
    let types = facts.map { fact in
      fact?.tensor.map { TensorType($0.dataType, Shape($0.shape?.compactMap(\.known) ?? [])) }
    }
    let result = TensorType(name == "Greater" ? .bool : .float32, [3, 5])
    let step = try kernel.step(for: PlanContext(inputs: types, outputs: [result], known: types.map { _ in nil }))
    #expect(step.cost.operations == 15)
  }

  /// Sub over shapes of up to 5 axes, each extent repeated on one side, the other, or neither.
  @Test func broadcasting() throws {
    let full = [2, 3, 1, 4, 5]
    for pattern in 0..<243 {
      var (a, b, rest) = (full, full, pattern)
      for axis in 0..<5 {
        if rest % 3 == 1 { a[axis] = 1 }
        if rest % 3 == 2 { b[axis] = 1 }
        rest /= 3
      }
      let shapeB = Shape(Array(b.drop { $0 == 1 }))
      let x = Tensor((0..<Shape(a).elementCount).map { Int32($0) }, shape: Shape(a))
      let z = Tensor((0..<shapeB.elementCount).map { Int32($0 * 1000) }, shape: shapeB)
      let y = try OperatorRun("Sub")(x, z)[0]
      var expected: [Int32] = []
      let (sa, sb) = (Shape(a).strides, Shape(b).strides)
      let output = Shape(zip(a, b).map { max($0, $1) })
      for index in 0..<output.elementCount {
        var (i, j) = (0, 0)
        for axis in 0..<5 {
          let position = index / output.strides[axis] % output[axis]
          if a[axis] > 1 { i += position * sa[axis] }
          if b[axis] > 1 { j += position * sb[axis] }
        }
        expected.append(Int32(i - j * 1000))
      }
      #expect(y.shape == output && y.elements(as: Int32.self) == expected, "\(a) \(b)")
    }
  }

  /// More elements than one part takes, so that parts begin inside rows.
  @Test func manyParts() throws {
    let a = Tensor((0..<300_000).map { Float($0 % 1000) }, shape: [3, 100_000])
    let b = Tensor((0..<100_000).map { Float($0 % 77) }, shape: [100_000])
    var run = OperatorRun("Add")
    run.threads = 2
    let y = try #require(run(a, b)[0].elements(as: Float.self))
    let isRight = y.indices.allSatisfy { i -> Bool in
      let expected = i % 1000 + i % 100_000 % 77
      return y[i] == Float(expected)
    }
    #expect(isRight)
  }

  @Test func integerCorners() throws {
    let a = Tensor([Int8.min, 5, -7, 7, -7])
    #expect(
      try OperatorRun("Div")(a, Tensor([Int8(-1), 0, 2, -2, -2]))[0].elements(as: Int8.self) == [
        Int8.min, 0, -3, -3, 3,
      ])
    #expect(
      try OperatorRun("Mod")(a, Tensor([Int8(-1), 0, 2, -2, -2]))[0].elements(as: Int8.self) == [0, 0, 1, -1, -1])
    let fmod = OperatorRun("Mod", attributes: [("fmod", .int(1))])
    #expect(try fmod(a, Tensor([Int8(-1), 0, 2, -2, -2]))[0].elements(as: Int8.self) == [0, 0, -1, 1, -1])
    #expect(try OperatorRun("Add")(Tensor([UInt8(250)]), Tensor([UInt8(10)]))[0].elements(as: UInt8.self) == [4])
    let powers = try OperatorRun("Pow")(Tensor([Int32(3), -1, 2, 0, 2]), Tensor([Int64(3), -3, -1, -1, 33]))
    #expect(powers[0].elements(as: Int32.self) == [27, -1, 0, 0, 0])
  }

  @Test func floatModulo() throws {
    let y = try OperatorRun("Mod")(Tensor([Float(-5), 5, -0.0, 3]), Tensor([Float(3), -3, 2, -Float.infinity]))[0]
      .elements(as: Float.self)
    #expect(y == [1, -1, 0, -.infinity])
    #expect(y?[2].sign == .plus)
  }

  @Test func powersOfOneExponent() throws {
    for exponent: Float in [2, 3, 0.5, -1, 0, 1.5] {
      let x: [Float] = [0, -0.0, 1, 2.5, 1e-3, 7]
      let general = try OperatorRun("Pow")(Tensor(x), Tensor(x.map { _ in exponent }))[0].elements(as: Float.self)
      let special = try OperatorRun("Pow")(Tensor(x), Tensor(scalar: exponent))[0].elements(as: Float.self)
      for (a, b) in zip(try #require(general), try #require(special)) {
        let isNear = a == b || abs(a - b) <= abs(a) * 1.2e-7
        #expect(isNear, "\(a) \(b)")
      }
    }
  }

  @Test func anyNumberOfInputs() throws {
    let (a, b, c) = (Tensor([Float(1), 2]), Tensor([Float(10)]), Tensor([Float(3), 6, 9], shape: [3, 1]))
    #expect(try OperatorRun("Sum")(a, b, c)[0].elements(as: Float.self) == [14, 15, 17, 18, 20, 21])
    #expect(try OperatorRun("Mean")(a, b)[0].elements(as: Float.self) == [5.5, 6])
    #expect(try OperatorRun("Max")(a)[0].elements(as: Float.self) == [1, 2])
    #expect(try OperatorRun("Min")(b, b, c)[0].elements(as: Float.self) == [3, 6, 9])
    #expect(throws: (any Error).self) { try OperatorRun("Max")(a, Tensor([Double(1)])) }
  }

  /// Versions before 7: B from an axis of A on.
  @Test(arguments: [false, true]) func legacyBroadcast(_ isConstant: Bool) throws {
    var run = OperatorRun(
      "Add", attributes: [("broadcast", .int(1)), ("axis", .int(1)), ("consumed_inputs", .ints([0, 0]))])
    run.version = 1
    if isConstant { run.constantInputs = [1] }
    let y = try run(Tensor((0..<12).map { Float($0) }, shape: [2, 3, 2]), Tensor([Float(100), 200, 300]))[0]
    #expect(y.elements(as: Float.self) == [100, 101, 202, 203, 304, 305, 106, 107, 208, 209, 310, 311])
  }

  @Test func slopes() throws {
    let x = Tensor((0..<12).map { Float($0 - 6) }, shape: [1, 3, 4])
    let y = try OperatorRun("PRelu")(x, Tensor([Float(1), 2, 3], shape: [3, 1]))[0].elements(as: Float.self)
    #expect(y == [-6, -5, -4, -3, -4, -2, 0, 1, 2, 3, 4, 5])
    var old = OperatorRun("PRelu")
    old.version = 6
    #expect(try old(x, Tensor([Float(1), 2, 3]))[0].elements(as: Float.self) == y)
    #expect(throws: (any Error).self) { try OperatorRun("PRelu")(Tensor([Float(1)]), x) }
  }

  @Test func mismatchedShapes() {
    #expect(throws: (any Error).self) { try OperatorRun("Add")(Tensor([Float(1), 2]), Tensor([Float(1), 2, 3])) }
  }
}
