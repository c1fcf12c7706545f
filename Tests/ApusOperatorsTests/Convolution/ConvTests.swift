// Conv and its channels-last form: kernels against the plain form, every type, groups, ranks, layouts, epilogues.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct ConvTests {
  struct Case {
    var run: OperatorRun
    var x: Tensor
    var w: Tensor
    var bias: Tensor?

    init(_ seed: Int) {
      var dice = Dice(seed)
      let window = RandomWindow(&dice, rank: [1, 2, 2, 2, 3][dice.roll(0...4)])
      // One group, few channels, depthwise, groups.
      let (groups, channels, outputs) =
        switch dice.roll(0...3) {
        case 0: (1, dice.roll(5...20), dice.roll(1...40))
        case 1: (1, dice.roll(1...4), dice.roll(1...20))
        case 2: (dice.roll(2...70), 1, 1)
        default: (dice.roll(2...3), dice.roll(1...8), dice.roll(1...8))
        }
      run = OperatorRun("Conv", attributes: window.attributes + [("group", .int(groups))])
      if dice.roll(0...2) > 0 { run.constantInputs = [1, 2] }
      x = sampleTensor(Shape([dice.roll(1...2), groups * channels] + window.extents), seed: seed + 1)
      w = sampleTensor(Shape([groups * outputs, channels] + window.kernel), seed: seed + 2)
      bias = dice.roll(0...1) == 0 ? nil : sampleTensor([groups * outputs], seed: seed + 3)
    }
  }

  @Test(arguments: 0..<60) func kernelsAgainstPlain(_ seed: Int) throws {
    let sample = Case(seed)
    let (fast, general) = try fastAndGeneral(sample.run, [sample.x, sample.w, sample.bias])
    expectClose(fast[0], general[0], "seed \(seed)")
  }

  /// apus.Conv is Conv between two transposes, and the epilogue is what its parts are.
  @Test(arguments: 0..<40) func channelsLastForm(_ seed: Int) throws {
    let sample = Case(seed)
    let plain = try sample.run(sample.x, sample.w, sample.bias)[0]
    var run = sample.run
    run.op = OperatorID("Conv", domain: "apus")
    let x = try channelsLast(sample.x)
    let (fast, general) = try fastAndGeneral(run, [x, sample.w, sample.bias])
    expectClose(try channelsFirst(fast[0]), plain, "seed \(seed)")
    expectClose(fast[0], general[0], "seed \(seed)")
    let residual = sampleTensor(fast[0].shape, seed: seed)
    for name in [
      "relu", "clip", "leaky_relu", "sigmoid", "tanh", "hard_sigmoid", "hard_swish", "silu", "gelu", "gelu_tanh",
    ] {
      run.attributes["activation"] = .string(name)
      run.attributes["activation_alpha"] = .float(0.2)
      run.attributes["activation_beta"] = .float(0.5)
      let (fused, parts) = try fastAndGeneral(run, [x, sample.w, sample.bias, residual])
      expectClose(fused[0], parts[0], "\(name), seed \(seed)")
    }
  }

  /// Minimal filtering in both layouts against the plain form, over many parts, batches, pads and epilogues.
  @Test(arguments: ["winograd2", "winograd4"]) func minimalFiltering(_ form: String) throws {
    for seed in 0..<24 {
      var dice = Dice(seed)
      let (channels, outputs) = (dice.roll(1...40), dice.roll(1...200))
      let extents = [dice.roll(3...(seed % 3 == 0 ? 60 : 9)), dice.roll(3...20)]
      var run = OperatorRun("Conv", attributes: [("pads", .ints(dice.rolls(4, 0...2)))])
      run.constantInputs = [1, 2]
      let x = sampleTensor(Shape([dice.roll(1...3), channels] + extents), seed: seed)
      let w = sampleTensor([outputs, channels, 3, 3], seed: seed + 1)
      let bias = seed % 2 == 0 ? nil : sampleTensor([outputs], seed: seed + 2)
      try KernelSelection.$current.withValue(.named(form)) {
        let (fast, general) = try fastAndGeneral(run, [x, w, bias])
        expectClose(fast[0], general[0], tolerance: 1e-3, "\(form), seed \(seed)")
        var fused = run
        fused.op = OperatorID("Conv", domain: "apus")
        fused.attributes["activation"] = .string(["relu", "silu"][seed % 2])
        let (rows, added) = (try channelsLast(x), try channelsLast(sampleTensor(fast[0].shape, seed: seed)))
        let (result, parts) = try fastAndGeneral(fused, [rows, w, bias, added])
        expectClose(result[0], parts[0], tolerance: 1e-3, "\(form), seed \(seed), channels last")
      }
    }
  }

  /// An image alone has the bits that it has among others.
  @Test(arguments: ["winograd2", "winograd4"]) func imagesAlone(_ form: String) throws {
    var run = OperatorRun("Conv")
    run.constantInputs = [1]
    let (x, w) = (sampleTensor([3, 17, 13, 21], seed: 1), sampleTensor([70, 17, 3, 3], seed: 2))
    try KernelSelection.$current.withValue(.named(form)) {
      let together = try #require(try run(x, w)[0].elements(as: Float.self))
      let values = try #require(x.elements(as: Float.self))
      for image in 0..<3 {
        let alone = Tensor(Array(values[image * 17 * 13 * 21..<(image + 1) * 17 * 13 * 21]), shape: [1, 17, 13, 21])
        let count = together.count / 3
        #expect(try run(alone, w)[0].elements(as: Float.self) == Array(together[image * count..<(image + 1) * count]))
      }
    }
  }

  @Test(arguments: [DataType.float64, .float32, .float16, .bfloat16]) func types(_ type: DataType) throws {
    for seed in 100..<112 {
      let sample = Case(seed)
      let check = RoundingCheck(sample.run, terms: sample.w.shape.count(of: 1..<sample.w.rank))
      let worst = try check.worst([sample.x, sample.w, sample.bias], as: type)
      #expect(worst <= 1, "seed \(seed)")
    }
  }

  /// Planar outputs of which a part makes some rows at a time, of one image and of several.
  @Test func manyRowsOfPlanes() throws {
    for (kernel, outputs, groups) in [(1, 1100, 1), (3, 70, 1), (2, 300, 2)] {
      let attributes: [(String, AttributeValue)] = [
        ("group", .int(groups)), ("strides", .ints(kernel == 1 ? [1, 1] : [2, 1])),
      ]
      var run = OperatorRun("Conv", attributes: attributes)
      let x = sampleTensor([3, 6, 31, 43], seed: kernel)
      let (w, bias) = (
        sampleTensor([outputs, 6 / groups, kernel, kernel], seed: outputs), sampleTensor([outputs], seed: 3)
      )
      for constants in [[1], []] {
        run.constantInputs = Set(constants)
        let (_, general) = try fastAndGeneral(run, [x, w, bias])
        for form in groups == 1 ? ["taps", "rows"] : ["taps"] {
          if form == "rows" && kernel == 1 { continue }
          let one = try KernelSelection.$current.withValue(.named(form)) { try run(x, w, bias) }
          expectClose(one[0], general[0], "\(form), \(kernel) \(outputs)")
        }
      }
    }
  }

  @Test func emptyBatchAndExtents() throws {
    let w = sampleTensor([4, 3, 3, 3], seed: 1)
    #expect(try OperatorRun("Conv")(sampleTensor([0, 3, 8, 8], seed: 0), w)[0].shape == [0, 4, 6, 6])
    #expect(try OperatorRun("Conv")(sampleTensor([1, 3, 2, 8], seed: 0), w)[0].shape == [1, 4, 0, 6])
    // No channels at all: the bias alone.
    let none = try OperatorRun("Conv")(
      sampleTensor([1, 0, 3, 3], seed: 0), sampleTensor([2, 0, 1, 1], seed: 0), Tensor([Float(1), 2]))[0]
    #expect(none.elements(as: Float.self) == [Float](repeating: 1, count: 9) + [Float](repeating: 2, count: 9))
  }

  @Test func mismatches() {
    let x = sampleTensor([1, 3, 8, 8], seed: 0)
    func fails(_ run: OperatorRun, _ w: Tensor, _ bias: Tensor? = nil) {
      #expect(throws: (any Error).self) { try run(x, w, bias) }
    }
    fails(OperatorRun("Conv"), sampleTensor([4, 2, 3, 3], seed: 0))
    fails(OperatorRun("Conv"), sampleTensor([4, 3, 3], seed: 0))
    fails(OperatorRun("Conv"), sampleTensor([4, 3, 11, 11], seed: 0))
    fails(OperatorRun("Conv", attributes: [("group", .int(0))]), sampleTensor([4, 3, 3, 3], seed: 0))
    fails(OperatorRun("Conv", attributes: [("group", .int(3))]), sampleTensor([4, 1, 3, 3], seed: 0))
    fails(OperatorRun("Conv", attributes: [("strides", .ints([0, 1]))]), sampleTensor([4, 3, 3, 3], seed: 0))
    fails(OperatorRun("Conv", attributes: [("pads", .ints([1]))]), sampleTensor([4, 3, 3, 3], seed: 0))
    fails(OperatorRun("Conv", attributes: [("dilations", .ints([Int.max, 1]))]), sampleTensor([4, 3, 3, 3], seed: 0))
    fails(OperatorRun("Conv"), sampleTensor([4, 3, 3, 3], seed: 0), sampleTensor([3], seed: 0))
  }

  @Test func symbolicExtents() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 3, .symbol("h"), 224])
    let y = try builder.node(
      "Conv", [x, builder.weights([8, 3, 3, 3])], [("strides", .ints([2, 2])), ("pads", .ints([1, 1, 1, 1]))])
    #expect(
      builder.graph.fact(y)
        == .tensor(.float32, [.symbol("n"), 8, (.symbol("h") - 1).dividedRoundingDown(by: 2) + 1, 112]))
  }
}
