// ConvTranspose: the matrix kernel against the plain form, and against Conv, of which it is the transpose.

import ApusConformance
import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct ConvTransposeTests {
  @Test(arguments: 0..<40) func kernelsAgainstPlain(_ seed: Int) throws {
    var dice = Dice(seed)
    let rank = dice.roll(1...3)
    let kernel = dice.rolls(rank, 1...4)
    let groups = dice.roll(1...3)
    let (channels, outputs) = (dice.roll(1...12), dice.roll(1...20))
    var attributes: [(String, AttributeValue)] = [
      ("strides", .ints(dice.rolls(rank, 1...3))), ("dilations", .ints(dice.rolls(rank, 1...2))),
      ("group", .int(groups)),
    ]
    switch dice.roll(0...4) {
    case 0: attributes.append(("auto_pad", .string("SAME_UPPER")))
    case 1: attributes.append(("output_padding", .ints(dice.rolls(rank, 0...1))))
    case 2: attributes.append(("pads", .ints([Int](repeating: 0, count: 2 * rank - 1) + [1])))
    case 3: attributes.append(("output_shape", .ints(dice.rolls(rank, 4...9))))
    default: break
    }
    let x = sampleTensor(Shape([2, groups * channels] + dice.rolls(rank, 2...6)), seed: seed)
    let w = sampleTensor(Shape([groups * channels, outputs] + kernel), seed: seed + 1)
    let bias = seed % 2 == 0 ? nil : sampleTensor([groups * outputs], seed: seed + 2)
    var run = OperatorRun("ConvTranspose", attributes: attributes)
    if seed % 3 > 0 { run.constantInputs = [1] }
    let (fast, general) = try fastAndGeneral(run, [x, w, bias])
    expectClose(fast[0], general[0], "seed \(seed)")
    for form in ["products", "planes"] {
      let one = try KernelSelection.$current.withValue(.named(form)) { try run(x, w, bias) }
      expectClose(one[0], general[0], "\(form), seed \(seed)")
    }
    run.op.domain = "apus"
    let (last, lastGeneral) = try fastAndGeneral(run, [try channelsLast(x), w, bias])
    expectClose(try channelsFirst(last[0]), general[0], "seed \(seed)")
    expectClose(last[0], lastGeneral[0], "seed \(seed)")
    run.op.domain = ""
    let check = RoundingCheck(run, terms: channels * kernel.reduce(1, *))
    for type in [DataType.float64, .float32, .float16, .bfloat16] {
      #expect(try check.worst([x, w, bias], as: type) <= 1, "\(type), seed \(seed)")
    }
  }

  /// Windows that are no multiple of the stride, some even shorter, with outputs in whole panels: remainders of the
  /// last axis have different taps.
  @Test func uneven() throws {
    for (kernel, stride, outputs) in [(3, 2, 32), (5, 3, 64), (7, 2, 96), (1, 2, 32), (2, 3, 64)] {
      var run = OperatorRun(
        "ConvTranspose", attributes: [("strides", .ints([2, stride])), ("pads", .ints([1, 0, 0, 0]))])
      run.constantInputs = [1]
      let x = sampleTensor([2, 6, 5, 37], seed: kernel)
      let (w, bias) = (sampleTensor([6, outputs, 3, kernel], seed: stride), sampleTensor([outputs], seed: 3))
      let (_, general) = try fastAndGeneral(run, [x, w, bias])
      let products = try KernelSelection.$current.withValue(.named("products")) { try run(x, w, bias) }
      expectClose(products[0], general[0], "\(kernel) \(stride) \(outputs)")
    }
  }

  /// ⟨conv(x), y⟩ = ⟨x, convTranspose(y)⟩.
  @Test func isTheTranspose() throws {
    let attributes: [(String, AttributeValue)] = [("strides", .ints([2, 1])), ("pads", .ints([1, 0, 1, 2]))]
    let (x, w) = (sampleTensor([1, 3, 9, 7], seed: 1), sampleTensor([4, 3, 3, 2], seed: 2))
    let forward = try OperatorRun("Conv", attributes: attributes)(x, w)[0]
    let y = sampleTensor(forward.shape, seed: 3)
    let back = try OperatorRun("ConvTranspose", attributes: attributes)(y, w)[0]
    #expect(back.shape == x.shape)
    func product(_ a: Tensor, _ b: Tensor) -> Float {
      zip(a.elements(as: Float.self) ?? [], b.elements(as: Float.self) ?? []).reduce(0) { $0 + $1.0 * $1.1 }
    }
    #expect(abs(product(forward, y) - product(x, back)) < 2e-5)
  }
}
