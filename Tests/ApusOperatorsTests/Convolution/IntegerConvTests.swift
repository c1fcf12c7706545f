// ConvInteger and QLinearConv: the integer kernel against the plain form, exactly, for all pairs of types.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct IntegerConvTests {
  private func sample(_ type: DataType, _ shape: [Int], _ dice: inout Dice) -> Tensor {
    let count = Shape(shape).elementCount
    return type == .int8
      ? Tensor(dice.rolls(count, -128...127).map { Int8($0) }, shape: Shape(shape))
      : Tensor(dice.rolls(count, 0...255).map { UInt8($0) }, shape: Shape(shape))
  }

  /// Single channels have a kernel of their own, and no panel each.
  @Test(arguments: ["ConvInteger", "QLinearConv"]) func singleChannelsAreNotPacked(name: String) throws {
    var dice = Dice(0)
    let w = sample(.int8, [32, 1, 5, 5], &dice)
    let builder = GraphBuilder()
    let x = builder.input("x", [1, 32, 9, 9], .int8)
    let (scale, zero) = (builder.addConstant(Tensor(scalar: Float(1))), builder.addConstant(Tensor(scalar: Int8(0))))
    let weights = builder.addConstant(w)
    let inputs = name == "ConvInteger" ? [x, weights] : [x, scale, zero, weights, scale, zero, scale, zero]
    let output = try builder.node(name, inputs, [("group", .int(32))])
    let (graph, forms) = (builder.graph, PackedForms(constants: [w.storage]))
    let node = graph.nodes[0]
    let definition = try OperatorRegistry.standard.require(node.op)
    _ = try definition.prepare(
      PrepareContext(
        node: node, schema: definition.schema, inputs: node.inputs.map { $0.map { graph.fact($0) } },
        outputs: [graph.fact(output)], constants: node.inputs.map { graph.constant($0) },
        packedWeights: PackedWeights(forms: forms)))
    #expect(forms.all.isEmpty)
  }

  @Test(arguments: 0..<72) func kernelsAgainstPlain(_ seed: Int) throws {
    var dice = Dice(seed)
    let window = RandomWindow(&dice, rank: [1, 2, 2, 3][dice.roll(0...3)])
    let (groups, channels, outputs) =
      switch dice.roll(0...2) {
      case 0: (1, dice.roll(1...20), dice.roll(1...20))
      case 1: (dice.roll(2...40), 1, 1)
      default: (dice.roll(2...3), dice.roll(1...12), dice.roll(1...6))
      }
    let all = groups * outputs
    let (xType, wType): (DataType, DataType) = (seed % 2 == 0 ? .int8 : .uint8, seed % 4 < 2 ? .int8 : .uint8)
    let x = sample(xType, [2, groups * channels] + window.extents, &dice)
    let w = sample(wType, [all, channels] + window.kernel, &dice)
    let xZero = sample(xType, [], &dice)
    let wZero: Tensor? = seed % 3 == 0 ? nil : sample(wType, seed % 3 == 1 ? [all] : [], &dice)
    let attributes = window.attributes + [("group", .int(groups))]
    var run = OperatorRun("ConvInteger", attributes: attributes)
    if seed % 5 > 0 { run.constantInputs = [1] }
    let (fast, general) = try fastAndGeneral(run, [x, w, seed % 7 == 0 ? nil : xZero, wZero])
    #expect(fast[0].elements(as: Int32.self) == general[0].elements(as: Int32.self), "seed \(seed)")

    var quantized = OperatorRun("QLinearConv", attributes: attributes)
    // All parameters known, or the weights, or nothing.
    if seed % 5 > 0 { quantized.constantInputs = seed % 5 > 2 ? Set(1...8) : [3] }
    let scales = seed % 3 == 1 ? Tensor(dice.rolls(all, 1...9).map { Float($0) / 100 }) : Tensor(scalar: Float(0.02))
    let bias = seed % 2 == 0 ? nil : Tensor(dice.rolls(all, -999...999).map { Int32($0) })
    let yType: DataType = seed % 8 < 4 ? .int8 : .uint8
    let inputs: [Tensor?] = [
      x, Tensor(scalar: Float(0.01)), xZero, w, scales, wZero ?? sample(wType, [], &dice), Tensor(scalar: Float(0.5)),
      sample(yType, [], &dice), bias,
    ]
    let (bytesFast, bytesGeneral) = try fastAndGeneral(quantized, inputs)
    #expect(bytesFast[0].dataType == yType && bytes(bytesFast[0]) == bytes(bytesGeneral[0]), "seed \(seed)")
    quantized.op.domain = "apus"
    let (last, lastGeneral) = try fastAndGeneral(quantized, [try channelsLast(x)] + inputs.dropFirst())
    #expect(bytes(try channelsFirst(last[0])) == bytes(bytesFast[0]), "channels-last, seed \(seed)")
    #expect(bytes(last[0]) == bytes(lastGeneral[0]), "channels-last, seed \(seed)")
  }
}
