// The operators of one element: kernels against definitions, integers, narrow floats, empty and rank 0.

import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct UnaryMathTests {
  private static let functions: [UnaryFunction] = [
    .abs, .neg, .ceil, .floor, .round, .sqrt, .reciprocal, .exp, .log, .sin, .cos, .tanh, .erf, .sigmoid, .relu,
    .softplus,
    .mish, .hardSwish, .gelu, .geluTanh, .leakyRelu(alpha: 0.1), .elu(alpha: 0.7), .selu(alpha: 1.6, gamma: 1.05),
    .celu(alpha: 1), .hardSigmoid(alpha: 0.3, beta: 0.4), .swish(alpha: 1),
  ]

  /// The C kernel gives what the definition gives, also for special values and odd counts.
  @Test func kernelsMatchDefinitions() throws {
    var numbers = (0..<1001).map { Float($0 - 500) / 37 }
    numbers += [0, -0.0, .infinity, -.infinity, .nan, 0x1p-140, -0x1p-140, 1e-7, 88, -88, 0.5, 1.5, 2.5, -2.5]
    for function in UnaryMathTests.functions {
      // The kernel of Gelu is 0 from -5.5 on.
      let allowance = if case .gelu = function { 1.1e-7 } else { 1e-25 }
      let fast = try #require(function.fastLoop, "\(function)")
      let (a, b) = (apply(fast, numbers), apply(function.realLoop(Float.self), numbers))
      let wide = applyWide(function, numbers)
      var wrong: [String] = []
      for (index, x) in numbers.enumerated() {
        if a[index] == b[index] || a[index].isNaN && b[index].isNaN { continue }
        // Where the definition cancels, the kernel may be nearer to the exact value.
        let scale = max(abs(wide[index]), 1e-30)
        let error = abs(Double(a[index]) - wide[index]) / scale
        // Without fused multiply-adds the kernel loses a bit more.
        if error > 8e-6 && error * scale > allowance { wrong.append("\(x): \(a[index]), \(b[index])") }
      }
      #expect(wrong.isEmpty, "\(function)")
    }
  }

  private func apply(_ loop: UnaryLoop, _ x: [Float]) -> [Float] {
    var y = [Float](repeating: 0, count: x.count)
    x.withUnsafeBytes { source in y.withUnsafeMutableBytes { loop(source.baseAddress!, $0.baseAddress!, x.count) } }
    return y
  }

  private func applyWide(_ function: UnaryFunction, _ x: [Float]) -> [Double] {
    let wide = x.map { Double($0) }
    var y = [Double](repeating: 0, count: x.count)
    let loop = function.realLoop(Double.self)
    wide.withUnsafeBytes { source in y.withUnsafeMutableBytes { loop(source.baseAddress!, $0.baseAddress!, x.count) } }
    return y
  }

  @Test func integers() throws {
    #expect(try OperatorRun("Abs")(Tensor([Int8.min, -3, 4]))[0].elements(as: Int8.self) == [Int8.min, 3, 4])
    #expect(try OperatorRun("Neg")(Tensor([Int64.min, -3, 4]))[0].elements(as: Int64.self) == [Int64.min, 3, -4])
    #expect(try OperatorRun("Sign")(Tensor([UInt16(0), 7]))[0].elements(as: UInt16.self) == [0, 1])
    #expect(try OperatorRun("Sign")(Tensor([Int8(-5), 0, 7]))[0].elements(as: Int8.self) == [-1, 0, 1])
    #expect(try OperatorRun("Relu")(Tensor([Int32(-5), 0, 7]))[0].elements(as: Int32.self) == [0, 0, 7])
    #expect(try OperatorRun("BitwiseNot")(Tensor([UInt8(0xF0)]))[0].elements(as: UInt8.self) == [0x0F])
    let shrunk = try OperatorRun("Shrink", attributes: [("bias", .float(1.5)), ("lambd", .float(2))])(
      Tensor([Int16(-5), 0, 7]))
    #expect(shrunk[0].elements(as: Int16.self) == [-3, 0, 5])
  }

  @Test func narrowFloats() throws {
    let numbers: [Float16] = (0..<517).map { Float16($0 - 250) / 16 }
    let result = try OperatorRun("Sigmoid")(Tensor(numbers))[0].elements(as: Float16.self)
    for (x, y) in zip(numbers, try #require(result)) {
      let expected: Double = 1 / (1 + exp(-Double(x)))
      #expect(abs(Double(y) - expected) < 4e-4)
    }
    let brain = try OperatorRun("Neg")(Tensor([BFloat16(1.5), BFloat16(-0.0)]))[0].elements(as: BFloat16.self)
    #expect(brain?.map(\.float) == [-1.5, 0])
  }

  @Test func emptyAndScalar() throws {
    #expect(try OperatorRun("Exp")(Tensor(zeros: .float32, shape: [2, 0, 3]))[0].shape == [2, 0, 3])
    let scalar = try OperatorRun("Exp")(Tensor(scalar: Float(0)))[0]
    #expect(scalar.shape == [] && scalar.elements(as: Float.self) == [1])
  }

  @Test func firstVersions() throws {
    var run = OperatorRun("Selu", attributes: [("consumed_inputs", .ints([0]))])
    run.version = 1
    let y = try run(Tensor([Float(1)]))[0].elements(as: Float.self)
    #expect(y == [1.0507])
  }

  @Test func clip() throws {
    var run = OperatorRun("Clip", attributes: [("max", .float(2))])
    run.version = 6
    #expect(try run(Tensor([-Float.infinity, 1, 3]))[0].elements(as: Float.self) == [-.greatestFiniteMagnitude, 1, 2])
    // The lower bound above the upper one: the upper one.
    let crossed = try OperatorRun("Clip")(Tensor([Int8(1), 9]), Tensor(scalar: Int8(8)), Tensor(scalar: Int8(5)))
    #expect(crossed[0].elements(as: Int8.self) == [5, 5])
    let half = try OperatorRun("Clip")(Tensor([-1, 3, Float16.nan]), nil, Tensor(scalar: Float16(2)))[0].elements(
      as: Float16.self)
    #expect(half?.prefix(2) == [-1, 2])
    #expect(half?.last?.isNaN == true)
    #expect(throws: (any Error).self) { try OperatorRun("Clip")(Tensor([Float(1)]), Tensor([Float(1), 2])) }
  }
}

private func exp(_ x: Double) -> Double {
  var (term, sum) = (1.0, 1.0)
  if x < 0 { return 1 / exp(-x) }
  for k in 1..<200 {
    term *= x / Double(k)
    sum += term
  }
  return sum
}
