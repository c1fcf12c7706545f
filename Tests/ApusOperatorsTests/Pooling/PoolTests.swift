// The pools: both layouts, every type, NaN, empty images, bad indices.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct PoolTests {
  @Test(arguments: 0..<24) func layoutsAndTypes(_ seed: Int) throws {
    var dice = Dice(seed)
    let window = RandomWindow(&dice, rank: [1, 2, 2, 3][dice.roll(0...3)], isPool: true)
    var attributes =
      window.attributes + [("kernel_shape", .ints(window.kernel)), ("ceil_mode", .int(dice.roll(0...1)))]
    let x = sampleTensor(Shape([2, dice.roll(1...20)] + window.extents), seed: seed)
    for name in ["MaxPool", "AveragePool", "LpPool"] {
      if name == "AveragePool" { attributes.append(("count_include_pad", .int(seed % 2))) }
      if name == "LpPool" {
        attributes = attributes.filter { $0.0 != "count_include_pad" } + [("p", .int(1 + seed % 3))]
      }
      var run = OperatorRun(name, attributes: attributes)
      let (fast, general) = try fastAndGeneral(run, [x])
      expectClose(fast[0], general[0], "\(name), seed \(seed)")
      // Powers and roots of LpPool count as a few more terms.
      let check = RoundingCheck(run, terms: window.kernel.reduce(1, *) + (name == "LpPool" ? 16 : 0))
      for type in [DataType.float64, .float32, .float16, .bfloat16] {
        #expect(try check.worst([x], as: type) <= 1, "\(name) \(type), seed \(seed)")
      }
      if name == "LpPool" { continue }
      run.op.domain = "apus"
      let (last, lastGeneral) = try fastAndGeneral(run, [try channelsLast(x)])
      expectClose(try channelsFirst(last[0]), general[0], "channels-last \(name), seed \(seed)")
      expectClose(last[0], lastGeneral[0], "channels-last \(name), seed \(seed)")
    }
  }

  @Test func maximumOfBytes() throws {
    let run = OperatorRun("MaxPool", attributes: [("kernel_shape", .ints([2, 2]))])
    #expect(try run(Tensor([Int8(-3), 4, -128, 127], shape: [1, 1, 2, 2]))[0].elements(as: Int8.self) == [127])
    #expect(try run(Tensor([UInt8(200), 4, 128, 255], shape: [1, 1, 2, 2]))[0].elements(as: UInt8.self) == [255])
  }

  /// NaN is the maximum in every form, and its index is that of the first.
  @Test func notANumber() throws {
    let x = Tensor([Float(1), .nan, 3, .nan], shape: [1, 1, 4])
    let run = OperatorRun("MaxPool", attributes: [("kernel_shape", .ints([4]))])
    let results = try run(x, outputs: 2)
    #expect(results[0].elements(as: Float.self)?[0].isNaN == true && results[1].elements(as: Int.self) == [1])
    // Without indices it goes by rows; a window over pads alone is -infinity.
    for stride in [1, 2] {
      let rows = OperatorRun(
        "MaxPool", attributes: [("kernel_shape", .ints([2])), ("strides", .ints([stride])), ("pads", .ints([2, 0]))])
      let found = try #require(rows(x)[0].elements(as: Float.self))
      let expected: [Float] = stride == 1 ? [-.infinity, 1, .nan, .nan, .nan] : [-.infinity, .nan, .nan]
      #expect(
        zip(found, expected).allSatisfy { $0 == $1 || ($0.isNaN && $1.isNaN) } && found.count == expected.count,
        "\(found)")
    }
    #expect(try OperatorRun("GlobalMaxPool")(x)[0].elements(as: Float.self)?[0].isNaN == true)
    let last = OperatorRun("MaxPool", domain: "apus", attributes: [("kernel_shape", .ints([4]))])
    for result in [try fastAndGeneral(last, [try channelsLast(x)])].flatMap({ [$0.fast[0], $0.general[0]] }) {
      #expect(result.elements(as: Float.self)?[0].isNaN == true)
    }
  }

  @Test func indicesInBothOrders() throws {
    let x = Tensor((0..<24).map { Float(($0 * 7) % 24) }, shape: [1, 2, 3, 4])
    for order in [0, 1] {
      let run = OperatorRun("MaxPool", attributes: [("kernel_shape", .ints([3, 4])), ("storage_order", .int(order))])
      let results = try run(x, outputs: 2)
      let elements = try #require(x.elements(as: Float.self))
      let best = (0..<2).map { plane in (plane * 12..<plane * 12 + 12).max { elements[$0] < elements[$1] } ?? 0 }
      let wanted = order == 0 ? best : best.map { $0 / 12 * 12 + $0 % 12 / 4 + $0 % 4 * 3 }
      #expect(results[1].elements(as: Int.self) == wanted)
    }
  }

  @Test(arguments: ["GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"]) func global(_ name: String) throws {
    for shape in [Shape([2, 3]), [1, 5, 17], [2, 3, 9, 7], [1, 2, 3, 4, 5]] {
      let x = sampleTensor(shape, seed: shape.rank)
      let (fast, general) = try fastAndGeneral(OperatorRun(name), [x])
      expectClose(fast[0], general[0], "\(name) \(shape)")
      let check = RoundingCheck(OperatorRun(name), terms: shape.count(of: 2..<shape.rank) + 16)
      for type in [DataType.float64, .float32, .float16, .bfloat16] {
        #expect(try check.worst([x], as: type) <= 1, "\(name) \(type)")
      }
      if name == "GlobalAveragePool", shape.rank > 2 {
        let last = try OperatorRun(name, domain: "apus")(channelsLast(x))[0]
        expectClose(try channelsFirst(last), general[0], "channels-last \(shape)")
      }
    }
  }

  @Test func oldNorms() throws {
    var run = OperatorRun("GlobalLpPool", attributes: [("p", .float(1))])
    run.version = 1
    #expect(try run(Tensor([Float(-1), 2], shape: [1, 1, 2]))[0].elements(as: Float.self) == [3])
    run.attributes["p"] = .float(1.5)
    // (1^1.5 + 2^1.5)^(1/1.5)
    expectClose(
      try run(Tensor([Float(-1), 2], shape: [1, 1, 2]))[0], Tensor([Float(2.4472)], shape: [1, 1, 1]), "p = 1.5")
    run.attributes["p"] = .float(-1)
    #expect(throws: (any Error).self) { try run(Tensor([Float(-1), 2], shape: [1, 1, 2])) }
  }

  @Test(arguments: [DataType.float32, .float64, .float16, .bfloat16]) func unpooling(_ type: DataType) throws {
    let x = try cast(sampleTensor([1, 2, 6, 4], seed: 4), to: type)
    let attributes: [(String, AttributeValue)] = [("kernel_shape", .ints([2, 2])), ("strides", .ints([2, 2]))]
    let pooled = try OperatorRun("MaxPool", attributes: attributes)(x, outputs: 2)
    let restored = try OperatorRun("MaxUnpool", attributes: attributes)(pooled[0], pooled[1])[0]
    #expect(restored.shape == x.shape)
    let again = try OperatorRun("MaxPool", attributes: attributes)(restored)[0]
    // A maximum below zero loses against the zeros around it.
    let expected = try OperatorRun("Relu")(pooled[0])[0]
    #expect(bytes(again) == bytes(expected))
    for index in [-1, 48, Int.max] {
      let indices = Tensor([Int](repeating: index, count: pooled[0].count), shape: pooled[0].shape)
      #expect(throws: (any Error).self) { try OperatorRun("MaxUnpool", attributes: attributes)(pooled[0], indices) }
    }
  }

  @Test func regions() throws {
    let x = sampleTensor([2, 3, 8, 8], seed: 1)
    let attributes: [(String, AttributeValue)] = [("pooled_shape", .ints([1, 1]))]
    let whole = try OperatorRun("MaxRoiPool", attributes: attributes)(
      x, Tensor([Float(1), 0, 0, 7, 7], shape: [1, 5]))[0]
    let maximum = try OperatorRun("GlobalMaxPool")(x)[0].elements(as: Float.self)
    #expect(whole.elements(as: Float.self).map { Array($0) } == maximum.map { Array($0[3...]) })
    for wild in [Float.nan, .infinity, 1e30, -1e30] {
      let result = try OperatorRun("MaxRoiPool", attributes: attributes)(
        x, Tensor([Float(0), wild, 0, wild, 7], shape: [1, 5]))[0]
      #expect(result.shape == [1, 3, 1, 1])
    }
    for image in [Float(-1), 2, .nan] {
      #expect(throws: (any Error).self) {
        try OperatorRun("MaxRoiPool", attributes: attributes)(x, Tensor([image, 0, 0, 7, 7], shape: [1, 5]))
      }
    }
  }
}
