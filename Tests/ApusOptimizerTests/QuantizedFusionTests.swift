// Operators between DequantizeLinear and QuantizeLinear become operators on integers: where that is exact, with the
// same numbers; where one part does not fit, not at all.

import ApusGraph
import ApusOptimizer
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct QuantizedFusionTests {
  /// A convolution between two changes of type. Scales are powers of two, so that floats compute it exactly.
  private struct Layer {
    var biasScale: Float = 0x1p-7
    var firstSum: Int32 = 300
    var outputScale: Float = 0x1p-1
    var weightAxis = 0
    var zeroPoint: UInt8? = 0
    var hasRelu = true
    var hasBias = true
    var isUsedTwice = false
    var areWeightsConstant = true

    func graph() throws -> Graph {
      let builder = GraphBuilder()
      let x = builder.input("x", [.symbol("n"), 4, 5, 5])
      let step = builder.constant([0x1p-4 as Float], [])
      let quantized = try builder.node("QuantizeLinear", [x, step, builder.constant([100 as UInt8], [])])
      let inner = try builder.node("DequantizeLinear", [quantized, step, builder.constant([100 as UInt8], [])])
      let count = 4 * 4 * 3 * 3
      let bytes = (0..<count).map { Int8(truncatingIfNeeded: $0 * 37 % 201 - 100) }
      let w: ValueID
      if areWeightsConstant {
        w = builder.constant(bytes, [4, 4, 3, 3])
      } else {
        w = builder.input("w", [4, 4, 3, 3], .int8)
      }
      let scales = builder.constant([0x1p-3, 0x1p-4, 0x1p-3, 0x1p-5] as [Float], [4])
      let weights = try builder.node("DequantizeLinear", [w, scales], [("axis", .int(weightAxis))])
      var inputs: [ValueID?] = [inner, weights]
      if hasBias {
        let sums = builder.constant([firstSum, -200, 5, 0] as [Int32], [4])
        let biasScales = [biasScale, biasScale / 2, biasScale, biasScale / 4]
        inputs.append(
          try builder.node("DequantizeLinear", [sums, builder.constant(biasScales, [4])], [("axis", .int(0))]))
      }
      var y = try builder.node("Conv", inputs, [("pads", .ints([1, 1, 1, 1]))])
      if isUsedTwice { builder.output(y) }
      if hasRelu { y = try builder.node("Relu", [y]) }
      let outputStep = builder.constant([outputScale], [])
      var last: [ValueID?] = [y, outputStep]
      if let zeroPoint { last.append(builder.constant([zeroPoint], [])) }
      let result = try builder.node("QuantizeLinear", last)
      last[0] = result
      builder.output(try builder.node("DequantizeLinear", last))
      return builder.graph
    }

    func check() throws -> PassCheck {
      var inputs = [sampleTensor([2, 4, 5, 5], seed: 4)]
      if !areWeightsConstant {
        inputs.append(Tensor((0..<144).map { Int8(truncatingIfNeeded: $0 * 11) }, shape: [4, 4, 3, 3]))
      }
      return try PassCheck(try graph(), inputs)
    }
  }

  private func expectFused(_ layer: Layer, _ isFused: Bool, _ what: String) throws {
    let result = try layer.check()
    #expect(result.ops.contains { $0.hasSuffix("QLinearConv") } == isFused, "\(what): \(result.ops)")
    #expect(result.ops.contains { $0.hasSuffix(".Conv") || $0 == "Conv" } == !isFused, "\(what): \(result.ops)")
    #expect(result.difference == 0, "\(what)")
  }

  @Test func convolutionsBecomeIntegers() throws {
    try expectFused(Layer(), true, "all parts")
    try expectFused(Layer(zeroPoint: nil), true, "no zero point")
    try expectFused(Layer(zeroPoint: 120, hasRelu: false), true, "no Relu")
    try expectFused(Layer(zeroPoint: 121, hasRelu: false), true, "an odd zero point")
    try expectFused(Layer(hasBias: false), true, "no bias")
  }

  @Test func whatDoesNotFitStaysAsItIs() throws {
    try expectFused(Layer(biasScale: 0x1p-6), false, "a bias of another scale")
    try expectFused(Layer(weightAxis: 1, hasBias: false), false, "scales along another axis")
    try expectFused(Layer(zeroPoint: 120), false, "a Relu that cuts off above the least number")
    try expectFused(Layer(hasRelu: false, isUsedTwice: true), false, "a sum that is an output")
    try expectFused(Layer(firstSum: .max), false, "a sum that could wrap around")
    try expectFused(Layer(outputScale: -0x1p-1), false, "a Relu before a scale below 0")
    try expectFused(Layer(areWeightsConstant: false), false, "weights that come with the run")
  }

  @Test func layoutsChangeAroundBytes() throws {
    // Two convolutions: what lies between them has no change of layout.
    let builder = GraphBuilder()
    let x = builder.input("x", [1, 4, 6, 6])
    let step = builder.constant([0x1p-4 as Float], [])
    let zero = builder.constant([128 as UInt8], [])
    var y = try builder.node("QuantizeLinear", [x, step, zero])
    for layer in 0..<2 {
      let bytes = (0..<16).map { Int8(truncatingIfNeeded: ($0 + layer) * 29 % 120 - 60) }
      let w = try builder.node(
        "DequantizeLinear", [builder.constant(bytes, [4, 4, 1, 1]), builder.constant([0x1p-5 as Float], [])])
      let sum = try builder.node("Conv", [try builder.node("DequantizeLinear", [y, step, zero]), w])
      y = try builder.node("QuantizeLinear", [sum, step, zero])
    }
    builder.output(try builder.node("DequantizeLinear", [y, step, zero]))
    let result = try PassCheck(builder.graph, [sampleTensor([1, 4, 6, 6], seed: 8)])
    #expect(result.ops.count { $0 == "apus.QLinearConv" } == 2, "\(result.ops)")
    #expect(result.ops.count { $0 == "Transpose" } == 2, "\(result.ops)")
    #expect(result.difference == 0)
  }

  @Test(arguments: [true, false]) func productsBecomeIntegers(_ isPerColumn: Bool) throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 6])
    let step = builder.constant([0x1p-4 as Float], [])
    let zero = builder.constant([7 as Int8], [])
    let a = try builder.node("DequantizeLinear", [try builder.node("QuantizeLinear", [x, step, zero]), step, zero])
    let bytes = (0..<30).map { UInt8($0 * 8) }
    let scales =
      isPerColumn
      ? builder.constant([0x1p-3, 0x1p-5, 0x1p-4, 0x1p-3, 0x1p-6] as [Float], [5])
      : builder.constant([0x1p-3 as Float], [])
    let b = try builder.node("DequantizeLinear", [builder.constant(bytes, [6, 5]), scales], [("axis", .int(1))])
    let sum = try builder.node("MatMul", [a, b])
    let y = try builder.node("QuantizeLinear", [sum, step, zero])
    builder.output(try builder.node("DequantizeLinear", [y, step, zero]))
    let result = try PassCheck(builder.graph, [sampleTensor([3, 6], seed: 5)])
    #expect(result.ops.contains("QLinearMatMul") && !result.ops.contains("MatMul"), "\(result.ops)")
    #expect(result.difference == 0)
  }

  // MARK: - Sums, maps, products with a bias

  /// A value as bytes, by a scale and a zero point, and as floats again.
  private struct Coded {
    let bytes: ValueID
    let floats: ValueID

    init(_ builder: GraphBuilder, _ value: ValueID, scale: Float, zero: UInt8) throws {
      let parameters: [ValueID?] = [builder.constant([scale], []), builder.constant([zero], [])]
      bytes = try builder.node("QuantizeLinear", [value] + parameters)
      floats = try builder.node("DequantizeLinear", [bytes] + parameters)
    }
  }

  @Test(arguments: ["Add", "Mul"]) func sumsBecomeBytes(_ op: String) throws {
    for shape in [[2, 3, 4, 5], [5], [1], [3, 1, 1]] {
      let builder = GraphBuilder()
      let a = try Coded(builder, builder.input("a", [2, 3, 4, 5]), scale: 0.03, zero: 120)
      let b = try Coded(builder, builder.input("b", shape.map { Dim($0) }), scale: 0.07, zero: 3)
      let sum = try builder.node("Relu", [try builder.node(op, [a.floats, b.floats])])
      builder.output(try Coded(builder, sum, scale: 0.05, zero: 0).floats)
      let inputs = [sampleTensor([2, 3, 4, 5], seed: 1), sampleTensor(Shape(shape), seed: 2)]
      let result = try PassCheck(builder.graph, inputs)
      #expect(result.ops.contains("apus.QLinear" + op) && !result.ops.contains(op), "\(result.ops)")
      #expect(result.difference == 0, "\(shape)")
    }
  }

  /// Means of bytes are means of integers, and stay with their channels last behind a convolution.
  @Test(arguments: [nil, [2, 3], [-1], [1], [0, 2]] as [[Int]?]) func meansBecomeBytes(_ axes: [Int]?) throws {
    for isBehindConvolution in [false, true] {
      let builder = GraphBuilder()
      var x = builder.input("x", [.symbol("n"), 8, .symbol("h"), .symbol("w")])
      if isBehindConvolution { x = try builder.node("Conv", [x, builder.weights([8, 8, 1, 1])]) }
      let a = try Coded(builder, x, scale: 0.03, zero: 120)
      let mean: ValueID
      if let axes {
        mean = try builder.node(
          "ReduceMean", [a.floats, builder.constant(axes, [axes.count])], [("keepdims", .int(axes == [1] ? 0 : 1))])
      } else {
        mean = try builder.node("GlobalAveragePool", [a.floats])
      }
      builder.output(try Coded(builder, mean, scale: 0.01, zero: 100).floats)
      let result = try PassCheck(builder.graph, [sampleTensor([2, 8, 5, 7], seed: 1)])
      #expect(result.ops.contains("apus.QLinearReduceMean"), "\(result.ops)")
      #expect(!result.ops.contains("ReduceMean") && !result.ops.contains("GlobalAveragePool"), "\(result.ops)")
      // A sum between two steps may be rounded to either, and so may what a convolution computes in another order.
      #expect(result.difference < 0.011, "\(axes ?? [])")
    }
  }

  /// Means that lie in the middle between two integers go to the even one, as those of floats that are exact.
  @Test(arguments: [2, 14, 96, 112]) func meansInTheMiddleBecomeEven(_ length: Int) throws {
    let rows = 60
    let builder = GraphBuilder()
    let one = builder.constant([1 as Float], [])
    let floats = try builder.node("DequantizeLinear", [builder.input("x", [Dim(rows), Dim(length)], .uint8), one])
    let mean = try builder.node("ReduceMean", [floats, builder.constant([1], [1])], [("keepdims", .int(0))])
    let zero = builder.constant([0 as UInt8], [])
    builder.output(
      try builder.node("DequantizeLinear", [try builder.node("QuantizeLinear", [mean, one, zero]), one, zero]))
    // Row r has the mean r + 1/2.
    let bytes = (0..<rows).flatMap { row in
      (0..<length).map { UInt8(row + ($0 < length / 2 ? 1 : 0)) }
    }
    let result = try PassCheck(builder.graph, [Tensor(bytes, shape: [rows, length])])
    #expect(result.ops.contains("apus.QLinearReduceMean"), "\(result.ops)")
    #expect(result.difference == 0)
  }

  @Test func meansWhoseAxesComeWithTheRunStayFloat() throws {
    let builder = GraphBuilder()
    let a = try Coded(builder, builder.input("x", [2, 3, 4]), scale: 0.03, zero: 120)
    let axes = builder.input("axes", [1], .int64)
    let mean = try builder.node("ReduceMean", [a.floats, axes])
    builder.output(try Coded(builder, mean, scale: 0.01, zero: 100).floats)
    let result = try PassCheck(builder.graph, [sampleTensor([2, 3, 4], seed: 1), Tensor([1])])
    #expect(result.ops.contains("ReduceMean"))
    #expect(result.difference == 0)
  }

  @Test func functionsOfBytesBecomeTables() throws {
    let builder = GraphBuilder()
    let x = try Coded(builder, builder.input("x", [.symbol("n"), 9]), scale: 0.05, zero: 90)
    let gate = try Coded(builder, try builder.node("HardSigmoid", [x.floats]), scale: 0.004, zero: 0)
    let product = try builder.node("Mul", [x.floats, gate.floats])
    let shifted = try builder.node("Add", [product, builder.constant([0.25 as Float], [1])])
    builder.output(try Coded(builder, shifted, scale: 0.03, zero: 40).floats)
    let result = try PassCheck(builder.graph, [sampleTensor([7, 9], seed: 3)])
    #expect(result.ops == ["QuantizeLinear", "apus.ByteMap", "DequantizeLinear"])
    #expect(result.difference == 0)
  }

  @Test func whatIsNoFunctionOfOneByteStays() throws {
    /// y is what `make` makes of two tensors of bytes.
    func ops(_ make: (GraphBuilder, Coded, Coded) throws -> ValueID) throws -> [String] {
      let builder = GraphBuilder()
      let a = try Coded(builder, builder.input("a", [3, 3]), scale: 0.05, zero: 90)
      let b = try Coded(builder, builder.input("b", [3, 3]), scale: 0.05, zero: 90)
      builder.output(try Coded(builder, try make(builder, a, b), scale: 0.03, zero: 40).floats)
      let result = try PassCheck(builder.graph, [sampleTensor([3, 3], seed: 3), sampleTensor([3, 3], seed: 4)])
      #expect(result.difference == 0)
      return result.ops
    }
    #expect(!(try ops { try $0.node("Sub", [$1.floats, $2.floats]) }).contains("apus.ByteMap"))
    #expect(!(try ops { b, x, _ in try b.node("Softmax", [x.floats]) }).contains("apus.ByteMap"))
    let rows: [Float] = [1, 2, 3]
    #expect(!(try ops { b, x, _ in try b.node("Mul", [x.floats, b.constant(rows, [3])]) }).contains("apus.ByteMap"))
    #expect((try ops { b, x, _ in try b.node("Mul", [x.floats, x.floats]) }).contains("apus.ByteMap"))
  }

  @Test(arguments: [true, false]) func productsWithABiasBecomeBytes(_ isTransposed: Bool) throws {
    let builder = GraphBuilder()
    let x = try Coded(builder, builder.input("x", [.symbol("n"), 6]), scale: 0x1p-4, zero: 7)
    let scales = builder.constant([0x1p-3, 0x1p-5, 0x1p-4, 0x1p-3, 0x1p-6] as [Float], [5])
    let bytes = (0..<30).map { Int8($0 * 8 - 120) }
    let w = try builder.node(
      "DequantizeLinear", [builder.constant(bytes, isTransposed ? [5, 6] : [6, 5]), scales],
      [("axis", .int(isTransposed ? 0 : 1))])
    let biasScales = builder.constant([0x1p-7, 0x1p-9, 0x1p-8, 0x1p-7, 0x1p-10] as [Float], [5])
    let bias = try builder.node(
      "DequantizeLinear", [builder.constant([5, -300, 2, 0, 99] as [Int32], [5]), biasScales], [("axis", .int(0))])
    let y = try builder.node("Gemm", [x.floats, w, bias], [("transB", .int(isTransposed ? 1 : 0))])
    builder.output(try Coded(builder, y, scale: 0x1p-2, zero: 128).floats)
    let result = try PassCheck(builder.graph, [sampleTensor([3, 6], seed: 5)])
    #expect(result.ops.contains("apus.QLinearGemm") && !result.ops.contains("Gemm"), "\(result.ops)")
    #expect(result.difference == 0)
  }

  @Test func productsOfBytesStayFloat() throws {
    let builder = GraphBuilder()
    let x = try Coded(builder, builder.input("x", [.symbol("n"), 6]), scale: 0x1p-4, zero: 7)
    let bytes = (0..<30).map { Int8($0 * 8 - 120) }
    let w = try builder.node(
      "DequantizeLinear", [builder.constant(bytes, [6, 5]), builder.constant([0x1p-3 as Float], [])])
    let sum = try builder.node("MatMul", [x.floats, w])
    builder.output(
      try builder.node("Relu", [try builder.node("Add", [sum, builder.constant([1, 2, 3, 4, 5] as [Float], [5])])]))
    let result = try PassCheck(builder.graph, [sampleTensor([3, 6], seed: 5)])
    #expect(result.ops == ["QuantizeLinear", "apus.IntegerGemm"])
    #expect(result.difference == 0)
  }

  @Test func dynamicProductsAreOneStep() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 6])
    let outputs = (0..<3).map { _ in builder.addValue() }
    try builder.append(
      Node(
        OperatorID("DynamicQuantizeLinear"), name: "quantize", inputs: [x], outputs: outputs, attributes: Attributes()))
    let w = builder.constant((0..<30).map { Int8($0 * 8 - 120) }, [6, 5])
    let product = try builder.node("MatMulInteger", [outputs[0], w, outputs[2], builder.constant([1 as Int8], [])])
    let scale = try builder.node("Mul", [outputs[1], builder.constant([0.5 as Float], [])])
    let sum = try builder.node("Cast", [product], [("to", .int(1))])
    let scaled = try builder.node("Mul", [sum, scale])
    builder.output(try builder.node("Add", [scaled, builder.constant([1, 2, 3, 4, 5] as [Float], [5])]))
    let result = try PassCheck(builder.graph, [sampleTensor([3, 6], seed: 5)])
    #expect(result.ops == ["DynamicQuantizeLinear", "Mul", "apus.IntegerGemm"])
    #expect(result.difference == 0)
  }
}
