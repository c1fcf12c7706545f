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
}
